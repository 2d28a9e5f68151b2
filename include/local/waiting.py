"""Why a backfill has made no progress for minutes."""

from __future__ import annotations

from datetime import datetime

from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select

from include.local.runs import Run, in_words, is_paused, of_runs, open_backfills, patiently
from include.orchestration import pool_holders
from include.orchestration.compat import IS_AIRFLOW_3
from include.orchestration.defaults import WAREHOUSE_POOL

AT_WORK = ("running", "queued", "up_for_reschedule", "up_for_retry", "deferred")


@patiently
def reasons(dag_id: str, runs: list[Run]) -> list[str]:
    """Sentences that say what the DAG's runs wait for; at least one."""
    said = []
    if IS_AIRFLOW_3:
        if is_paused(dag_id):
            said.append(f"{dag_id} has been paused: none of its tasks starts until somebody unpauses it")
        paused = [backfill for backfill in open_backfills(dag_id) if backfill.is_paused]
        said += [f"there is {backfill}: unpause or cancel it in the web UI" for backfill in paused]
    names = {run.run_id: run.partition for run in runs}
    with create_session() as session:
        tasks = session.scalars(select(TaskInstance).where(*of_runs(dag_id, runs))).all()
        waits_for_pool = any(task.pool == WAREHOUSE_POOL and str(task.state) == "scheduled" for task in tasks)
        for task in tasks:
            if str(task.state) in AT_WORK:
                what = in_words(task.task_id, task.state)
                said.append(f"`{task.task_id}` for {names[task.run_id]} is {what}{_since(task.start_date)}")
    if waits_for_pool:
        others = [holder for holder in pool_holders.find() if holder.run_id not in names]
        said += [f"the pool `{WAREHOUSE_POOL}` is taken by {holder}" for holder in others]
    if not said:
        said.append("no task is running: is the scheduler working? See its log")
    return [f"still waiting: {reason}" for reason in said]


def _since(start: datetime | None) -> str:
    return f" since {start:%Y-%m-%d %H:%M:%S} UTC" if start else ""
