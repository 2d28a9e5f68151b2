"""Tasks' errors as Airflow is to see them: those that no retry can mend, and those of its own time limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from permanent_failure import failing_for_good_when_permanent

from include.orchestration.time_limit import explained

Task = TypeVar("Task", bound=Callable[..., Any])


def no_retry_when_permanent(task: Task) -> Task:
    """Fail a task for good, without its retries, when the input itself is wrong: it will be no better in a minute.

    Which errors these are, their classes say (`NycTaxiError.permanent`). A try that Airflow's time limit ends says so
    (see `time_limit`), and is retried.
    """
    return failing_for_good_when_permanent()(explained()(task))
