"""The DAG warehouse_status, run for real after runs of taxi_trips_green."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from include.tlc_simulator.faults import Status
from include.tlc_simulator.server import TlcSimulator
from tests.dags.running import query, run, states

pytestmark = pytest.mark.usefixtures("metadata_database", "no_pauses")


@pytest.fixture
def report(dag_bag: Any, logged: Callable[[], str]) -> Callable[[], list[str]]:
    """Run the DAG, which must succeed; return the lines of its log, with single spaces."""

    def run_report() -> list[str]:
        logged()
        done = run(dag_bag.dags["warehouse_status"], "2023-06-01")
        assert states(done) == {"report": "success"}
        return [" ".join(line.split()) for line in logged().splitlines()]

    return run_report


def line(lines: list[str], text: str) -> str:
    """Return the first line that contains `text`, or ""."""
    return next((line for line in lines if text in line), "")


def test_it_logs_what_is_loaded_what_is_missing_and_what_failed(
    dag_bag: Any, simulator: TlcSimulator, data_dir: Path, report: Callable[[], list[str]]
) -> None:
    # No other test runs these months. All tests share the metadata database.
    trips = dag_bag.dags["taxi_trips_green"]
    for day in ("2020-05-01", "2020-07-01"):
        assert set(states(run(trips, day)).values()) == {"success"}
    simulator.add_fault("2020-08", Status(500), methods=("HEAD",))
    assert states(run(trips, "2020-08-01"))["wait_for_file"] == "failed"
    simulator.clear_faults()

    lines = report()

    assert "1,000 0 minutes" in line(lines, "green 2020-05 fresh 2020-07-20")
    assert "- - - - -" in line(lines, "green 2020-06 MISSING 2020-08-20")
    assert "FAILED (wait_for_file)" in line(lines, "green 2020-08")
    assert "not published" in line(lines, "green 2023-04 … ")
    assert line(lines, "yellow: nothing is loaded yet.")
    assert line(lines, "2020-06 is missing between 2020-05 and 2020-07; `make backfill ")
    assert query(data_dir, "SELECT count(*) FROM loads") == [(2,)]


def test_it_succeeds_without_a_warehouse_and_makes_none(
    simulator: TlcSimulator, data_dir: Path, report: Callable[[], list[str]]
) -> None:
    simulator.add_fault("", Status(503))
    lines = report()
    assert line(lines, f"There is no warehouse yet at {data_dir}/warehouse.duckdb.")
    assert line(lines, "could not be asked (status 503)")
    assert not (data_dir / "warehouse.duckdb").exists()


def test_it_asks_the_site_only_after_the_warehouse_is_closed(
    simulator: TlcSimulator, data_dir: Path, report: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from include.nyc_taxi import warehouse
    from include.nyc_taxi.source import site

    data_dir.mkdir()
    with contextlib.closing(duckdb.connect(str(data_dir / "warehouse.duckdb"))) as con:
        warehouse.ensure_tables(con)
    ask, opened = site.ask_site, []

    def ask_when_it_can_be_opened(*arguments: Any) -> Any:
        # DuckDB would refuse this if the file were still open in this process with other settings.
        with duckdb.connect(str(data_dir / "warehouse.duckdb"), config={"threads": 1}):
            opened.append(True)
        return ask(*arguments)

    monkeypatch.setattr(site, "ask_site", ask_when_it_can_be_opened)
    report()
    assert opened == [True]


def test_a_setting_that_is_wrong_fails_it_and_says_which(
    dag_bag: Any, simulator: TlcSimulator, logged: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NYC_TAXI_FLEETS", "purple")
    assert states(run(dag_bag.dags["warehouse_status"], "2023-06-02")) == {"report": "failed"}
    assert "no fleet 'purple' in the catalogue" in logged()
