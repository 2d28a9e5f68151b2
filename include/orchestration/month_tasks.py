"""What the tasks of `taxi_trips_<fleet>` decide, and what they store with their asset events."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException

from include.nyc_taxi.months import Month
from include.orchestration import assets, lineage, zones
from include.orchestration.month import is_backfill_or_cleared

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from include.nyc_taxi.source.download import Download, Site
    from include.nyc_taxi.trips.load import Load
    from warehouse_hook import WarehouseHook

log = logging.getLogger(__name__)


def for_load(context: Mapping[str, Any], done: Download) -> dict[str, Any]:
    """What the task `download` returns: what `load` has to know of it, as values that JSON can hold.

    Whether somebody has cleared it is part of that. Airflow does not tell `load` that it has been cleared too if it had
    not started before, because another task had failed.
    """
    is_asked_for = is_backfill_or_cleared(context["dag_run"], context["task"], context["ti"])
    return {"fetched": done.fetched, "edition": vars(done.edition), "is_asked_for": is_asked_for}


@contextlib.contextmanager
def warehouse_for_load(
    warehouse: WarehouseHook,
    site: Site,
    fleet: str,
    month: str,
    downloaded: Mapping[str, Any] | None,
    context: Mapping[str, Any],
) -> Iterator[DuckDBPyConnection]:
    """Open the warehouse to load a month; skip the task, and so the tasks after it, if nothing is left to do.

    If the warehouse has no zones, they are loaded first, with events on their assets, and the month is loaded in any
    case: a task that is skipped leaves no events. They stay loaded even if the month is refused.

    Args:
        downloaded: what `for_load` has returned; None if it was an older version, which returned nothing.
        context: the context of the task `load`.

    Raises:
        AirflowSkipException: there is nothing to do. The message says why.
        DownloadError, ZonesError: the zones could not be loaded.
    """
    from include.nyc_taxi.trips.zones import count_zones

    with warehouse.opened() as con:
        has_zones = count_zones(con) > 0
        reason = _reason_to_skip(con, fleet, Month(month), downloaded, context) if has_zones else None
        if has_zones and not reason:
            assets.no_events(context["task"], assets.TAXI_ZONES_FILE, assets.TAXI_ZONES)
            yield con
            return
    if reason:
        lineage.tell_reading("zones", "latest_loads")
        log.info(reason)  # the web UI hides the reason of a skipped task
        raise AirflowSkipException(reason)
    zones.download_zones(site, context["outlet_events"])
    zones.load_zones(warehouse, context["outlet_events"])
    with warehouse.opened() as con:
        yield con


def _reason_to_skip(
    con: DuckDBPyConnection, fleet: str, month: Month, downloaded: Mapping[str, Any] | None, context: Mapping[str, Any]
) -> str | None:
    """Say why there is nothing to do; None if there is something, or if somebody has asked to repeat it.

    A backfill, a run that is cleared, a run whose parameter `again` is true, and a run that has loaded the month before
    always repeat the work, even if another run has loaded the month.
    """
    from include.nyc_taxi.settings import outputs_dir
    from include.nyc_taxi.source.download import Download, Edition, month_path
    from include.nyc_taxi.trips.loaded import loaded_months
    from include.nyc_taxi.trips.up_to_date import reason_to_skip

    dag_run, loaded = context["dag_run"], loaded_months(con, fleet).get(month)
    is_repeated = loaded and loaded.run_id == dag_run.run_id
    if is_repeated or context["params"].get("again") or is_backfill_or_cleared(dag_run, context["task"], context["ti"]):
        return None
    if downloaded is None or downloaded["is_asked_for"]:
        return None
    done = Download(month_path(fleet, month), Edition(**downloaded["edition"]), downloaded["fetched"])
    return reason_to_skip(fleet, month, done, loaded, outputs_dir(fleet))


def load_facts(done: Load) -> dict[str, Any]:
    """What a load stores with its asset event."""
    return {
        "rows": done.rows_loaded,
        "bytes": done.bytes,
        "etag": done.etag,
        "last_modified": done.last_modified,
        "quality": done.quality,
        "quality_checks": {check.rule: check.value for check in done.checks},
        "quality_warnings": [check.detail for check in done.checks if not check.passed],
        "unknown_columns": list(done.unknown_columns),
        "simulated": done.simulated,
        "changes": done.changes,
        "weeks_counted_again": [monday.isoformat() for monday in done.weeks],
    }
