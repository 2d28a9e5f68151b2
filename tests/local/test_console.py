"""What commands print in a terminal, and where there is none."""

import os
import pty
import sys

import pytest

from include.local import console

ROWS = [("2023-01", "success", "1,000"), ("2023-02", "failed", "-")]
HEADERS = ("month", "run", "trips")


@pytest.mark.parametrize(
    ("variables", "plain"),
    [
        ({"TERM": "xterm-256color"}, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True),
        ({"TERM": "xterm", "CI": "true"}, True),
        ({"TERM": "dumb"}, True),
        ({}, True),
    ],
)
def test_a_terminal_is_drawn_in_unless_the_environment_asks_for_plain_lines(monkeypatch, variables, plain):
    for name in ("TERM", "NO_COLOR", "CI"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        assert console.is_plain(terminal) == plain
    os.close(ours)


def test_a_pipe_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(os.pipe()[1], "w") as pipe:
        assert console.is_plain(pipe)


def test_a_plain_table_aligns_as_asked(capsys):
    console.say(console.table(ROWS, HEADERS, colalign=("left", "left", "right")))
    assert capsys.readouterr().out.splitlines() == [
        "month    run        trips",
        "-------  -------  -------",
        "2023-01  success    1,000",
        "2023-02  failed         -",
    ]


def test_a_drawn_table_colours_states_but_no_other_cells(in_terminal):
    drawn = console.table([*ROWS, ("failed", "-", "ok")], HEADERS, colalign=("left", "left", "right"))
    assert "\033[32msuccess" in drawn
    assert "\033[1;31mfailed" in drawn
    assert drawn.splitlines()[-1].startswith("failed ")
    assert drawn.splitlines()[-1].endswith("ok")


def test_a_drawn_table_fits_a_narrow_terminal_and_loses_nothing(in_terminal):
    in_terminal.width = 40
    name = "manhattan_map_2023-01.png, manhattan_stats_2023-01.geojson"
    drawn = console.table([("2023-01", name)], ("month", "outputs"))
    assert max(map(len, drawn.splitlines())) <= 80  # with its styles; no line of text is longer than the terminal
    assert "".join(part.removeprefix("2023-01").strip() for part in drawn.splitlines()[2:]) == name.replace(", ", ",")


def test_what_is_printed_in_a_terminal_is_not_taken_for_markup(in_terminal, capsys):
    console.say("[bold]x[/bold] [2026-11-27] :smile: " + "long " * 60 + "end")
    assert capsys.readouterr().out == "[bold]x[/bold] [2026-11-27] :smile: " + "long " * 60 + "end\n"


@pytest.mark.parametrize("error", [False, True])
def test_a_closed_pipe_does_not_stop_the_work(monkeypatch, error):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as closed:
        monkeypatch.setattr(sys, "stderr" if error else "stdout", closed)
        console.say("nobody reads this", error=error)
        monkeypatch.undo()
        with pytest.raises(BrokenPipeError):
            closed.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)
