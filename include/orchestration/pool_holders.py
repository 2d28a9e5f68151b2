"""The tasks that hold a slot of the pools `warehouse` and `dbt`, including abandoned ones, which would hold it forever.

If `airflow dags test` is killed while it runs a task of the pool, the task keeps its state. No scheduler cleans it up,
because no scheduler has queued it. This module reads the metadata database, so it is for commands and not for tasks.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psutil
from airflow.utils.state import DagRunState
from sqlalchemy import select

from include.orchestration.compat import DagRun, TaskInstance, create_session
from include.orchestration.defaults import DBT_POOL, WAREHOUSE_POOL

POOLS = (WAREHOUSE_POOL, DBT_POOL)
HOLDING = ("queued", "running", "restarting")
"""The states in which a task occupies a slot."""


@dataclass(frozen=True)
class Holder:
    """A task that holds a slot.

    Attributes:
        state: queued, running or restarting.
        since: when the task entered that state (UTC), if known.
        is_abandoned: whether the task is abandoned: no process runs it or will run it.
        pool: the pool.
    """

    dag_id: str
    run_id: str
    task_id: str
    state: str
    since: datetime | None
    is_abandoned: bool
    pool: str

    def __str__(self) -> str:
        since = f" since {self.since:%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        nobody = ", which no process runs" if self.is_abandoned else ""
        return f"{self.dag_id}.{self.task_id} of {self.run_id} ({self.state}{since}){nobody}"


def find() -> list[Holder]:
    """Return the tasks that hold a slot, ordered by run and task."""
    with create_session() as session:
        commands = _words_of_commands()
        return [
            Holder(
                task.dag_id,
                task.run_id,
                task.task_id,
                str(task.state),
                task.start_date or task.queued_dttm or getattr(task, "updated_at", None),
                _is_abandoned(task, commands),
                task.pool,
            )
            for task in session.scalars(_holding())
        ]


def release() -> list[Holder]:
    """Mark abandoned tasks and their runs as failed, and return the tasks.

    Use this only if Airflow runs on this machine alone, because it cannot see commands on other machines.
    """
    released = [holder for holder in find() if holder.is_abandoned]
    with create_session() as session:
        for holder in released:
            of_run = {"dag_id": holder.dag_id, "run_id": holder.run_id}
            for task in session.scalars(_holding().filter_by(**of_run, task_id=holder.task_id)):
                task.state, task.end_date = "failed", datetime.now(UTC)
            for run in session.scalars(select(DagRun).filter_by(**of_run)):
                run.set_state(DagRunState.FAILED)
    return released


def _holding() -> Any:
    return (
        select(TaskInstance)
        .where(TaskInstance.pool.in_(POOLS), TaskInstance.state.in_(HOLDING))
        .order_by(TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id)
    )


def _is_abandoned(task: Any, commands: set[str]) -> bool:
    """Whether no scheduler has queued the task and no running command runs its DAG."""
    return task.queued_by_job_id is None and task.queued_dttm is None and task.dag_id not in commands


def _words_of_commands() -> set[str]:
    """The words of all running commands that run tasks themselves (`airflow dags test …`), including the DAG's id."""
    words: set[str] = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            by_hand = {"test", "tasks", "backfill"}.intersection(command)  # 2.11's backfill records no job for a task
            if by_hand and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                words.update(command)
    return words
