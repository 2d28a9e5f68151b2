"""How tasks report errors to Airflow: an error that no retry can fix fails the task at once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from airflow.providers.common.compat.sdk import AirflowFailException

from include.nyc_taxi.errors import NycTaxiError
from include.orchestration.time_limit import explained

P = ParamSpec("P")
R = TypeVar("R")


def no_retry_when_permanent(task: Callable[P, R]) -> Callable[P, R]:
    """Decorate a task's callable so that an error that no retry can fix fails the task without retries.

    The class of an error says whether it is permanent (`NycTaxiError.permanent`). If Airflow's time limit ends a try,
    the error says so (see `time_limit`), and the task is retried.
    """

    @functools.wraps(task)
    def failing_at_once(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with explained():
                return task(*args, **kwargs)
        except NycTaxiError as error:
            if not error.permanent:
                raise
            raise AirflowFailException(str(error)) from error

    return failing_at_once
