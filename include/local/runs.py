"""Runs, tasks and backfills in Airflow's metadata database: reads and changes them. Works on both lines."""

from __future__ import annotations

import gc
import getpass
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
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
from sqlalchemy.exc import IntegrityError, OperationalError
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_fixed

from include.orchestration.compat import IS_AIRFLOW_3, PRIVATE

if IS_AIRFLOW_3:
    from airflow.models.backfill import AlreadyRunningBackfill as AlreadyRunningBackfill
    from airflow.models.backfill import Backfill, BackfillDagRun, ReprocessBehavior
    from airflow.models.dagbag import DagPriorityParsingRequest

OVERLOOKED_AFTER = timedelta(seconds=10)
"""If the end of a task's process has not been recorded after this time, nobody will record it."""
FINISHED = frozenset({"success", "failed"})
IN_WORDS = {
    "success": "done",
    "running": "running",
    "restarting": "restarting",
    "shutdown": "being stopped",
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
"""Airflow's task states in plain words, in the order in which they are shown."""
ENDED = [IN_WORDS[state] for state in ("success", "skipped", "upstream_failed", "failed", "removed")]
"""The words for tasks that have ended."""
WAITING_SENSORS = {
    "wait_for_file": "waiting for the TLC's file",
    "wait_for_first_month": "waiting for a month's trips",
    "wait_for_last_month": "waiting for a month's trips",
}
"""What each of our sensors waits for while its state is `up_for_reschedule`."""
_LOGICAL_DATE = "logical_date" if IS_AIRFLOW_3 else "execution_date"


def forget_errors() -> None:
    """Free what errors that have been handled refer to: an unfinished query would keep the transaction it failed in.

    SQLite then refuses to write in every later transaction of the same connection, however often it is tried.
    """
    gc.collect()


patiently = retry(
    retry=retry_if_exception_type(OperationalError),
    stop=stop_after_attempt(10),
    wait=wait_fixed(1),
    before=lambda state: forget_errors() if state.attempt_number > 1 else None,
    reraise=True,
)
"""Retries a function that is one transaction: SQLite has one writer at a time, and refuses others after a while."""


@dataclass(frozen=True)
class Run:
    """A run of one month or week.

    Attributes:
        partition: its month, or its week's Monday.
        state: Airflow's; a run that skipped tasks is a success too.
        seconds: how long it took; None if it has not finished.
        skipped: whether it skipped a task, because nothing was new.
    """

    partition: str
    run_id: str
    state: str
    seconds: float | None
    skipped: bool


@dataclass(frozen=True)
class Try:
    """A failed try of a task; `final` if there will be no other."""

    dag_id: str
    task_id: str
    partition: str
    run_id: str
    number: int
    final: bool

    @property
    def log(self) -> Path:
        """The path of the try's log."""
        task = f"dag_id={self.dag_id}/run_id={self.run_id}/task_id={self.task_id}"
        return log_folder() / task / f"attempt={self.number}.log"


def log_folder() -> Path:
    """The folder in which Airflow writes logs."""
    return Path(conf.get("logging", "base_log_folder"))


@patiently
def read_runs(dag_id: str, partitions: Mapping[str, date]) -> list[Run]:
    """The DAG's runs of these partitions, in order of their logical dates.

    Args:
        partitions: logical dates by name.
    """
    names = _by_moment(partitions)
    with create_session() as session:
        found = session.scalars(_of_dates(dag_id, names).order_by(getattr(DagRun, _LOGICAL_DATE))).all()
        skipped_tasks = select(TaskInstance.run_id).where(*of_runs(dag_id, found), TaskInstance.state == "skipped")
        skipped = set(session.scalars(skipped_tasks))
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


def _by_moment(partitions: Mapping[str, date]) -> dict[datetime, str]:
    return {datetime.combine(day, time.min, UTC): name for name, day in partitions.items()}


def of_runs(dag_id: str, runs: Iterable[Any]) -> tuple[Any, ...]:
    """The conditions that select the runs' task instances."""
    return TaskInstance.dag_id == dag_id, TaskInstance.run_id.in_([run.run_id for run in runs])


def _of_dates(dag_id: str, moments: Iterable[datetime]) -> Any:
    return select(DagRun).where(DagRun.dag_id == dag_id, getattr(DagRun, _LOGICAL_DATE).in_(list(moments)))


@patiently
def count_tasks(dag_id: str, runs: list[Run]) -> dict[str, int]:
    """The number of the runs' tasks in each state, in plain words and in the order of IN_WORDS."""
    with create_session() as session:
        found = session.execute(select(TaskInstance.task_id, TaskInstance.state).where(*of_runs(dag_id, runs))).all()
    counted = Counter(in_words(task_id, state) for task_id, state in found)
    order = [*IN_WORDS.values(), *WAITING_SENSORS.values()]
    known = [words for words in dict.fromkeys(order) if words in counted]
    return {words: counted[words] for words in [*known, *(counted.keys() - set(known))]}


def in_words(task_id: str, state: object) -> str:
    """A task's state in plain words; a state that is not in IN_WORDS as Airflow writes it."""
    name = str(getattr(state, "value", state) or "none").lower()
    if name == "up_for_reschedule":
        return WAITING_SENSORS.get(task_id, "waiting for its next check")
    return IN_WORDS.get(name, name.replace("_", " "))


@patiently
def failed_tries(dag_id: str, runs: list[Run]) -> list[Try]:
    """The failed tries of the runs' tasks that no later try has replaced."""
    partitions = {run.run_id: run.partition for run in runs}
    with create_session() as session:
        failed = TaskInstance.state.in_(["failed", "up_for_retry"])
        found = session.scalars(select(TaskInstance).where(*of_runs(dag_id, runs), failed)).all()
        return [
            Try(dag_id, task.task_id, partitions[task.run_id], task.run_id, task.try_number, task.state == "failed")
            for task in found
        ]


@patiently
def fail_killed(dag_id: str, runs: list[Run]) -> None:
    """Fail the tries whose process was killed, so that they are tried again. Only for Airflow 2.11.

    Its backfill command does not notice that a first try was killed, and would wait for it for ever.
    """
    with create_session() as session:
        killed = session.scalars(
            select(TaskInstance)
            .join(Job, Job.id == TaskInstance.job_id)
            .where(
                *of_runs(dag_id, runs),
                TaskInstance.state == "running",
                Job.end_date < datetime.now(UTC) - OVERLOOKED_AFTER,
            )
        ).all()
        for task in killed:
            task.end_date = datetime.now(UTC)
            task.state = "up_for_retry" if task.try_number <= task.max_tries else "failed"


@patiently
def _of_dag(dag_id: str, column: Any) -> Any:
    with create_session() as session:
        return session.scalar(select(column).where(DagModel.dag_id == dag_id))


def parsed_since(dag_id: str, moment: datetime) -> bool:
    """Whether Airflow has parsed the DAG's file since `moment`."""
    parsed: datetime | None = _of_dag(dag_id, DagModel.last_parsed_time)
    return parsed is not None and parsed >= moment


def has_next_run(dag_id: str) -> bool:
    """Whether the scheduler would create a run of the DAG's own schedule if the DAG were unpaused."""
    return _of_dag(dag_id, DagModel.next_dagrun_create_after) is not None


def is_paused(dag_id: str) -> bool:
    """Whether the DAG is paused. A DAG that Airflow has not parsed yet will be."""
    paused: bool | None = _of_dag(dag_id, DagModel.is_paused)
    return paused is None or paused


@patiently
def set_paused(dag_id: str, paused: bool) -> bool:
    """Pause or unpause the DAG, if Airflow has parsed it; returns whether it was paused before."""
    with create_session() as session:
        model = session.scalars(select(DagModel).where(DagModel.dag_id == dag_id)).one_or_none()
        if model is None:
            return True
        before, model.is_paused = bool(model.is_paused), paused
    return before


@contextmanager
def paused(dag_id: str, paused: bool) -> Iterator[None]:
    """Pause or unpause the DAG for the time of the block."""
    before = set_paused(dag_id, paused)
    try:
        yield
    finally:
        set_paused(dag_id, before)


@patiently
def import_errors() -> list[str]:
    """The errors of DAG files that Airflow could not parse: each file, with the last line of its traceback."""
    with create_session() as session:
        return [
            f"{error.filename}: {(error.stacktrace or 'no traceback').strip().splitlines()[-1]}"
            for error in session.scalars(select(ParseImportError)).all()
        ]


@patiently
def ask_for_parse(dag_id: str) -> None:
    """Have the DAG processor parse the DAG's file next, as the UI's button does. Only for Airflow 3."""
    with suppress(IntegrityError), create_session() as session:  # somebody may have asked already
        model = session.scalars(select(DagModel).where(DagModel.dag_id == dag_id)).one_or_none()
        if model and model.relative_fileloc:
            session.add(DagPriorityParsingRequest(model.bundle_name, model.relative_fileloc))


@dataclass(frozen=True)
class OpenBackfill:
    """A backfill that has not ended: its name, how many of its runs have finished, and whether it is paused."""

    name: str
    done: int
    total: int
    is_paused: bool

    def __str__(self) -> str:
        return f"{self.name}, which is paused" if self.is_paused else self.name


@patiently
def open_backfills(dag_id: str) -> list[OpenBackfill]:
    """The DAG's backfills that have not ended: at most one, since Airflow 3 allows no more. Only for Airflow 3.

    A backfill whose runs have all finished is marked as completed, as the scheduler would do after a while.
    """
    with create_session() as session:
        found = []
        for backfill in session.scalars(_open(dag_id)).all():
            states = _states_of_runs(session, backfill)
            if states and FINISHED.issuperset(states):
                backfill.completed_at = datetime.now(UTC)
                continue
            by = f" by {backfill.triggering_user_name}" if backfill.triggering_user_name else ""
            name = (
                f"a backfill from {backfill.from_date:%Y-%m-%d} to {backfill.to_date:%Y-%m-%d}, "
                f"created{by} at {backfill.created_at:%Y-%m-%d %H:%M:%S} UTC"
            )
            done = sum(state in FINISHED for state in states)
            found.append(OpenBackfill(name, done, len(states), bool(backfill.is_paused)))
        return found


def create_backfill(dag_id: str, first: date, last: date, parallel_runs: int, reprocess: str) -> None:
    """Create a backfill of the logical dates from `first` to `last`, as `airflow backfill create` does. For Airflow 3.

    Args:
        parallel_runs: how many of its runs may run at once.
        reprocess: which existing runs to repeat: "completed", "failed" or "none".

    Raises:
        AlreadyRunningBackfill: another backfill of the DAG has not ended.
        OperationalError: the database is busy. Some of the runs may exist.
        AirflowException, ValueError: Airflow refuses the backfill; the message says why.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = None
    create: Any = PRIVATE["_create_backfill"].load()
    create(
        dag_id=dag_id,
        from_date=datetime.combine(first, time(), UTC),
        to_date=datetime.combine(last, time(), UTC),
        max_active_runs=parallel_runs,
        reverse=False,
        # Otherwise a run would keep the `month` that an earlier backfill has given it, and fail because of it again.
        dag_run_conf={},
        triggering_user_name=user,
        reprocess_behavior=ReprocessBehavior(reprocess),
        run_on_latest_version=conf.getboolean("core", "rerun_with_latest_version", fallback=True),
    )


def cancel_since(dag_id: str, moment: datetime) -> int:
    """Cancel the DAG's backfills created since `moment`, and fail their runs that have not finished.

    On Airflow 3, this cancels the backfill as the UI's "Cancel" does, and fails its running runs as "Mark as failed"
    does; their supervisors stop the running tasks. On 2.11 a run does not know its backfill: this fails all unfinished
    backfill runs of the DAG, so the command that ran them must have ended.

    Returns:
        The number of runs that had not finished.
    """
    if IS_AIRFLOW_3:
        _stop_starting_runs(dag_id, moment)  # first, and in its own transaction
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
                backfill.is_paused = False  # else Airflow would never start a run of it that somebody clears later
        else:
            unfinished = unfinished.where(DagRun.run_type == "backfill")
        runs = session.scalars(unfinished).all()
        for run in runs:
            fail(session, run)
        return len(runs)


def fail(session: Any, run: Any) -> None:
    """Mark a run and its running tasks as failed, and tasks that have not started as skipped, as the UI does."""
    for task in session.scalars(select(TaskInstance).where(*of_runs(run.dag_id, [run]))).all():
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
    """The unfinished runs of these partitions that somebody else has begun: run ids by the partition's name."""
    names = _by_moment(partitions)
    mine = select(Backfill.id).where(Backfill.dag_id == dag_id, Backfill.created_at >= moment)
    unfinished = _of_dates(dag_id, names).where(
        DagRun.state.not_in(FINISHED), func.coalesce(DagRun.backfill_id, -1).not_in(mine)
    )
    with create_session() as session:
        return {names[getattr(run, _LOGICAL_DATE)]: run.run_id for run in session.scalars(unfinished)}
