"""The error message when Airflow ends a try at the task's `execution_timeout`.

Airflow raises AirflowTaskTimeout ("Timeout, PID: 7") from a signal handler, wherever the task happens to be. During a
query, DuckDB replaces this error with `RuntimeError: Query interrupted`, which does not say what interrupted the query.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import TracebackType

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, get_current_context

OURS = ("include.nyc_taxi.", "warehouse_hook", "tlc_hook")
"""Prefixes of the modules that do the work of tasks."""


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """If the time limit ends the block, raise an error that says so, what was running, and what to do.

    Raises:
        AirflowTaskTimeout: replaces the error that the time limit has led to.
    """
    try:
        yield
    except BaseException as error:
        limit = _behind(error)
        if limit is None:
            raise
        raise AirflowTaskTimeout(_sentence(error, limit)) from error


def _behind(error: BaseException) -> AirflowTaskTimeout | None:
    """Return the time limit's error if it is the error itself, or one of the errors that led to it."""
    found: BaseException | None = error
    while found:
        if isinstance(found, AirflowTaskTimeout):
            return found
        found = found.__cause__ or found.__context__
    return None


def _sentence(error: BaseException, limit: AirflowTaskTimeout) -> str:
    try:
        task = get_current_context()["task"]
        what, value = f" of `{task.task_id}`", f" = {task.execution_timeout}"
    except Exception:  # outside a task there is no context, and each line raises another error for that
        what, value = "", ""
    return (
        f"Airflow's time limit (execution_timeout{value}) has ended this try{what} while it was "
        f"{_doing(error, limit)}. Uncommitted changes are rolled back, and no file is marked as damaged. "
        "If something held it up, fix that; if the work needs longer, raise `execution_timeout` "
        "(include/orchestration/defaults.py). Then clear this task, unless Airflow retries it anyway"
    )


def _doing(error: BaseException, limit: AirflowTaskTimeout) -> str:
    """Describe what was interrupted: the note on the error if it has one, or else our innermost function."""
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
