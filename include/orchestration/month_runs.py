"""Which runs of a monthly DAG have not ended well, as a task of another DAG, or a command, may ask it.

A month may have been run by the schedule, a backfill or by hand, on any date or on none: a run's month is what
`month.logical_month` says of it. On Airflow 3 a task cannot read the metadata database, and asks the api-server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from include.orchestration.airflow_line import IS_AIRFLOW_3
from include.orchestration.month import month_of_run

SETTLED = frozenset({"success", "skipped"})
FAILED = frozenset({"failed", "upstream_failed"})


@dataclass(frozen=True)
class MonthRun:
    """A run of which a task has not ended well (yet).

    Attributes:
        month: "2023-02"; None for a run that has neither a month nor a logical date.
        state: the run's: queued, running, success or failed.
        started: when it was started last (UTC); None while it is queued.
        tasks: state by task id of the tasks that have not ended well; "none" is a task not looked at yet.
    """

    run_id: str
    month: str | None
    state: str
    started: datetime | None
    tasks: Mapping[str, str]

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
    runs = [
        MonthRun(
            run.run_id,
            month_of_run(run),
            str(getattr(run.state, "value", run.state)),  # the api-server's enumeration prints its own name
            run.start_date,
            tasks,
        )
        for run, tasks in found(dag_id, wanted, settled)
    ]
    return sorted(runs, key=lambda run: (run.started is None, str(run.started)))


def in_a_task_of_airflow_3() -> bool:
    """Whether this process runs a task of Airflow 3, which may not read the metadata database."""
    if not IS_AIRFLOW_3:
        return False
    from airflow.sdk.execution_time import task_runner

    return hasattr(task_runner, "SUPERVISOR_COMMS")


def _from_api_server(dag_id: str, task_ids: list[str], settled: frozenset[str]) -> Iterator[tuple[Any, dict[str, str]]]:
    """One request for the states of all runs, then one for each run that is not settled: they are few."""
    from airflow.sdk.execution_time.comms import GetDagRun
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS, RuntimeTaskInstance

    states = RuntimeTaskInstance.get_task_states(dag_id=dag_id, task_ids=task_ids or None)
    for run_id, tasks in states.items():
        if left := {name: str(state or "none") for name, state in tasks.items() if state not in settled}:
            yield SUPERVISOR_COMMS.send(GetDagRun(dag_id=dag_id, run_id=run_id)), left


def _from_database(dag_id: str, task_ids: list[str], settled: frozenset[str]) -> Iterator[tuple[Any, dict[str, str]]]:
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import or_, select

    unsettled = or_(TaskInstance.state.is_(None), TaskInstance.state.not_in(settled))
    tasks = select(TaskInstance.run_id, TaskInstance.task_id, TaskInstance.state).where(
        TaskInstance.dag_id == dag_id, unsettled
    )
    if task_ids:
        tasks = tasks.where(TaskInstance.task_id.in_(task_ids))
    with create_session() as session:
        left: dict[str, dict[str, str]] = {}
        for run_id, task_id, state in session.execute(tasks):
            left.setdefault(run_id, {})[task_id] = str(state or "none")
        of_dag = select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id.in_(list(left)))
        for run in session.scalars(of_dag):
            yield run, left[run.run_id]
