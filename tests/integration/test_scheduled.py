"""A scheduler that runs as it does for a user: the schedule, and triggered runs."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import duckdb
import psutil
import requests

from include.nyc_taxi.months import month_range
from include.orchestration.compat import IS_AIRFLOW_3
from include.tlc_simulator.server import TlcSimulator
from tests.cluster.services import free_port
from tests.integration.project import TIMEOUT_SECONDS, Project


def loads(project: Project) -> list[tuple[Any, ...]]:
    """(month, kind of run) of what is loaded; nothing while a task has the warehouse open."""
    try:
        with contextlib.closing(duckdb.connect(str(project.data_dir / "warehouse.duckdb"), read_only=True)) as con:
            return con.execute(
                "SELECT strftime(partition_month, '%Y-%m'), split_part(run_id, '__', 1) FROM loads ORDER BY ALL"
            ).fetchall()
    except duckdb.Error:
        return []


def stop(process: subprocess.Popen[str]) -> None:
    process.terminate()  # make hands it on; the whole group at once would get it twice, and break off its own ending
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=60)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def users_of(folder: Path) -> list[str]:
    """Processes, other than this one, that have a file below the folder open."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            opened = any(Path(file.path).is_relative_to(folder) for file in process.open_files())
            if opened and process.pid != os.getpid():
                found.append(" ".join(process.cmdline()))
    return found


def months_ago(count: int) -> str:
    today = datetime.now(UTC)
    return month_range("2009-01", f"{today:%Y-%m}")[-1 - count]


def tasks(project: Project) -> dict[tuple[str, str], tuple[str, str, str]]:
    """State, try and start of each task of the monthly runs, by kind of run and task."""
    with contextlib.closing(sqlite3.connect(project.state / "airflow.db", timeout=30)) as con:
        rows = con.execute(
            "SELECT run_id, task_id, state, try_number, start_date FROM task_instance WHERE dag_id = 'taxi_trips_green'"
        ).fetchall()
    return {(run_id.split("__")[0], task): (state, tries, start) for run_id, task, state, tries, start in rows}


def names(project: Project) -> dict[str, list[tuple[str | None, str]]]:
    """Note and name of each monthly run, by kind of run."""
    with contextlib.closing(sqlite3.connect(project.state / "airflow.db", timeout=30)) as con:
        rows = con.execute(
            "SELECT content, run_id FROM dag_run LEFT JOIN dag_run_note ON dag_run_id = id "
            "WHERE dag_id = 'taxi_trips_green'"
        ).fetchall()
    found: dict[str, list[tuple[str | None, str]]] = {}
    for note, run_id in rows:
        found.setdefault(run_id.split("__")[0], []).append((note, run_id))
    return found


def wait_until(reached: Callable[[], bool], airflow: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not reached():
        assert airflow.poll() is None, airflow.communicate()[0]
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(1)


def is_known(project: Project) -> bool:
    """Whether Airflow has read the DAG. `airflow dags reserialize` beside a process that just does so can fail."""
    with contextlib.closing(sqlite3.connect(project.state / "airflow.db", timeout=30)) as con:
        return bool(con.execute("SELECT 1 FROM serialized_dag WHERE dag_id = 'taxi_trips_green'").fetchall())


def has_ended(project: Project, before: tuple[str, str, str] | None = None) -> bool:
    """Whether the run by hand has ended, with another `map` than before.

    The run's own state counts: Airflow loses a clear that comes between a run's last task and its end, as the
    scheduler then writes "success" over it.
    """
    with contextlib.closing(sqlite3.connect(project.state / "airflow.db", timeout=30)) as con:
        states = con.execute("SELECT state FROM dag_run WHERE run_id LIKE 'manual__%'").fetchall()
    state, *run = tasks(project)["manual", "map"]
    return states == [("success",)] and state == "success" and (before is None or run != list(before[1:]))


# The commands of docs/how-to/rerun.md: one task of one month, and what depends on it.


def clear_aggregate(project: Project, month: str, port: str) -> None:
    project.shell(f"airflow tasks clear taxi_trips_green -t aggregate -d -s {month}-01 -e {month}-28 -y")


def clear_load(project: Project, month: str, port: str) -> None:
    """On 3.x the command knows no exact name, and `load` is in `download` too: what the UI's button asks for."""
    if not IS_AIRFLOW_3:
        project.shell(f"airflow tasks clear taxi_trips_green -t '^load$' -d -s {month}-01 -e {month}-28 -y")
        return
    password = json.loads((project.state / "simple_auth_manager_passwords.json.generated").read_text())["admin"]
    site = f"http://127.0.0.1:{port}"
    login = {"username": "admin", "password": password}
    token = requests.post(f"{site}/auth/token", json=login, timeout=30).json()["access_token"]
    with contextlib.closing(sqlite3.connect(project.state / "airflow.db", timeout=30)) as con:
        ((run_id,),) = con.execute("SELECT run_id FROM dag_run WHERE run_id LIKE 'manual__%'").fetchall()
    answer = requests.post(
        f"{site}/api/v2/dags/taxi_trips_green/clearTaskInstances",
        headers={"Authorization": f"Bearer {token}"},
        json={
            "dag_run_id": run_id,
            "task_ids": ["load"],
            "include_downstream": True,
            "only_failed": False,
            "dry_run": False,
        },
        timeout=30,
    )
    assert answer.ok, answer.text


def test_schedule_trigger_and_clear_do_what_their_date_says_and_no_more(set_up: Path, tmp_path: Path) -> None:
    triggered, scheduled, unpublished = months_ago(3), months_ago(2), months_ago(1)
    with TlcSimulator(tmp_path / "tlc", rows=1000, first_month=triggered, last_month=scheduled) as tlc:
        project = Project(tmp_path, tlc.url, set_up, NYC_TAXI_FIRST_MONTH=scheduled, NYC_TAXI_FLEETS="green")
        date = "--logical-date" if IS_AIRFLOW_3 else "--exec-date"
        port = str(free_port())
        airflow = project.start("standalone", PORT=port)
        try:
            wait_until(partial(is_known, project), airflow)
            project.shell(
                f"airflow dags trigger taxi_trips_green {date} {triggered}-17\nairflow dags unpause taxi_trips_green"
            )
            # A date means the month it lies in, for the schedule and for a trigger.
            months = [(triggered, "manual"), (scheduled, "scheduled")]
            wait_until(
                lambda: loads(project) == months and any(unpublished in asked.path for asked in tlc.requests), airflow
            )
            # Where one looks first, a run has its own month: in its name, or in the note of one by hand.
            named = names(project)
            assert named["manual"] == [(f"Month {triggered}", ANY)]
            assert {run_id[: len("scheduled__2023-01")] for _, run_id in named["scheduled"]} == {
                f"scheduled__{month}" for month in (scheduled, unpublished)
            }
            assert {note for note, _ in named["scheduled"]} == {None}
            # The last month is not published: one look, no transfer, and the next look is hours away.
            waiting = [(asked.method, asked.status) for asked in tlc.requests if unpublished in asked.path]
            assert waiting == [("HEAD", 403)]

            wait_until(partial(has_ended, project), airflow)
            asked = len(tlc.requests)
            for clear, ran_again in (
                (clear_aggregate, {"aggregate", "map"}),
                (clear_load, {"load", "aggregate", "map"}),
            ):
                before = tasks(project)
                clear(project, triggered, port)
                wait_until(partial(has_ended, project, before["manual", "map"]), airflow)
                after = tasks(project)
                changed = {key for key in before if after[key] != before[key] and before[key][0] == "success"}
                assert changed == {("manual", task) for task in ran_again}
            assert len(tlc.requests) == asked  # nothing was fetched for it
        finally:
            stop(airflow)
    assert users_of(project.state) == []
    assert loads(project) == months
