"""Find the process of a task of a backfill, and kill it. For both Airflow lines."""

import contextlib
import os
import select
import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from include.local.runs import FINISHED
from include.orchestration.compat import IS_AIRFLOW_3

POLL_SECONDS = 0.02
GONE = frozenset({"success", "skipped", "failed", "up_for_retry", "upstream_failed"})
"""States in which a task that we are waiting for is not going to start by itself now."""


@dataclass(frozen=True)
class Attempt:
    """A task instance as Airflow's metadata database has it at the moment."""

    run_id: str
    state: str | None
    number: int
    pid: int | None
    seconds: float | None


@dataclass(frozen=True)
class Kill:
    """A task process that died by our signal.

    Attributes:
        seconds: how long it had run.
        where: what it had open.
        attempt: which one it was.
    """

    task_id: str
    month: str
    seconds: float
    where: str
    attempt: Attempt


class Metadata:
    """Read-only look into the SQLite metadata database of an Airflow home, for one DAG."""

    def __init__(self, state: Path, dag_id: str) -> None:
        self._state, self._dag_id = state, dag_id

    def query(self, sql: str, **values: str) -> list[tuple]:
        """Run a query in which `:dag_id` is the DAG's."""
        with contextlib.closing(sqlite3.connect(self._state / "airflow.db", timeout=60)) as con:
            return con.execute(sql, {"dag_id": self._dag_id, **values}).fetchall()

    def runs(self) -> dict[str, tuple[str, str]]:
        """The DAG's runs by month: id and state."""
        date = "logical_date" if IS_AIRFLOW_3 else "execution_date"
        found = self.query(
            f"SELECT substr({date}, 1, 7), run_id, state FROM dag_run WHERE dag_id = :dag_id ORDER BY {date}"
        )
        return {month: (run_id, state) for month, run_id, state in found}

    def attempt(self, task_id: str, month: str) -> Attempt | None:
        """The task of the month's run, or None where there is no such run yet."""
        if month not in (runs := self.runs()):
            return None
        found = self.query(
            "SELECT run_id, state, try_number, pid, (julianday(end_date) - julianday(start_date)) * 86400 "
            "FROM task_instance WHERE dag_id = :dag_id AND run_id = :run_id AND task_id = :task_id",
            run_id=runs[month][0],
            task_id=task_id,
        )
        return Attempt(*found[0]) if found else None

    def failed(self) -> list[tuple[str, str]]:
        """(run id, task id) of what has failed, for good or until its retry."""
        return self.query(
            "SELECT run_id, task_id FROM task_instance WHERE dag_id = :dag_id AND state IN ('failed', 'up_for_retry')"
        )

    def log(self, task_id: str, attempt: Attempt) -> Path:
        """Where Airflow writes the attempt's log."""
        folder = self._state / "logs" / f"dag_id={self._dag_id}" / f"run_id={attempt.run_id}" / f"task_id={task_id}"
        return folder / f"attempt={attempt.number}.log"


def wait_until_at_work(pid: int, month: str, data_dir: Path) -> None:
    """Return when the process has the warehouse or a file of its own open, or the month's next output is in the making;
    or when it has ended."""
    while not _open_files(pid, data_dir) and not next(data_dir.rglob(f".*{month}*.part*"), None):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.002)


def kill_task(
    metadata: Metadata,
    task_id: str,
    month: str,
    data_dir: Path,
    wait: Callable[[int], None],
    *,
    until: float,
) -> Kill | None:
    """Kill the process that runs the task, after `wait`, which gets its pid.

    Returns:
        What was killed; None where the process had ended, or had reported its end, before the signal came.

    Raises:
        TimeoutError: it is `until` (time.monotonic()) and the task has not started, or its end is not on record.
    """
    while True:
        attempt = metadata.attempt(task_id, month)
        if attempt and attempt.state == "running" and attempt.pid:
            break
        if attempt and attempt.state in GONE:
            return None
        _sleep(until, f"{task_id} of {month} did not start")
    started = time.monotonic()
    try:
        process = os.pidfd_open(attempt.pid)
    except ProcessLookupError:
        return None
    try:
        wait(attempt.pid)
        seconds = time.monotonic() - started
        try:
            # While it stands still, see where it is.
            signal.pidfd_send_signal(process, signal.SIGSTOP)
            where = ", ".join(_open_files(attempt.pid, data_dir)) or "no file open"
            signal.pidfd_send_signal(process, signal.SIGKILL)
        except ProcessLookupError:
            return None
        select.select([process], [], [], 60)
    finally:
        os.close(process)
    while (now := metadata.attempt(task_id, month)) and now.state == "running":
        _sleep(until, f"the end of {task_id} of {month} was not recorded")
    # It counts when Airflow has it that the attempt failed, and that it did so by the signal.
    log = metadata.log(task_id, attempt)
    by_signal = log.exists() and any(words in log.read_text() for words in ("SIGKILL", "return code -9"))
    if not now or now.state in ("success", "skipped") or not by_signal:
        return None
    return Kill(task_id, month, seconds, where, attempt)


def has_ended(metadata: Metadata, months: list[str]) -> bool:
    """Whether the runs of all these months have, well or not."""
    runs = metadata.runs()
    return all(month in runs and runs[month][1] in FINISHED for month in months)


def _open_files(pid: int, data_dir: Path) -> list[str]:
    """Names of the files below the data directory that the process has open."""
    names = set()
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = link.readlink()
                if target.is_relative_to(data_dir):
                    names.add(target.name)
    return sorted(names)


def _sleep(until: float, otherwise: str) -> None:
    if time.monotonic() > until:
        raise TimeoutError(otherwise)
    time.sleep(POLL_SECONDS)
