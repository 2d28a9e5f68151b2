"""How the runs of a monthly DAG have ended, and which have not, as a task of another DAG, or a command, may ask it.

A month may have been run by the schedule, a backfill or by hand, on any date or on none: a run's month is what
`month.logical_month` says of it. On Airflow 3 a task cannot read the metadata database, and asks the api-server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from include.orchestration.compat import IS_AIRFLOW_3
from include.orchestration.month import month_of_run

SETTLED = frozenset({"success", "skipped"})
FAILED = frozenset({"failed", "upstream_failed"})

_Found = tuple[Any, Mapping[str, str], frozenset[str]]
"""A run as Airflow has it, the states of its tasks, and which of these are settled."""


@dataclass(frozen=True)
class MonthRun:
    """A run, and those of its tasks that have not ended well (yet).

    Attributes:
        month: "2023-02"; None for a run that has neither a month nor a logical date.
        state: the run's: queued, running, success or failed.
        started: when it was started last, or, where it was ended before that, when it ended (UTC); None while it is
            queued.
        tasks: state by task id of the tasks that have not ended well; "none" is a task not looked at yet.
        skipped: whether some of its tasks were skipped.
    """

    run_id: str
    month: str | None
    state: str
    started: datetime | None
    tasks: Mapping[str, str]
    skipped: bool = False

    @property
    def cancelled(self) -> bool:
        """Whether somebody has ended it, or a backfill that was interrupted has: none of its tasks failed by itself.

        Who marks a run failed has its running tasks marked failed and those to come skipped. After a task that failed
        by itself those to come are `upstream_failed`; after the last task none is to come, and the two look alike.
        """
        states = set(self.tasks.values())
        ended_with_tasks_to_come = self.skipped and "upstream_failed" not in states
        return self.state == "failed" and (not FAILED & states or ended_with_tasks_to_come)

    @property
    def failed(self) -> tuple[str, ...]:
        """The tasks that have failed for good, in order of name; those only that could not start, if no other has."""
        failed = sorted(name for name, state in self.tasks.items() if state == "failed")
        return tuple(failed or sorted(name for name, state in self.tasks.items() if state in FAILED))


def unsettled_runs(dag_id: str, task_ids: Iterable[str] = (), settled: frozenset[str] = SETTLED) -> list[MonthRun]:
    """Runs of the DAG with a task that is not in one of the states `settled`, the oldest start first.

    Args:
        task_ids: look at these tasks only; none: at all.
    """
    wanted = list(task_ids)
    found = _from_api_server if in_a_task_of_airflow_3() else _from_database
    return _by_start(found(dag_id, wanted, settled, ended=False))


def all_runs(dag_id: str) -> list[MonthRun]:
    """The runs that tell how each month is, the oldest start first: all of the DAG's, or, where none of them is in the
    state `failed`, those that have not ended well."""
    found = _from_api_server if in_a_task_of_airflow_3() else _from_database
    return _by_start(found(dag_id, [], SETTLED, ended=True))


def _by_start(found: Iterable[_Found]) -> list[MonthRun]:
    runs = []
    for run, tasks, settled in found:
        state = str(getattr(run.state, "value", run.state))  # the api-server's enumeration prints its own name
        runs.append(
            MonthRun(
                run.run_id,
                month_of_run(run),
                state,
                run.start_date or (run.end_date if state == "failed" else None),
                {name: state for name, state in tasks.items() if state not in settled},
                "skipped" in tasks.values(),
            )
        )
    return sorted(runs, key=lambda run: (run.started is None, str(run.started)))


def in_a_task_of_airflow_3() -> bool:
    """Whether this process runs a task of Airflow 3, which may not read the metadata database."""
    if not IS_AIRFLOW_3:
        return False
    from airflow.sdk.execution_time import task_runner

    return hasattr(task_runner, "SUPERVISOR_COMMS")


def _from_api_server(dag_id: str, task_ids: list[str], settled: frozenset[str], *, ended: bool) -> Iterator[_Found]:
    """One request for the states of all tasks, then one for each run to look at: those that are not settled are few.

    Which month the others are about, and how they ended, only a request each tells: they are asked for only where a
    run has failed that one of them may have made good.
    """
    from airflow.sdk.execution_time.comms import GetDagRun
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS, RuntimeTaskInstance

    states = RuntimeTaskInstance.get_task_states(dag_id=dag_id, task_ids=task_ids or None)
    every = ended and bool(states) and RuntimeTaskInstance.get_dr_count(dag_id=dag_id, states=["failed"]) > 0
    for run_id, tasks in states.items():
        named = {name: str(state or "none") for name, state in tasks.items()}
        if every or any(state not in settled for state in named.values()):
            yield SUPERVISOR_COMMS.send(GetDagRun(dag_id=dag_id, run_id=run_id)), named, settled


def _from_database(dag_id: str, task_ids: list[str], settled: frozenset[str], *, ended: bool) -> Iterator[_Found]:
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import or_, select

    tasks = select(TaskInstance.run_id, TaskInstance.task_id, TaskInstance.state).where(TaskInstance.dag_id == dag_id)
    runs = select(DagRun).where(DagRun.dag_id == dag_id)
    if task_ids:
        tasks = tasks.where(TaskInstance.task_id.in_(task_ids))
    if not ended:
        unsettled = tasks.where(or_(TaskInstance.state.is_(None), TaskInstance.state.not_in(settled)))
        run_ids = unsettled.with_only_columns(TaskInstance.run_id)
        tasks, runs = tasks.where(TaskInstance.run_id.in_(run_ids)), runs.where(DagRun.run_id.in_(run_ids))
    with create_session() as session:
        found: dict[str, dict[str, str]] = {}
        for run_id, task_id, state in session.execute(tasks):
            found.setdefault(run_id, {})[task_id] = str(state or "none")
        for run in session.scalars(runs):
            yield run, found.get(run.run_id, {}), settled
