"""What a try says that Airflow has ended at the task's `execution_timeout`.

Airflow raises AirflowTaskTimeout ("Timeout, PID: 7") from a signal's handler, wherever the task happens to be. Within a
query, DuckDB puts `RuntimeError: Query interrupted` in its place, from which nobody sees who has interrupted it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import TracebackType

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, get_current_context

OURS = ("include.nyc_taxi.", "warehouse_hook", "tlc_hook")
"""Modules that do a task's work, as their names begin."""


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Say of a try that the time limit has ended: that it was that, what was running, and what to do.

    Raises:
        AirflowTaskTimeout: in place of whatever has come of the one that the block was ended by.
    """
    try:
        yield
    except BaseException as error:
        limit = _behind(error)
        if limit is None:
            raise
        raise AirflowTaskTimeout(_sentence(error, limit)) from error


def _behind(error: BaseException) -> AirflowTaskTimeout | None:
    """The time limit's error, where that is what the error comes from."""
    found: BaseException | None = error
    while found and not isinstance(found, AirflowTaskTimeout):
        found = found.__cause__ or found.__context__
    return found


def _sentence(error: BaseException, limit: AirflowTaskTimeout) -> str:
    try:
        task = get_current_context()["task"]
        what, value = f" of `{task.task_id}`", f" = {task.execution_timeout}"
    except Exception:  # outside of a task there is no context: each line has its own kind of error for that
        what, value = "", ""
    return (
        f"Airflow's time limit (execution_timeout{value}) has ended this try{what} while it was "
        f"{_doing(error, limit)}. What it had not committed is rolled back, and no file counts as damaged for it. "
        "If something has held it up, mend that; if the work needs longer, raise `execution_timeout` "
        "(include/orchestration/defaults.py). Then clear this task, unless it is tried again anyway"
    )


def _doing(error: BaseException, limit: AirflowTaskTimeout) -> str:
    """What was interrupted: as the one who waited has noted it, else the innermost function of ours."""
    if notes := getattr(limit, "__notes__", None):
        return str(notes[-1])
    place = _innermost(error.__traceback__)
    what = "running a query of DuckDB" if str(error) == "Query interrupted" else "at work"
    return f"{what} in {place}" if place else what


def _innermost(traceback: TracebackType | None) -> str:
    found = ""
    while traceback:
        code, module = traceback.tb_frame.f_code, traceback.tb_frame.f_globals.get("__name__", "")
        if module.startswith(OURS):
            found = f"{module}.{code.co_name} (line {traceback.tb_lineno})"
        traceback = traceback.tb_next
    return found
