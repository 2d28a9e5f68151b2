"""What an error of dbt says: the model or test, its file, and dbt's message with the line of the SQL."""

import json
from pathlib import Path
from typing import Any

import pytest

from include.orchestration.dbt_failure import DbtError, DbtModelError, explained

MODEL = "model.nyc_taxi.daily_trips"
TEST = "test.nyc_taxi.not_null_daily_trips_fleet.ab12"
BINDER = (
    "Runtime Error in model daily_trips (models/marts/daily_trips.sql)\n"
    '  Binder Error: Referenced column "picked_up" not found in FROM clause!\n'
    '  Candidate bindings: "pickup_zone_id"\n'
    "  \n"
    "  LINE 8:     cast(picked_up as date) as day,\n"
    "                   ^"
)
NODES = {
    MODEL: {"name": "daily_trips", "original_file_path": "models/marts/daily_trips.sql"},
    TEST: {
        "name": "not_null_daily_trips_fleet",
        "original_file_path": "models/marts/marts.yml",
        "attached_node": MODEL,
    },
}


@pytest.fixture
def left_by_dbt(tmp_path: Path) -> Any:
    """Write the files that dbt leaves: results by unique ID, each a status and a message."""

    def write(**results: tuple[str, str]) -> Path:
        found = [{"unique_id": name, "status": status, "message": text} for name, (status, text) in results.items()]
        (tmp_path / "run_results.json").write_text(json.dumps({"results": found}))
        (tmp_path / "manifest.json").write_text(json.dumps({"nodes": NODES}))
        return tmp_path

    return write


def test_a_wrong_model_is_named_with_its_file_and_the_line_of_its_sql(left_by_dbt: Any) -> None:
    error = explained(1, left_by_dbt(**{MODEL: ("error", BINDER), TEST: ("skipped", "")}), [])
    assert str(error) == (
        "dbt has failed (exit status 1): model daily_trips (include/dbt/models/marts/daily_trips.sql): "
        'Binder Error: Referenced column "picked_up" not found in FROM clause! Candidate bindings: "pickup_zone_id" '
        "LINE 8: cast(picked_up as date) as day, ^"
    )
    assert isinstance(error, DbtModelError), "no retry can help"


def test_a_test_that_has_found_rows_is_named_with_its_model(left_by_dbt: Any) -> None:
    target = left_by_dbt(**{MODEL: ("success", "OK"), TEST: ("fail", "Got 3 results, configured to fail if != 0")})
    error = explained(1, target, [])
    assert (
        "test not_null_daily_trips_fleet of daily_trips (include/dbt/models/marts/marts.yml): Got 3 results, configured"
    ) in str(error)
    assert isinstance(error, DbtModelError)


def test_of_many_failures_three_are_described_and_the_others_named(left_by_dbt: Any) -> None:
    found = {f"test.nyc_taxi.test_{number}.x": ("fail", f"Got {number} results") for number in range(1, 6)}
    text = str(explained(1, left_by_dbt(**found), []))
    assert "test test_3: Got 3 results; and 2 more: test.nyc_taxi.test_4.x, test.nyc_taxi.test_5.x" in text


@pytest.mark.parametrize(
    "message",
    ['IO Error: Could not set lock on file "w.duckdb"', "Unable to connect to Postgres", "Out of Memory Error: 1 GB"],
)
def test_what_may_be_over_in_a_minute_is_tried_again(left_by_dbt: Any, message: str) -> None:
    error = explained(1, left_by_dbt(**{MODEL: ("error", f"Runtime Error\n  {message}")}), [])
    assert isinstance(error, DbtError)
    assert not error.permanent
    assert message in str(error)


def test_before_the_first_model_the_error_is_what_dbt_printed_last(tmp_path: Path) -> None:
    output = [
        "07:01:02  Running with dbt=1.11.16",
        "07:01:03  Encountered an error:",
        "Compilation Error",
        "  MARTS_FROM: expected a month such as 2023-01, found soon",
        "",
    ]
    error = explained(2, tmp_path, output)
    assert str(error) == (
        "dbt has failed (exit status 2): Encountered an error: Compilation Error "
        "MARTS_FROM: expected a month such as 2023-01, found soon"
    )
    assert error.permanent


def test_a_dbt_that_was_killed_leaves_half_a_file_and_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "run_results.json").write_text('{"results": [{"uni')
    error = explained(-9, tmp_path, [])
    assert str(error) == "dbt has failed (exit status -9): it printed nothing"
    assert not error.permanent


def test_a_password_in_dbts_message_is_not_repeated(left_by_dbt: Any) -> None:
    text = "IO Error: cannot attach ducklake:postgres:dbname=lake password=sesame host=db"
    assert "sesame" not in str(explained(1, left_by_dbt(**{MODEL: ("error", text)}), []))
