"""`make backfill`: a range of months through a real scheduler (3.3) or `airflow dags backfill` (2.11)."""

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest

from include.orchestration.compat import IS_AIRFLOW_3
from include.tlc_simulator import city
from include.tlc_simulator.server import TlcSimulator
from include.tlc_simulator.trips import write_month
from tests.integration.project import MONTHS, TIMEOUT_SECONDS, Project

pytestmark = pytest.mark.xdist_group("undisturbed")  # one backfill for the three files

OUTPUTS = {
    *(
        f"manhattan_{kind}_2023-{month}.{ending}"
        for kind, ending in (("stats", "geojson"), ("map", "png"))
        for month in ("01", "02", "03")
    ),
    "manhattan_stats.geojson",
    "manhattan_map.png",
}


def warehouse(project: Project) -> dict[str, Any]:
    """All that a backfill makes, apart from when and by which run: rows and checksums of tables, outputs' contents."""
    with contextlib.closing(duckdb.connect(str(project.data_dir / "warehouse.duckdb"))) as con:
        tables = {
            table: con.execute(f"SELECT count(*), sum(hash(t)::HUGEINT) FROM (FROM {table}) AS t").fetchone()
            for table in ("green_trips", "trips_by_zone", "zones")
        }
        tables["loads"] = con.execute(
            "SELECT fleet, partition_month, etag, bytes, rows_in_file, rows_loaded, quality FROM loads ORDER BY ALL"
        ).fetchall()
    outputs = project.data_dir / "outputs" / "green"
    return tables | {path.name: path.read_bytes() for path in outputs.glob("manhattan*")}


def runs_of_trips(project: Project) -> list[tuple[str, str]]:
    """(logical date, state) of each run in Airflow's metadata database."""
    column = "logical_date" if IS_AIRFLOW_3 else "execution_date"
    with contextlib.closing(sqlite3.connect(project.state / "airflow.db")) as con:
        rows = con.execute(f"SELECT {column}, state FROM dag_run WHERE dag_id = 'taxi_trips_green' ORDER BY 1")
        return [(day[:10], state) for day, state in rows]


def test_a_backfill_processes_exactly_the_months_asked_for_exactly_once(
    undisturbed: tuple[Project, str], site: TlcSimulator
) -> None:
    project, output = undisturbed

    assert runs_of_trips(project) == [(f"2023-0{n}-01", "success") for n in (1, 2, 3)]
    made = warehouse(project)
    assert [(str(load[1]), load[4], load[5]) for load in made["loads"]] == [
        (f"2023-0{n}-01", 1000, 1000) for n in (1, 2, 3)
    ]
    assert made["green_trips"][0] == 3000
    assert {name for name in made if name.startswith("manhattan")} == OUTPUTS
    # A file that is published costs one look and one transfer.
    asked = [request.method for request in site.requests if "2023-02" in request.path]
    assert asked == ["HEAD", "GET"]
    # What the operator saw: progress, then a table.
    assert re.search(r"\[\d+:\d\d\] 0 of 3 runs done; tasks: ", output)
    assert re.search(r"\[\d+:\d\d\] 3 of 3 runs done; tasks: 15 done", output)
    assert re.search(r"2023-02 +success +1,000 +1,000 +\d+\.\d +manhattan_map_2023-02.png", output)


@pytest.mark.skipif(IS_AIRFLOW_3, reason="a backfill command that queues tasks beside the tasks themselves is 2.11's")
def test_tasks_do_not_schedule_what_the_command_queues(undisturbed: tuple[Project, str]) -> None:
    logs = [path.read_text() for path in undisturbed[0].state.glob("logs/dag_id=taxi_trips_green/**/*.log")]
    assert len(logs) == 15
    assert not any("scheduled from follow-on schedule check" in log for log in logs)


def test_the_same_backfill_again_gives_the_same_and_fetches_nothing(
    undisturbed: tuple[Project, str], site: TlcSimulator
) -> None:
    project, _ = undisturbed
    before, asked = warehouse(project), len(site.requests)

    status, output = project.run("backfill", FLEET="green", **MONTHS)

    assert status == 0, output
    assert "Setting up" not in output
    assert runs_of_trips(project) == [(f"2023-0{n}-01", "success") for n in (1, 2, 3)]
    assert warehouse(project) == before
    again = sorted((request.method, request.status) for request in site.requests[asked:])
    assert again == [("GET", 304)] * 3 + [("HEAD", 200)] * 3


def test_a_month_that_fails_says_where_and_why_and_the_others_are_done(set_up: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    city.write_lookup(site / "misc" / "taxi_zone_lookup.csv")
    city.write_shapes(site / "misc" / "taxi_zones.zip")
    write_month(site / "trip-data" / "green_tripdata_2023-01.parquet", "green", "2023-01", rows=1000)
    spoilt = site / "trip-data" / "green_tripdata_2023-02.parquet"
    duckdb.execute(f"COPY (SELECT 1 AS VendorID) TO '{spoilt}' (FORMAT parquet)")

    with TlcSimulator(tmp_path / "tlc", serve_folder=site) as tlc:
        project = Project(tmp_path / "project", tlc.url, set_up)
        status, output = project.run("backfill", FLEET="green", FROM="2023-01", TO="2023-02")

    assert status != 0
    assert "taxi_trips_green.load for 2023-02, try 1: FAILED" in output
    assert "required columns are missing: lpep_pickup_datetime" in output
    assert re.search(r"2023-01 +success +1,000", output)
    assert re.search(r"2023-02 +failed +- +-", output)
    assert "Failed: 2023-02" in output


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"FLEET": "purple"}, "no fleet 'purple' in the catalogue: expected one of yellow, green"),
        ({"FLEET": "green", "FROM": "2023-13"}, "'2023-13' is not a month: expected YYYY-MM"),
        ({"FLEET": "green", "FROM": "2023-03", "TO": "2023-01"}, "its last month is before its first"),
        ({"FLEET": "green", "FROM": "2013-01", "TO": "2023-01"}, "this fleet's first month is 2014-01"),
        ({"FLEET": "green", "FROM": "2999-01"}, "'2999-01' is not a month"),
        ({"FLEET": "green", "FROM": "2098-01"}, "2098-01 has not ended yet"),
    ],
)
def test_a_slip_in_the_command_is_one_sentence(tmp_path: Path, variables: dict[str, str], sentence: str) -> None:
    project = Project(tmp_path, "http://127.0.0.1:9")
    project.state.mkdir(parents=True)
    (project.state / ".ready").touch()  # nothing of Airflow is needed to say it
    status, output = project.run("backfill", **variables)
    assert status != 0
    assert sentence in output
    assert "Traceback" not in output


def wait_until_something_is_loaded(project: Project, process: subprocess.Popen[str]) -> None:
    """Return when the first month has been loaded and the last has not been mapped."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    outputs = project.data_dir / "outputs" / "green"
    while not list(outputs.glob("manhattan_stats_*")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert len(list(outputs.glob("manhattan_map_*"))) < 3


def processes_of(project: Project, what: str) -> list[int]:
    """Process ids of the Airflow processes of this project whose command line has `what` in it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                environment = (entry / "environ").read_bytes()
                if what in command and f"AIRFLOW_HOME={project.state}\0".encode() in environment:
                    found.append(int(entry.name))
    return found


def test_a_backfill_whose_scheduler_was_killed_ends_in_the_same_warehouse(
    undisturbed: tuple[Project, str], site: TlcSimulator, set_up: Path, tmp_path: Path
) -> None:
    killed = Project(tmp_path, site.url, set_up)
    process = killed.start("backfill", FLEET="green", **MONTHS)
    wait_until_something_is_loaded(killed, process)
    for pid in processes_of(killed, "scheduler" if IS_AIRFLOW_3 else "backfill"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode != 0, output

    status, output = killed.run("backfill", FLEET="green", **MONTHS)
    assert status == 0, output
    assert runs_of_trips(killed) == runs_of_trips(undisturbed[0])
    assert warehouse(killed) == warehouse(undisturbed[0])
