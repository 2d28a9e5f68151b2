"""The weekly DAG run for real, in this process, on months that were loaded in different ways."""

import contextlib
import csv
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from include.local.summary import of_weeks
from include.orchestration.compat import IS_AIRFLOW_3
from include.tlc_simulator.faults import ErrorPage
from include.tlc_simulator.server import TlcSimulator
from tests.dags.running import query, run, states

pytestmark = pytest.mark.usefixtures("metadata_database", "no_pauses")

MONTHS, WEEKS = "taxi_trips_green", "trips_by_week_green"


@pytest.fixture
def weekly_csv(data_dir: Path) -> Any:
    """The current rows of the file."""

    def read() -> list[dict[str, str]]:
        with (data_dir / "outputs" / "green" / "trips_by_week.csv").open() as file:
            return list(csv.DictReader(file))

    return read


def direct(data_dir: Path, monday: date) -> tuple[int, float]:
    """Count trips and money of a week directly in the files."""
    files = str(data_dir / "raw" / "green_tripdata_*.parquet")
    with contextlib.closing(duckdb.connect()) as con:
        found = con.execute(
            "SELECT count(*), round(sum(total_amount), 2) FROM read_parquet(?, union_by_name = true) "
            "WHERE lpep_pickup_datetime >= ? AND lpep_pickup_datetime < ?",
            [files, monday, monday + timedelta(days=7)],
        ).fetchone()
    assert found is not None
    return found


def test_a_fleet_whose_trips_have_no_amounts_has_weeks_too(
    dag_bag: Any, simulator: TlcSimulator, data_dir: Path
) -> None:
    run(dag_bag.dags["taxi_trips_fhv"], "2023-01-01")

    done = run(dag_bag.dags["trips_by_week_fhv"], "2023-01-09")

    assert set(states(done).values()) == {"success"}
    _, line = (data_dir / "outputs" / "fhv" / "trips_by_week.csv").read_text().splitlines()
    assert re.fullmatch(r"2023-01-09,\d+,,,,\d*,,", line)
    assert query(data_dir, "SELECT total_amount FROM trips_by_week") == [(None,)]
    (trips,) = query(data_dir, "SELECT num_trips FROM trips_by_week")[0]
    assert re.search(rf"2023-01-09 +\S.* {trips:,} +- ", of_weeks("fhv", ["2023-01-09"], {}))


@pytest.mark.slow
def test_a_week_needs_both_of_its_months_however_they_were_run(
    dag_bag: Any, simulator: TlcSimulator, data_dir: Path, weekly_csv: Any
) -> None:
    # January has the date that the schedule and a backfill use, February is run by hand with a date in another month.
    assert str(run(dag_bag.dags[MONTHS], "2023-01-01").state) == "success"
    assert str(run(dag_bag.dags[MONTHS], "2022-05-17", month="2023-02").state) == "success"

    done = run(dag_bag.dags[WEEKS], "2023-01-30")

    assert set(states(done).values()) == {"success"}
    monday = date(2023, 1, 30)
    trips, money = direct(data_dir, monday)
    assert trips > 50
    assert query(data_dir, "SELECT fleet, period, num_trips, round(total_amount, 2) FROM trips_by_week") == [
        ("green", monday, trips, money)
    ]
    (row,) = weekly_csv()
    assert (row["period"], int(row["num_trips"]), float(row["total_amount"])) == ("2023-01-30", trips, money)
    assert (data_dir / "outputs" / "green" / "trips_by_week.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_date_means_the_week_it_lies_in_and_the_forms_day_comes_first(
    dag_bag: Any, simulator: TlcSimulator, data_dir: Path, weekly_csv: Any
) -> None:
    run(dag_bag.dags[MONTHS], "2023-01-01")
    assert str(run(dag_bag.dags[WEEKS], "2023-01-15").state) == "success"
    assert str(run(dag_bag.dags[WEEKS], "2023-03-01", week="2023-01-18").state) == "success"
    assert [row["period"] for row in weekly_csv()] == ["2023-01-09", "2023-01-16"]


@pytest.mark.slow
@pytest.mark.skipif(not IS_AIRFLOW_3, reason="on 2.11 every run has a logical date")
def test_months_and_weeks_can_be_run_without_a_date(
    dag_bag: Any, simulator: TlcSimulator, data_dir: Path, weekly_csv: Any
) -> None:
    assert str(run(dag_bag.dags[MONTHS], None, month="2023-02").state) == "success"
    assert str(run(dag_bag.dags[WEEKS], None, week="2023-02-08").state) == "success"
    assert [row["period"] for row in weekly_csv()] == ["2023-02-06"]


@pytest.mark.slow
def test_a_week_fails_when_a_month_of_it_has_failed_and_runs_when_that_is_mended(
    dag_bag: Any, simulator: TlcSimulator, data_dir: Path, weekly_csv: Any, logged: Any
) -> None:
    run(dag_bag.dags[MONTHS], "2023-02-01")
    simulator.add_fault("/trip-data/", ErrorPage(), methods=("GET",))
    failed = run(dag_bag.dags[MONTHS], "2023-03-01", month="2023-01")
    assert states(failed)["download"] == "failed"

    done = run(dag_bag.dags[WEEKS], "2023-02-02")

    assert states(done) == {
        "wait_for_first_month": "failed",
        "wait_for_last_month": "success",
        "aggregate": "upstream_failed",
        "draw": "upstream_failed",
    }
    sentence = f"taxi_trips_green has failed for 2023-01, in download (run {failed.run_id})"
    assert sentence in logged()

    simulator.clear_faults()
    assert str(run(dag_bag.dags[MONTHS], "2023-01-05").state) == "success"
    assert str(run(dag_bag.dags[WEEKS], "2023-02-03").state) == "success"
    assert [row["period"] for row in weekly_csv()] == ["2023-01-30"]


@pytest.mark.slow
def test_a_month_that_is_loaded_again_mends_the_weeks_and_their_files(
    dag_bag: Any, simulator: TlcSimulator, data_dir: Path, weekly_csv: Any
) -> None:
    run(dag_bag.dags[MONTHS], "2023-01-01")
    run(dag_bag.dags[WEEKS], "2023-01-09")
    chart = data_dir / "outputs" / "green" / "trips_by_week.png"
    before, drawn = weekly_csv(), chart.read_bytes()

    simulator.republish("green", "2023-01")
    run(dag_bag.dags[MONTHS], "2023-01-02")

    after = weekly_csv()
    assert after != before
    assert int(after[0]["num_trips"]) == direct(data_dir, date(2023, 1, 9))[0]
    assert query(data_dir, "SELECT num_trips FROM trips_by_week") == [(int(after[0]["num_trips"]),)]
    assert chart.read_bytes() != drawn


def test_catchup_begins_with_the_first_week_whose_months_catchup_loads(dag_bag: Any) -> None:
    assert dag_bag.dags[WEEKS].timetable.first == date(2023, 1, 2)  # 2023-01-01 is in a week of 2022-12
