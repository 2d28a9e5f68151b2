"""Runs DAGs in the test's own process, and reads the results."""

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select

from include.orchestration.compat import IS_AIRFLOW_3


def run(dag: Any, day: str | None, *, marked: str | None = None, **conf: Any) -> Any:
    """Run all tasks of `dag` for a date, as `airflow dags test` does, and return the run, even if it failed.

    Args:
        marked: a pattern; tasks whose ids match it do not run, and are marked as success.
    """
    moment = datetime.fromisoformat(day).replace(tzinfo=UTC) if day else None
    # It does not raise the errors of tasks.
    date = {"logical_date" if IS_AIRFLOW_3 else "execution_date": moment}
    return dag.test(**date, run_conf=conf or None, mark_success_pattern=marked)


def states(done: Any) -> dict[str, str]:
    with create_session() as session:
        found = session.scalars(select(TaskInstance).where(TaskInstance.run_id == done.run_id)).all()
        return {task.task_id: str(task.state) for task in found if task.dag_id == done.dag_id}


def query(data_dir: Path, sql: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(duckdb.connect(str(data_dir / "warehouse.duckdb"))) as con:
        return con.execute(sql).fetchall()
