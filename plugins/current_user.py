"""The task that this process runs, for the records that the hooks keep of their uses.

`include` is imported where it is used: Airflow also loads plugins in processes without the DAG bundle on their path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import get_current_context

if TYPE_CHECKING:
    from include.nyc_taxi.web.uses import User


def current_user() -> User:
    """The task that is running here; an empty one in a command."""
    from include.nyc_taxi.web.uses import User

    try:
        task = get_current_context()["ti"]
        return User(str(task.dag_id), str(task.run_id), str(task.task_id))
    except Exception:  # outside a task there is no context, and each line raises another error for that
        return User()
