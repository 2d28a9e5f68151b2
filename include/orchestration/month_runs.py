"""The runs of a monthly DAG: how they ended, and which tasks have not ended well.

A month can be run by the schedule, by a backfill or by hand, with any logical date or without one. Which month a run
loads is what `month.logical_month` says. On Airflow 3 a task cannot read the metadata database, so it asks the
api-server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow.providers.common.compat.sdk import get_current_context

from include.orchestration import compat
from include.orchestration.month import OWN_DATE, month_of_run

SETTLED = frozenset({"success", "skipped"})
FAILED = frozenset({"failed", "upstream_failed"})

_Found = tuple[Any, Mapping[str, str], frozenset[str]]
"""A run as Airflow returns it, the state of each of its tasks, and the states that count as settled."""


@dataclass(frozen=True)
class MonthRun:
    """A run, and those of its tasks that have not ended well.

    Attributes:
        month: "2023-02"; None for a run that has neither a month nor a logical date. Of a DAG that makes something
            other than months, what the run makes, such as the Monday of its week.
        state: queued, running, success or failed.
        started: when the run last started (UTC). For a failed run that never started, when it ended. None while the
            run is queued.
        tasks: state by task id, of tasks that have not ended well; "none" is a task that the scheduler has not seen.
        skipped: whether any of its tasks was skipped.
        ended: when the run ended (UTC), or None.
        dag_id: the run's DAG.
    """

    run_id: str
    month: str | None
    state: str
    started: datetime | None
    tasks: Mapping[str, str]
    skipped: bool = False
    ended: datetime | None = None
    dag_id: str = ""

    @property
    def cancelled(self) -> bool:
        """Whether the run was ended by a user, or by an interrupted backfill, and not by a task that failed.

        When a user marks a run as failed, Airflow marks its running tasks as failed and skips the remaining ones. When
        a task fails, the remaining ones become `upstream_failed`. If no task remains, the two cases look the same.
        """
        states = set(self.tasks.values())
        ended_with_tasks_to_come = self.skipped and "upstream_failed" not in states
        return self.state == "failed" and (not FAILED & states or ended_with_tasks_to_come)

    @property
    def failed(self) -> tuple[str, ...]:
        """The failed tasks by name. If no task has failed by itself, the tasks that could not start."""
        failed = sorted(name for name, state in self.tasks.items() if state == "failed")
        return tuple(failed or sorted(name for name, state in self.tasks.items() if state in FAILED))


def unsettled_runs(
    dag_id: str,
    task_ids: Iterable[str] = (),
    settled: frozenset[str] = SETTLED,
    partition: Callable[[Any], str | None] = month_of_run,
) -> list[MonthRun]:
    """Return the DAG's runs that have a task in none of the states `settled`, ordered by start.

    Args:
        task_ids: the tasks to consider; all tasks if empty.
        partition: tells what a run makes, for `MonthRun.month`: its month, unless the DAG makes something else.
    """
    return _by_start(dag_id, _find(dag_id, list(task_ids), settled, ended=False), partition)


def all_runs(dag_id: str) -> list[MonthRun]:
    """Return the DAG's runs that are needed to tell the state of each month, ordered by start.

    These are all runs. On Airflow 3, in a task, they are the runs that have not ended well, unless a run has failed.
    """
    return _by_start(dag_id, _find(dag_id, [], SETTLED, ended=True))


def _by_start(
    dag_id: str, found: Iterable[_Found], partition: Callable[[Any], str | None] = month_of_run
) -> list[MonthRun]:
    runs = []
    for run, tasks, settled in found:
        state = str(getattr(run.state, "value", run.state))  # str() of the api-server's enum gives the member's name
        runs.append(
            MonthRun(
                run.run_id,
                partition(run),
                state,
                run.start_date or (run.end_date if state == "failed" else None),
                {name: state for name, state in tasks.items() if state not in settled},
                "skipped" in tasks.values(),
                run.end_date,
                dag_id,
            )
        )
    return sorted(runs, key=lambda run: (run.started is None, str(run.started)))


def _find(dag_id: str, task_ids: list[str], settled: frozenset[str], *, ended: bool) -> Iterator[_Found]:
    """Find the DAG's runs with a task that is not settled; with `ended`, all runs that are needed."""
    find = _from_api_server if compat.in_a_task_of_airflow_3() else _from_database
    return find(dag_id, task_ids, settled, ended=ended)


def _from_api_server(dag_id: str, task_ids: list[str], settled: frozenset[str], *, ended: bool) -> Iterator[_Found]:
    """Send one request for the states of all tasks, then one for each run that has a task that is not settled.

    The month and the end of a settled run would take one more request each. They are only needed if a run has failed,
    because a settled run may have loaded the same month since.
    """
    this: Any = get_current_context()["ti"]
    states = this.get_task_states(dag_id=dag_id, task_ids=task_ids or None)
    every = ended and bool(states) and this.get_dr_count(dag_id=dag_id, states=["failed"]) > 0
    for run_id, tasks in states.items():
        named = {name: str(state or "none") for name, state in tasks.items()}
        if every or any(state not in settled for state in named.values()):
            yield compat.run_from_api_server(dag_id, run_id), named, settled


def _from_database(dag_id: str, task_ids: list[str], settled: frozenset[str], *, ended: bool) -> Iterator[_Found]:
    """Read only what is needed of each run, and only tasks that have not succeeded: most of the rest is history."""
    from sqlalchemy import case, or_, select

    from include.orchestration.compat import DagRun, TaskInstance, create_session

    date = compat.logical_date()
    # The form of a run that Airflow has made for a date says nothing about its month.
    form = case((or_(DagRun.run_type.not_in(OWN_DATE), date.is_(None)), DagRun.conf)).label("conf")
    columns = (DagRun.run_id, DagRun.run_type, DagRun.state, DagRun.start_date, DagRun.end_date)
    runs = select(*columns, date.label("logical_date"), form).where(DagRun.dag_id == dag_id)
    not_success = or_(TaskInstance.state.is_(None), TaskInstance.state != "success")
    tasks = select(TaskInstance.run_id, TaskInstance.task_id, TaskInstance.state).where(TaskInstance.dag_id == dag_id)
    if task_ids:
        tasks = tasks.where(TaskInstance.task_id.in_(task_ids))
    if not ended:
        unsettled = tasks.where(or_(TaskInstance.state.is_(None), TaskInstance.state.not_in(settled)))
        run_ids = unsettled.with_only_columns(TaskInstance.run_id)
        tasks, runs = tasks.where(TaskInstance.run_id.in_(run_ids)), runs.where(DagRun.run_id.in_(run_ids))
    with create_session() as session:
        found: dict[str, dict[str, str]] = {}
        for run_id, task_id, state in session.execute(tasks.where(not_success) if "success" in settled else tasks):
            found.setdefault(run_id, {})[task_id] = str(state or "none")
        for run in session.execute(runs):
            yield run, found.get(run.run_id, {}), settled
