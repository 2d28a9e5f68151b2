"""What `make dbt-backfill` shows of dbt's log."""

import json
from typing import Any

import pytest

from include.local import dbt_backfill
from include.local.dbt_backfill import Event


def line(name: str, text: str, node: str = "", total: int = 0) -> str:
    data: dict[str, Any] = {"total": total} if total else {}
    return json.dumps({"info": {"name": name, "msg": text}, "data": data | ({"node_info": {"unique_id": node}})})


MODEL = "model.nyc_taxi.daily_trips"


def test_a_model_that_has_ended_is_told_from_one_that_has_begun_and_from_tests() -> None:
    begun = Event.of(line("LogStartLine", "35 of 83 START sql incremental model", MODEL, 83))
    ended = Event.of(line("LogModelResult", "35 of 83 OK created", MODEL, 83))
    test = Event.of(line("LogTestResult", "36 of 83 PASS not_null", "test.nyc_taxi.not_null.1", 83))
    assert [event.has_ended for event in (begun, ended, test)] == [False, True, True]
    assert [event.is_test for event in (begun, ended, test)] == [False, False, True]
    assert ended == Event(MODEL, True, 83, "35 of 83 OK created")


@pytest.mark.parametrize("text", ["Traceback (most recent call last):\n", "", "3", '{"info": {}}', "[]"])
def test_a_line_that_is_no_event_is_kept_as_it_is(text: str) -> None:
    assert Event.of(text) == Event("", False, 0, text.strip())


def test_without_a_terminal_each_model_is_a_line_and_tests_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    events = [
        Event.of(line("LogModelResult", "1 of 2 OK created daily_trips", MODEL, 2)),
        Event.of(line("JinjaLogInfo", "daily_trips: built 2 months: green 2023-01 to 2023-02", MODEL)),
        Event.of(line("LogTestResult", "2 of 2 PASS not_null", "test.nyc_taxi.not_null.1", 2)),
    ]
    assert list(dbt_backfill._shown(events)) == [event.text for event in events]
    assert capsys.readouterr().out == (
        "1 of 2 OK created daily_trips\ndaily_trips: built 2 months: green 2023-01 to 2023-02\n"
    )


def test_in_a_terminal_a_bar_counts_models_and_tests(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    monkeypatch.setattr(dbt_backfill.console, "is_plain", lambda *_: False)
    terminal = Console(force_terminal=True, width=100)
    monkeypatch.setattr(dbt_backfill.console, "terminal", lambda **_: terminal)
    events = [Event.of(line("LogModelResult", f"{n} of 3 OK", f"model.nyc_taxi.m{n}", 3)) for n in (1, 2, 3)]
    assert len(list(dbt_backfill._shown(events))) == 3
    printed = capsys.readouterr().out
    assert "3/3" in printed
    assert "m3" in printed
