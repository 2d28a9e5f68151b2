"""A month of marts through a real scheduler, with each line's own command for backfills."""

import contextlib
import itertools
import re
import sqlite3
from pathlib import Path

import duckdb
import pytest

from include.nyc_taxi import catalogue, settings, warehouse
from include.nyc_taxi.months import Month
from include.nyc_taxi.trips.load import load_month
from include.tlc_simulator.trips import write_month
from tests.integration.project import Project
from tests.with_dbt import needs_dbt

pytestmark = needs_dbt

ROWS = 500


@pytest.fixture
def project(set_up: Path, tmp_path: Path) -> Project:
    """A project whose warehouse has one month of green trips."""
    program = str(settings.dbt_program())
    project = Project(tmp_path, "http://127.0.0.1:9", set_up, NYC_TAXI_FLEETS="green", NYC_TAXI_DBT=program)
    project.data_dir.mkdir()
    file = tmp_path / catalogue.file_name("green", "2023-01")
    write_month(file, "green", "2023-01", rows=ROWS)
    with duckdb.connect(str(project.data_dir / "warehouse.duckdb")) as con:
        warehouse.make_ready(con)
        for zone_id in range(1, catalogue.ZONES + 1):
            con.execute("INSERT INTO zones VALUES (?, 'Zone', 'Queens', 'Boro Zone', NULL)", [zone_id])
        load_month(con, "green", Month("2023-01"), file, "run 1")
    return project


def test_a_backfill_builds_the_marts_of_a_month_and_one_task_at_a_time_opens_the_warehouse(project: Project) -> None:
    status, output = project.run("backfill-marts", FLEET="green", FROM="2023-01")

    assert status == 0, output
    (log,) = project.state.glob("logs/**/task_id=build.daily_trips/attempt=1.log")
    text = log.read_text()
    assert text.count("daily_trips: built 1 month: green 2023-01") == 1, "each line of dbt is logged once"
    assert "\x1b" not in text, "without colours"
    assert "u001b" not in text
    assert re.search(r"2023-01 +success .*trips_at_airports_2023-01\.png", output)
    with contextlib.closing(duckdb.connect(str(project.data_dir / "warehouse.duckdb"))) as con:
        assert con.execute("SELECT sum(num_trips)::BIGINT FROM marts.daily_trips").fetchall() == [(ROWS,)]
    with contextlib.closing(sqlite3.connect(project.state / "airflow.db")) as con:
        spans = con.execute(
            "SELECT start_date, end_date FROM task_instance WHERE pool = 'warehouse' ORDER BY start_date"
        ).fetchall()
    assert len(spans) > 8
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_a_month_that_is_not_loaded_is_refused_before_anything_starts(project: Project) -> None:
    status, output = project.run("backfill-marts", FLEET="green", FROM="2023-02")
    assert status != 0
    assert "green 2023-02 is not loaded, and its marts need it: make backfill" in output
