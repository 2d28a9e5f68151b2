"""The TLC's real months by month and by week, through a real scheduler."""

import contextlib
import csv
import itertools
import sqlite3
from pathlib import Path

import duckdb

from include.nyc_taxi.months import month_range
from include.orchestration.compat import IS_AIRFLOW_3
from include.tlc_simulator.server import TlcSimulator
from tests.integration.project import Project

MONTHS, WEEKS, END = (
    ({"FROM": "2023-01", "TO": "2023-03"}, 12, "2023-03-27")
    if IS_AIRFLOW_3
    # What weeks are made of does not depend on the line, and a task of 2.11 takes seconds.
    else ({"FROM": "2023-01", "TO": "2023-01"}, 4, "2023-01-30")
)
"""Real months, how many weeks lie wholly in them, and the Monday after those."""


def direct(folder: Path) -> list[tuple[str, ...]]:
    """What a query on the TLC's files gives for the weeks."""
    files = [str(folder / f"green_tripdata_{month}.parquet") for month in month_range(MONTHS["FROM"], MONTHS["TO"])]
    with contextlib.closing(duckdb.connect()) as con:
        return con.execute(
            """SELECT date_trunc('week', lpep_pickup_datetime)::DATE::VARCHAR AS period, count(*)::VARCHAR,
                   format('{:.2f}', sum(total_amount)), format('{:.2f}', sum(trip_distance)),
                   sum(passenger_count)::BIGINT::VARCHAR
               FROM read_parquet(?, union_by_name = true)
               WHERE lpep_pickup_datetime >= '2023-01-02' AND lpep_pickup_datetime < ?
               GROUP BY period ORDER BY period""",
            [files, END],
        ).fetchall()


def time_in_the_warehouse(project: Project) -> list[tuple[str, str]]:
    """When each task that opens the warehouse began and ended, in order."""
    with contextlib.closing(sqlite3.connect(project.state / "airflow.db")) as con:
        return con.execute(
            "SELECT start_date, end_date FROM task_instance WHERE pool = 'warehouse' ORDER BY start_date"
        ).fetchall()


def test_the_weeks_of_the_real_months_are_those_of_a_direct_query_on_the_files(
    real_data: Path, set_up: Path, tmp_path: Path
) -> None:
    with TlcSimulator(tmp_path / "tlc", serve_folder=real_data / "tlc") as tlc:
        project = Project(tmp_path, tlc.url, set_up)
        status, output = project.run("backfill-weeks", FLEET="green", **MONTHS)
        assert status != 0
        command = "make backfill" if IS_AIRFLOW_3 else "make backfill AIRFLOW=2"
        assert f"green 2023-01 is not loaded, and the weeks need it: {command} FLEET=green FROM=2023-01" in output

        status, output = project.run("backfill", FLEET="green", **MONTHS)
        assert status == 0, output
        status, output = project.run("backfill-weeks", FLEET="green", **MONTHS)
        assert status == 0, output

    assert f"{WEEKS} of {WEEKS} runs done; tasks: {WEEKS * 4} done" in output
    with (project.data_dir / "outputs" / "green" / "trips_by_week.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [tuple(row.values())[:5] for row in rows] == direct(real_data / "tlc" / "trip-data")
    assert len(rows) == WEEKS
    for row in rows:  # about one trip in a hundred is not clean, and a few of those have thousands of miles
        assert 0.98 < int(row["clean_trips"]) / int(row["num_trips"]) < 1
        assert 2 < float(row["clean_trip_distance"]) / int(row["clean_trips"]) < 4
        assert 0.98 < float(row["clean_total_amount"]) / float(row["total_amount"]) < 1.01

    # Two writers never meet: no task was in the pool while another was.
    stays = time_in_the_warehouse(project)
    assert len(stays) == len(month_range(MONTHS["FROM"], MONTHS["TO"])) * 2 + WEEKS * 3
    assert [pair for pair in itertools.pairwise(stays) if pair[1][0] < pair[0][1]] == []
