"""Metrics for whoever operates the project, sent as Airflow sends its own: by StatsD, Datadog or OpenTelemetry.

Without one of them in Airflow's configuration (`[metrics]`), nothing is sent. The fleet is part of a metric's name,
because plain StatsD has no tags. docs/how-to/metrics.md lists the metrics, each with an example of an alert. A metric
never fails a task.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Stats

if TYPE_CHECKING:
    from include.nyc_taxi.status.freshness import MonthStatus

log = logging.getLogger(__name__)

ROWS_LOADED = "nyc_taxi.rows_loaded.{fleet}"
"""A counter: the trips in months that were loaded."""
BYTES_LOADED = "nyc_taxi.bytes_loaded.{fleet}"
"""A counter: the sizes of the files of these months."""
AUDIT_WARNINGS = "nyc_taxi.audit_warnings.{fleet}"
"""A counter: the rules that these months broke."""
MONTHS_REFUSED = "nyc_taxi.months_refused.{fleet}"
"""A counter: how often the audit refused a month."""
MONTHS_MISSING = "nyc_taxi.months_missing.{fleet}"
"""A gauge: the months that the TLC has published and the warehouse lacks."""
WAREHOUSE_WAIT = "nyc_taxi.warehouse_wait"
"""A timer: how long a task has waited until the warehouse was open."""

_TRIPS = "x-nyc-taxi://ingested/taxi_trips/"


def of_event(uri: str, facts: Mapping[str, Any]) -> None:
    """Count what a load has done, by the facts that it stores with the event of the asset called `uri`."""
    if not uri.startswith(_TRIPS):
        return
    fleet = uri.removeprefix(_TRIPS)
    with _never_failing():
        Stats.incr(ROWS_LOADED.format(fleet=fleet), facts["rows"])
        Stats.incr(BYTES_LOADED.format(fleet=fleet), facts["bytes"])
        Stats.incr(AUDIT_WARNINGS.format(fleet=fleet), len(facts["quality_warnings"]))


def of_error(uri: str, error: Exception) -> None:
    """Count the refusal if the audit has refused a month."""
    if uri.startswith(_TRIPS) and getattr(error, "checks", None):
        with _never_failing():
            Stats.incr(MONTHS_REFUSED.format(fleet=uri.removeprefix(_TRIPS)))


def of_status(fleets: Iterable[str], months: Iterable[MonthStatus]) -> None:
    """Report how many published months of each fleet are not in the warehouse."""
    from include.nyc_taxi.status.freshness import State  # too slow to import for DAG files

    missing = dict.fromkeys(fleets, 0)
    for month in months:
        missing[month.fleet] += month.state in (State.MISSING, State.FAILED)
    with _never_failing():
        for fleet, number in missing.items():
            Stats.gauge(MONTHS_MISSING.format(fleet=fleet), number)


def of_wait(seconds: float) -> None:
    """Report how long this process has waited for the warehouse."""
    with _never_failing():
        Stats.timing(WAREHOUSE_WAIT, timedelta(seconds=seconds))


@contextlib.contextmanager
def _never_failing() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of any kind: a task must not be repeated for a metric
        log.warning("a metric is not sent: %s: %s", type(error).__name__, error)
