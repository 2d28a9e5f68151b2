"""What `make dbt-backfill` shows of dbt's log."""

import json
from pathlib import Path
from typing import Any

import pytest

from include.local import dbt, dbt_backfill
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


def test_a_failure_before_the_first_model_is_not_taken_for_the_failure_of_an_earlier_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho 'IO Error: Could not set lock on file'\nexit 2\n")
    program.chmod(0o755)
    monkeypatch.setenv("NYC_TAXI_DBT", str(program))
    monkeypatch.setattr(dbt, "connect", lambda state: {})
    monkeypatch.setattr(dbt_backfill, "home", lambda: tmp_path)
    results = tmp_path / "dbt" / "target" / "run_results.json"
    results.parent.mkdir(parents=True)
    old = {"status": "fail", "unique_id": "test.nyc_taxi.an_old_one", "message": "Got 1 result"}
    results.write_text(json.dumps({"results": [old]}))
    assert dbt_backfill.run("green", "2023-01", "2023-02") == 2
    said = capsys.readouterr().err
    assert "Could not set lock on file" in said
    assert "an_old_one" not in said


def test_a_range_without_loaded_months_is_said_to_have_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(list(dbt_backfill._shown([Event.of(line("JinjaLogInfo", f"daily_trips{dbt_backfill.NOTHING}", MODEL))])))
    assert capsys.readouterr().out == "daily_trips: no such month is loaded\n"
