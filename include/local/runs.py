"""What Airflow's metadata database says of a range of months or weeks: runs, tasks, logs. Works on both lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from airflow.configuration import conf
from airflow.jobs.job import Job
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.errors import ParseImportError
from airflow.models.taskinstance import TaskInstance
from airflow.providers.common.compat.sdk import DagRunState
from airflow.utils.session import create_session
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_fixed

from include.orchestration.compat import IS_AIRFLOW_3

if IS_AIRFLOW_3:
    from airflow.models.backfill import Backfill, BackfillDagRun
    from airflow.models.dagbag import DagPriorityParsingRequest

OVERLOOKED_AFTER = timedelta(seconds=10)
"""So long after the end of a task's process nobody is going to record it."""
FINISHED = frozenset({"success", "failed"})
IN_WORDS = {
    "success": "done",
    "running": "running",
    "restarting": "restarting",
    "shutdown": "being ended",
    "queued": "about to start",
    "scheduled": "in the queue",
    "deferred": "waiting for an event",
    "awaiting_input": "waiting for an answer",
    "up_for_retry": "to be tried again",
    "none": "waiting",
    "skipped": "skipped",
    "upstream_failed": "not run because an earlier one failed",
    "failed": "failed",
    "removed": "removed from the DAG",
}
"""Airflow's states of tasks as a person would say them, in the order in which they are shown."""
WAITING_SENSORS = {
    "wait_for_file": "waiting for the TLC's file",
    "wait_for_first_month": "waiting for a month's trips",
    "wait_for_last_month": "waiting for a month's trips",
}
"""What a sensor of ours waits for while Airflow says `up_for_reschedule`."""
_LOGICAL_DATE = "logical_date" if IS_AIRFLOW_3 else "execution_date"

patiently = retry(
    retry=retry_if_exception_type(OperationalError), stop=stop_after_attempt(10), wait=wait_fixed(1), reraise=True
)
"""For what is done in one transaction: SQLite has one writer at a time, and turns away others that waited too long."""


@dataclass(frozen=True)
class Run:
    """A run of one month or week.

    Attributes:
        partition: its month, or its week's Monday.
        state: the run's own; a run of which tasks were skipped is a success too.
        seconds: how long it took; None: it has not finished.
        skipped: whether it has skipped a task: nothing was new.
    """

    partition: str
    run_id: str
    state: str
    seconds: float | None
    skipped: bool


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


@patiently
def read_runs(dag_id: str, partitions: Mapping[str, date]) -> list[Run]:
    """The DAG's runs of these logical dates, in order; `partitions` has each one's name: its month or its Monday."""
    logical_date = getattr(DagRun, _LOGICAL_DATE)
    names = {datetime.combine(day, time.min, UTC): name for name, day in partitions.items()}
    with create_session() as session:
        found = session.scalars(
            select(DagRun).where(DagRun.dag_id == dag_id, logical_date.in_(list(names))).order_by(logical_date)
        ).all()
        skipped = set(
            session.scalars(
                select(TaskInstance.run_id).where(
                    TaskInstance.dag_id == dag_id,
                    TaskInstance.run_id.in_([run.run_id for run in found]),
                    TaskInstance.state == "skipped",
                )
            )
        )
        return [
            Run(
                partition=names[getattr(run, _LOGICAL_DATE)],
                run_id=run.run_id,
                state=str(run.state),
                seconds=(run.end_date - run.start_date).total_seconds() if run.end_date and run.start_date else None,
                skipped=run.run_id in skipped,
            )
            for run in found
        ]


@patiently
def count_tasks(dag_id: str, runs: list[Run]) -> dict[str, int]:
    """How many tasks of the runs are in each state, in plain words and in the order of IN_WORDS."""
    with create_session() as session:
        found = session.execute(
            select(TaskInstance.task_id, TaskInstance.state).where(
                TaskInstance.dag_id == dag_id, TaskInstance.run_id.in_([run.run_id for run in runs])
            )
        ).all()
    counted = Counter(in_words(task_id, state) for task_id, state in found)
    order = [*IN_WORDS.values(), *WAITING_SENSORS.values()]
    known = [words for words in dict.fromkeys(order) if words in counted]
    return {words: counted[words] for words in [*known, *(counted.keys() - set(known))]}


def in_words(task_id: str, state: object) -> str:
    """A task's state in plain words; one that Airflow may add as it says it."""
    name = str(getattr(state, "value", state) or "none").lower()
    if name == "up_for_reschedule":
        return WAITING_SENSORS.get(task_id, "waiting for its next look")
    return IN_WORDS.get(name, name.replace("_", " "))


@patiently
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


@patiently
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


@patiently
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


@patiently
def is_paused(dag_id: str) -> bool:
    """Whether the DAG is paused; one that Airflow has not read yet will be."""
    with create_session() as session:
        paused = session.scalar(select(DagModel.is_paused).where(DagModel.dag_id == dag_id))
    return paused is None or bool(paused)


@patiently
def set_paused(dag_id: str, paused: bool) -> bool:
    """Pause or unpause the DAG; returns whether it was paused before. One that Airflow has not read is left alone."""
    with create_session() as session:
        model = session.scalars(select(DagModel).where(DagModel.dag_id == dag_id)).one_or_none()
        if model is None:
            return True
        before, model.is_paused = bool(model.is_paused), paused
    return before


@contextmanager
def paused(dag_id: str, paused: bool) -> Iterator[None]:
    """Have the DAG paused, or unpaused, for a while."""
    before = set_paused(dag_id, paused)
    try:
        yield
    finally:
        set_paused(dag_id, before)


@patiently
def ask_for_parse(dag_id: str) -> None:
    """Have the dag-processor read the DAG's file as its next one, as the UI's button does: for Airflow 3."""
    with create_session() as session:
        model = session.scalars(select(DagModel).where(DagModel.dag_id == dag_id)).one_or_none()
        if model is None or not model.relative_fileloc:
            return
        request = DagPriorityParsingRequest(model.bundle_name, model.relative_fileloc)
        asked = select(DagPriorityParsingRequest).where(
            DagPriorityParsingRequest.bundle_name == request.bundle_name,
            DagPriorityParsingRequest.relative_fileloc == request.relative_fileloc,
        )
        if session.scalars(asked).first() is None:
            session.add(request)


@patiently
def has_next_run(dag_id: str) -> bool:
    """Whether the scheduler is going to make a run of the DAG's own schedule, were it unpaused."""
    with create_session() as session:
        return session.scalar(select(DagModel.next_dagrun_create_after).where(DagModel.dag_id == dag_id)) is not None


@dataclass(frozen=True)
class OpenBackfill:
    """A backfill in Airflow 3's database that has not ended.

    Attributes:
        first, last: logical dates.
        since: when it was made, UTC.
        by: the user's name, or None.
        done, total: runs that have finished, and all of them.
    """

    first: date
    last: date
    since: datetime
    by: str | None
    done: int
    total: int

    def __str__(self) -> str:
        who = f" by {self.by}" if self.by else ""
        return f"a backfill from {self.first} to {self.last}, made{who} at {self.since:%Y-%m-%d %H:%M:%S} UTC"


@patiently
def open_backfills(dag_id: str) -> list[OpenBackfill]:
    """Backfills of the DAG that have not ended: for Airflow 3, which allows one a DAG.

    One whose runs have all finished is marked as ended, as the scheduler does it after a while.
    """
    with create_session() as session:
        found = []
        for backfill in session.scalars(_open(dag_id)).all():
            states = _states_of_runs(session, backfill)
            if states and FINISHED.issuperset(states):
                backfill.completed_at = datetime.now(UTC)
                continue
            done = sum(state in FINISHED for state in states)
            by, since = backfill.triggering_user_name, backfill.created_at
            found.append(OpenBackfill(backfill.from_date.date(), backfill.to_date.date(), since, by, done, len(states)))
        return found


def cancel_since(dag_id: str, moment: datetime) -> int:
    """End the DAG's backfills made since then, and fail their runs that have not finished.

    On Airflow 3 this does what the UI's "Cancel" does, and to running runs what "mark as failed" does: a running task
    is ended by its supervisor. On 2.11, where a run does not know its backfill, all unfinished runs of the DAG's
    backfills are failed: the command that ran them must have ended.

    Returns:
        How many runs had not finished.
    """
    if IS_AIRFLOW_3:
        _stop_starting_runs(dag_id, moment)  # before the rest, and in a transaction of its own
    return _cancel_since(dag_id, moment)


@patiently
def _stop_starting_runs(dag_id: str, moment: datetime) -> None:
    with create_session() as session:
        for backfill in session.scalars(_open(dag_id, moment)):
            backfill.is_paused = True


@patiently
def _cancel_since(dag_id: str, moment: datetime) -> int:
    with create_session() as session:
        unfinished = select(DagRun).where(DagRun.dag_id == dag_id, DagRun.state.not_in(FINISHED))
        if IS_AIRFLOW_3:
            backfills = session.scalars(_open(dag_id, moment)).all()
            unfinished = unfinished.where(DagRun.backfill_id.in_([backfill.id for backfill in backfills]))
            for backfill in backfills:
                backfill.completed_at = datetime.now(UTC)
        else:
            unfinished = unfinished.where(DagRun.run_type == "backfill")
        runs = session.scalars(unfinished).all()
        for run in runs:
            fail(session, run)
        return len(runs)


def fail(session: Any, run: Any) -> None:
    """Mark a run as failed: its running tasks too, and those that have not started as skipped, as the UI does it."""
    of_run = TaskInstance.dag_id == run.dag_id, TaskInstance.run_id == run.run_id
    for task in session.scalars(select(TaskInstance).where(*of_run)).all():
        if task.state in ("running", "restarting", "deferred", "up_for_reschedule", "queued"):
            task.state, task.end_date = "failed", datetime.now(UTC)
        elif task.state in (None, "scheduled", "up_for_retry"):
            task.state = "skipped"
    run.set_state(DagRunState.FAILED)


def _open(dag_id: str, since: datetime | None = None) -> Any:
    found = select(Backfill).where(Backfill.dag_id == dag_id, Backfill.completed_at.is_(None))
    return found.where(Backfill.created_at >= since) if since else found


def _states_of_runs(session: Any, backfill: Any) -> list[str]:
    of_backfill = select(DagRun.state).join(BackfillDagRun, BackfillDagRun.dag_run_id == DagRun.id)
    return [str(state) for state in session.scalars(of_backfill.where(BackfillDagRun.backfill_id == backfill.id))]


@patiently
def unfinished_before(dag_id: str, partitions: Mapping[str, date], moment: datetime) -> dict[str, str]:
    """Which of these months or weeks have a run that somebody else has begun and that has not finished: ids by name."""
    with create_session() as session:
        mine = select(Backfill.id).where(Backfill.dag_id == dag_id, Backfill.created_at >= moment)
        logical_date = getattr(DagRun, _LOGICAL_DATE)
        names = {datetime.combine(day, time.min, UTC): name for name, day in partitions.items()}
        found = select(DagRun).where(
            DagRun.dag_id == dag_id,
            logical_date.in_(list(names)),
            DagRun.state.not_in(FINISHED),
            func.coalesce(DagRun.backfill_id, -1).not_in(mine),
        )
        return {names[getattr(run, _LOGICAL_DATE)]: run.run_id for run in session.scalars(found)}
