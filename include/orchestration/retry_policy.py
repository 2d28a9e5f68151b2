"""How tasks report errors to Airflow: an error that no retry can fix fails the task at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from include.orchestration.time_limit import explained
from permanent_failure import failing_for_good_when_permanent

Task = TypeVar("Task", bound=Callable[..., Any])


def no_retry_when_permanent(task: Task) -> Task:
    """Decorate a task's callable so that an error that no retry can fix fails the task without retries.

    The class of an error says whether it is permanent (`NycTaxiError.permanent`). If Airflow's time limit ends a try,
    the error says so (see `time_limit`), and the task is retried.
    """
    return failing_for_good_when_permanent()(explained()(task))
