"""Errors that no retry can fix fail a task for good, whatever its `retries`.

`include` is imported where it is used: Airflow also loads plugins in processes without the DAG bundle on their path.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowFailException

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def failing_for_good_when_permanent() -> Iterator[None]:
    """Turn errors whose class says `permanent` into Airflow's error for a task that must not be retried.

    Raises:
        AirflowFailException: with the message of the permanent error. All other errors pass unchanged.
    """
    from include.nyc_taxi.errors import NycTaxiError

    try:
        yield
    except NycTaxiError as error:
        if not error.permanent:
            raise
        raise AirflowFailException(str(error)) from error
