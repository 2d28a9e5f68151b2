"""Backfill commands beside each other, and beside `make standalone`: only what was asked for runs, no one is killed."""

import contextlib
import os
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest

from include.orchestration.compat import IS_AIRFLOW_3
from include.tlc_simulator.server import TlcSimulator
from tests.cluster.services import free_port
from tests.integration.project import TIMEOUT_SECONDS, Project
from tests.integration.test_backfill import processes_of, runs_of_trips
from tests.integration.test_scheduled import stop


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """What the command prints, up to the line with these words."""
    said = ""
    assert process.stdout is not None
    while words not in said:
        line = process.stdout.readline()
        assert line, f"ended before {words!r}:\n{said}"
        said += line
    return said


@pytest.fixture
def project(site: TlcSimulator, set_up: Path, tmp_path: Path) -> Project:
    return Project(tmp_path, site.url, set_up, NYC_TAXI_FLEETS="green")


def test_a_second_command_waits_in_line_or_stops_as_it_is_told(project: Project) -> None:
    first = project.start("backfill", FLEET="green", FROM="2023-01", TO="2023-02")
    read_until(first, "0 of 2 runs done")
    second = project.start("backfill", FLEET="green", FROM="2023-02", TO="2023-03")
    said = read_until(second, "Waiting for its end")
    assert "`make backfill FLEET=green FROM=2023-01 TO=2023-02" in said

    status, output = project.run("backfill", FLEET="green", FROM="2023-03", WAIT="no")
    assert (status != 0, "Nothing was started: WAIT=no is set" in output) == (True, True), output

    for process in (first, second):
        output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 0, output
    assert runs_of_trips(project) == [(f"2023-0{n}-01", "success") for n in (1, 2, 3)]


def test_impatient_signals_leave_no_process_and_no_run_behind(project: Project) -> None:
    process = project.start("backfill", FLEET="green", FROM="2023-01", TO="2023-03")
    read_until(process, "running")
    (pid,) = [pid for pid in processes_of(project, "include.local") if pid != process.pid]
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert "Interrupted: runs that had not ended are marked failed" in output
    assert processes_of(project, "airflow") == []
    assert {state for _, state in runs_of_trips(project)} <= {"success", "failed"}


@pytest.mark.skipif(not IS_AIRFLOW_3, reason="on 2.11 a backfill needs no scheduler, and unpauses nothing")
def test_a_paused_dag_beside_standalone_runs_what_was_asked_for_and_is_paused_again(project: Project) -> None:
    airflow = project.start("standalone", PORT=str(free_port()))
    try:
        read_until(airflow, "Ctrl-C stops it")
        status, output = project.run("backfill", FLEET="green", FROM="2023-01", TO="2023-02")
        assert status == 0, output
        assert "The scheduler of `make standalone`" in output
        # Read once more, the DAG has its schedule again: what it would have caught up on, it would have by now.
        project.shell("airflow dags reserialize")
        assert runs_of_trips(project) == [("2023-01-01", "success"), ("2023-02-01", "success")]
        with contextlib.closing(sqlite3.connect(project.state / "airflow.db", timeout=30)) as con:
            paused = "SELECT is_paused, next_dagrun_create_after IS NULL FROM dag WHERE dag_id = 'taxi_trips_green'"
            assert con.execute(paused).fetchall() == [(1, 0)]
    finally:
        stop(airflow)
