"""A scheduler that runs as it does for a user: the schedule, and triggered runs."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from include.nyc_taxi.months import month_range
from include.orchestration.airflow_line import IS_AIRFLOW_3
from include.tlc_simulator.server import TlcSimulator
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


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def stop(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=60)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def months_ago(count: int) -> str:
    today = datetime.now(UTC)
    return month_range("2009-01", f"{today:%Y-%m}")[-1 - count]


def test_the_schedule_and_a_trigger_process_the_month_their_date_lies_in(tmp_path: Path) -> None:
    triggered, scheduled, unpublished = months_ago(3), months_ago(2), months_ago(1)
    with TlcSimulator(tmp_path / "tlc", rows=1000, first_month=triggered, last_month=scheduled) as tlc:
        project = Project(tmp_path, tlc.url, NYC_TAXI_FIRST_MONTH=scheduled, NYC_TAXI_FLEETS="green")
        status, output = project.run("setup")
        assert status == 0, output
        date = "--logical-date" if IS_AIRFLOW_3 else "--exec-date"
        airflow = project.start("standalone", PORT=free_port())
        try:
            project.shell(
                f"airflow dags reserialize\n"
                f"airflow dags trigger taxi_trips_green {date} {triggered}-17\n"
                f"airflow dags unpause taxi_trips_green"
            )
            deadline = time.monotonic() + TIMEOUT_SECONDS
            while len(loads(project)) < 2 or not any(unpublished in asked.path for asked in tlc.requests):
                assert airflow.poll() is None, airflow.communicate()[0]
                assert time.monotonic() < deadline, loads(project)
                time.sleep(1)
        finally:
            stop(airflow)

        assert loads(project) == [(triggered, "manual"), (scheduled, "scheduled")]
        # The last month is not published: one look, no transfer, and the next look is hours away.
        waiting = [(asked.method, asked.status) for asked in tlc.requests if unpublished in asked.path]
        assert waiting == [("HEAD", 403)]
