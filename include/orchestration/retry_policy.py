"""Tasks' errors as Airflow is to see them: those that no retry can mend, and those of its own time limit."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from airflow.providers.common.compat.sdk import AirflowFailException

from include.nyc_taxi.errors import NycTaxiError
from include.orchestration.time_limit import explained

P, R = ParamSpec("P"), TypeVar("R")


def no_retry_when_permanent(task: Callable[P, R]) -> Callable[P, R]:
    """Fail a task for good, without its retries, when the input itself is wrong: it will be no better in a minute.

    Which errors these are, their classes say (`NycTaxiError.permanent`). A try that Airflow's time limit ends says so
    (see `time_limit`), and is retried.
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
