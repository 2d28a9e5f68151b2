"""Which tasks hold the slots of the pool `warehouse`, and which of them nobody runs: these would hold them for ever.

`airflow dags test` that is killed in such a task leaves it as it was, and no scheduler looks after it, since none has
queued it. Works on both lines, and reads the metadata database: for commands, not for tasks (Airflow 3's may not).
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psutil
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.providers.common.compat.sdk import DagRunState
from airflow.utils.session import create_session
from sqlalchemy import select

from include.orchestration.defaults import WAREHOUSE_POOL

HOLDING = ("queued", "running", "restarting")
"""The states in which a task counts against its pool."""


@dataclass(frozen=True)
class Holder:
    """A task that holds a slot.

    Attributes:
        state: queued, running or restarting.
        since: when it came into that state, as far as is known, UTC.
        is_nobodys: whether nobody runs it, nor is going to.
    """

    dag_id: str
    run_id: str
    task_id: str
    state: str
    since: datetime | None
    is_nobodys: bool

    def __str__(self) -> str:
        since = f" since {self.since:%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        nobody = ", which nobody runs" if self.is_nobodys else ""
        return f"{self.dag_id}.{self.task_id} of {self.run_id} ({self.state}{since}){nobody}"


def find() -> list[Holder]:
    """Who holds the pool's slots, in order of run and task."""
    with create_session() as session:
        commands = _words_of_commands()
        return [
            Holder(
                task.dag_id,
                task.run_id,
                task.task_id,
                str(task.state),
                task.start_date or task.queued_dttm or getattr(task, "updated_at", None),
                _is_nobodys(task, commands),
            )
            for task in session.scalars(_holding())
        ]


def release() -> list[Holder]:
    """Fail the tasks that nobody runs, and their runs; returns them.

    Only where Airflow runs on this machine alone: a command on another one is not seen here.
    """
    released = [holder for holder in find() if holder.is_nobodys]
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
        .where(TaskInstance.pool == WAREHOUSE_POOL, TaskInstance.state.in_(HOLDING))
        .order_by(TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id)
    )


def _is_nobodys(task: Any, commands: set[str]) -> bool:
    """Whether no scheduler has queued the task, and no living command runs its DAG."""
    return task.queued_by_job_id is None and task.queued_dttm is None and task.dag_id not in commands


def _words_of_commands() -> set[str]:
    """The words of living commands that run tasks by themselves (`airflow dags test …`): a DAG's id is among them."""
    words: set[str] = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            by_hand = {"test", "tasks", "backfill"}.intersection(command)  # 2.11's backfill notes no job with a task
            if by_hand and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                words.update(command)
    return words
