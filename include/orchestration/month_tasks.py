"""What the tasks of `taxi_trips_<fleet>` decide, and what they store with their asset events."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException

from include.nyc_taxi.months import Month
from include.orchestration import assets, lineage, zones
from include.orchestration.month import is_backfill_or_cleared

if TYPE_CHECKING:
    from include.nyc_taxi.source.download import Download, Site
    from include.nyc_taxi.trips.load import Load
    from warehouse_hook import WarehouseHook

log = logging.getLogger(__name__)


def prepare(
    warehouse: WarehouseHook, site: Site, fleet: str, month: str, task: Any, outlet_events: assets.OutletEvents
) -> dict[str, Any] | None:
    """Load the zones if the warehouse has none. Otherwise return how the month is loaded, or None if it is not.

    Returns:
        What `up_to_date.as_values` returns, for `skip_if_up_to_date` and for the alert.
    """
    from include.nyc_taxi.trips.loaded import loaded_months
    from include.nyc_taxi.trips.up_to_date import as_values
    from include.nyc_taxi.trips.zones import count_zones

    with warehouse.transaction() as con:
        has_zones = count_zones(con) > 0
        load = loaded_months(con, fleet).get(month) if has_zones else None
    if has_zones:
        assets.no_events(task)
        lineage.tell_reading("zones", "latest_loads")
        return as_values(load) if load else None
    zones.download_zones(site, outlet_events)
    zones.load_zones(warehouse, outlet_events)
    return None


def skip_if_up_to_date(
    context: Mapping[str, Any], fleet: str, month: str, done: Download, loaded: Mapping[str, Any] | None
) -> None:
    """Skip the task, and so the tasks after it, if they have nothing to do and nobody has asked to repeat them.

    A backfill, a run that is cleared, and a run whose parameter `again` is true always repeat the work, even if another
    run has loaded the month.

    Args:
        context: the task's.
        loaded: what `prepare` has returned.

    Raises:
        AirflowSkipException: there is nothing to do. The message says why.
    """
    from include.nyc_taxi.settings import outputs_dir
    from include.nyc_taxi.trips.up_to_date import reason_to_skip

    dag_run = context["dag_run"]
    is_repeated = loaded and loaded["run_id"] == dag_run.run_id
    if is_repeated or context["params"].get("again") or is_backfill_or_cleared(dag_run, context["task"], context["ti"]):
        return
    if reason := reason_to_skip(fleet, Month(month), done, loaded, outputs_dir(fleet)):
        log.info(reason)  # the web UI hides the reason of a skipped task
        raise AirflowSkipException(reason)


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
