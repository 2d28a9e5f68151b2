"""What Airflow's metadata database says of a range of months or weeks: runs, tasks, logs. Works on both lines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from airflow.configuration import conf
from airflow.jobs.job import Job
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.errors import ParseImportError
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select

from include.orchestration.airflow_line import IS_AIRFLOW_3

if IS_AIRFLOW_3:
    from airflow.models.backfill import Backfill

OVERLOOKED_AFTER = timedelta(seconds=10)
"""So long after the end of a task's process nobody is going to record it."""
FINISHED = frozenset({"success", "failed"})
_LOGICAL_DATE = "logical_date" if IS_AIRFLOW_3 else "execution_date"


@dataclass(frozen=True)
class Run:
    """A run of one month or week: its id, state and how many seconds it took (None: not finished)."""

    partition: str
    run_id: str
    state: str
    seconds: float | None


@dataclass(frozen=True)
class Try:
    """A try of a task that failed: for good, or to be tried again."""

    dag_id: str
    task_id: str
    partition: str
    run_id: str
    number: int
    final: bool

    @property
    def log(self) -> Path:
        """Where Airflow has written the try's log."""
        return (
            log_folder() / f"dag_id={self.dag_id}/run_id={self.run_id}/task_id={self.task_id}/attempt={self.number}.log"
        )


def log_folder() -> Path:
    """Where Airflow writes logs."""
    return Path(conf.get("logging", "base_log_folder"))


def read_runs(dag_id: str, partitions: Mapping[str, date]) -> list[Run]:
    """The DAG's runs of these logical dates, in order; `partitions` has each one's name: its month or its Monday."""
    logical_date = getattr(DagRun, _LOGICAL_DATE)
    names = {datetime.combine(day, time.min, UTC): name for name, day in partitions.items()}
    with create_session() as session:
        found = session.scalars(
            select(DagRun).where(DagRun.dag_id == dag_id, logical_date.in_(list(names))).order_by(logical_date)
        ).all()
        return [
            Run(
                partition=names[getattr(run, _LOGICAL_DATE)],
                run_id=run.run_id,
                state=str(run.state),
                seconds=(run.end_date - run.start_date).total_seconds() if run.end_date and run.start_date else None,
            )
            for run in found
        ]


def count_task_states(dag_id: str, runs: list[Run]) -> Counter[str]:
    """How many tasks of the runs are in each state; "none" is not looked at yet."""
    with create_session() as session:
        states = session.scalars(
            select(TaskInstance.state).where(
                TaskInstance.dag_id == dag_id, TaskInstance.run_id.in_([run.run_id for run in runs])
            )
        ).all()
    return Counter(str(state) if state else "none" for state in states)


def failed_tries(dag_id: str, runs: list[Run]) -> list[Try]:
    """The tries of the runs' tasks that have failed and not been replaced by a later try."""
    partitions = {run.run_id: run.partition for run in runs}
    with create_session() as session:
        found = session.scalars(
            select(TaskInstance).where(
                TaskInstance.dag_id == dag_id,
                TaskInstance.run_id.in_(list(partitions)),
                TaskInstance.state.in_(["failed", "up_for_retry"]),
            )
        ).all()
        return [
            Try(dag_id, task.task_id, partitions[task.run_id], task.run_id, task.try_number, task.state == "failed")
            for task in found
        ]


def has_failed_for_good(dag_id: str, runs: list[Run]) -> bool:
    """Whether a task of the runs has failed and will not be tried again."""
    return any(failed.final for failed in failed_tries(dag_id, runs))


def fail_killed(dag_id: str, runs: list[Run]) -> None:
    """Fail the tries of the runs' tasks whose process was killed, so that they are tried again: for 2.11.

    There a backfill overlooks the end of a first try that did not say itself how it ended, and would wait for ever.
    """
    with create_session() as session:
        killed = session.scalars(
            select(TaskInstance)
            .join(Job, Job.id == TaskInstance.job_id)
            .where(
                TaskInstance.dag_id == dag_id,
                TaskInstance.run_id.in_([run.run_id for run in runs]),
                TaskInstance.state == "running",
                Job.end_date < datetime.now(UTC) - OVERLOOKED_AFTER,
            )
        ).all()
        for task in killed:
            task.end_date = datetime.now(UTC)
            task.state = "up_for_retry" if task.try_number <= task.max_tries else "failed"


def last_log_lines(path: Path, count: int) -> list[str]:
    """The last lines of a task's log, as a person would read them; Airflow 3 writes JSON, one object a line."""
    if not path.exists():
        return [f"(no log at {path})"]
    lines: list[str] = []
    for line in path.read_text(errors="replace").splitlines():
        lines.extend(_readable(line))
    return lines[-count:]


def _readable(line: str) -> list[str]:
    try:
        record = json.loads(line)
        lines = [f"{record['level'].upper():8} {record['event']}"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return [line]
    errors = record.get("error_detail") or []
    return lines + [f"{error.get('exc_type')}: {error.get('exc_value')}" for error in errors]


def parsed_since(dag_id: str, moment: datetime) -> bool:
    """Whether Airflow has read the DAG's file since `moment`."""
    with create_session() as session:
        parsed = session.scalar(select(DagModel.last_parsed_time).where(DagModel.dag_id == dag_id))
    return parsed is not None and parsed >= moment


def import_errors() -> list[str]:
    """What went wrong when Airflow read the DAG files: the last line of each error, with its file."""
    with create_session() as session:
        return [
            f"{error.filename}: {error.stacktrace.strip().splitlines()[-1]}"
            for error in session.scalars(select(ParseImportError)).all()
        ]


def set_paused(dag_id: str, paused: bool) -> bool:
    """Pause or unpause the DAG; returns whether it was paused before."""
    with create_session() as session:
        model = session.scalars(select(DagModel).where(DagModel.dag_id == dag_id)).one()
        before, model.is_paused = bool(model.is_paused), paused
    return before


def end_interrupted_backfills(dag_id: str) -> int:
    """Mark backfills of the DAG that never ended as ended, and their runs that had not started as failed.

    Airflow 3 allows one backfill a DAG. What a killed scheduler left running goes on when a scheduler is back.
    Does what the web UI's "cancel" does. Returns the number of runs that had not finished.
    """
    with create_session() as session:
        unfinished = 0
        left = session.scalars(select(Backfill).where(Backfill.dag_id == dag_id, Backfill.completed_at.is_(None))).all()
        for backfill in left:
            backfill.completed_at = datetime.now(UTC)
            of_backfill = select(DagRun).where(DagRun.backfill_id == backfill.id, DagRun.state.not_in(FINISHED))
            for run in session.scalars(of_backfill).all():
                unfinished += 1
                if run.state == "queued":
                    run.state = "failed"
        return unfinished
