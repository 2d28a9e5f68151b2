"""The assets that tasks read and make: the lineage that the web UI shows.

A URI says what a thing is, not where it lies: the data directory is a setting of the run, and these are parsed before.

The zones are an inlet of `load` only, though what reads trips reads them too. Airflow 3.3 draws an asset's graph by
looking at each task once, as a reader or as a maker: were the zones an inlet further on, it would come to `load` as one
of their readers, and never to what else `load` reads, the TLC's files.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from include.nyc_taxi import catalogue
from include.orchestration.compat import make_asset

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Asset

RAW_FILES, INGESTED, METRICS, REQUESTS = "raw_files", "ingested", "metrics", "requests"


def _asset(group: str, *path: str, description: str) -> Asset:
    uri = f"x-nyc-taxi://{group}/{'/'.join(path)}"
    return make_asset(name="_".join(path), uri=uri, group=group, description=description)


TAXI_ZONES_FILE = _asset(
    RAW_FILES, "taxi_zones_file", description="The TLC's zone lookup (CSV) and zone geometry (shapefile), in raw/"
)
TAXI_ZONES = _asset(INGESTED, "taxi_zones", description="The table zones: 265 taxi zones with borough and shape")
ADHOC_REQUEST = _asset(
    REQUESTS,
    "adhoc_request",
    description="Reports on demand: a borough's trips by hour and weekday, in outputs/requests/ (PNG, CSV)",
)


def trips_file(fleet: str) -> Asset:
    """The fleet's files as the TLC published them."""
    return _asset(
        RAW_FILES, "taxi_trips_file", fleet, description=f"The TLC's {fleet} trip records, one Parquet file a month"
    )


def trips(fleet: str) -> Asset:
    """The fleet's table of trips."""
    return _asset(
        INGESTED, "taxi_trips", fleet, description=f"The table {fleet}_trips: all {fleet} trips of the months loaded"
    )


def manhattan_stats(fleet: str) -> Asset:
    """The fleet's trips by Manhattan zone: the table `trips_by_zone` and GeoJSON."""
    return _asset(
        METRICS,
        "manhattan_stats",
        fleet,
        description=f"{catalogue.fleet(fleet).title}, trips by pickup zone: the table trips_by_zone, "
        "GeoJSON of Manhattan",
    )


def manhattan_map(fleet: str) -> Asset:
    """The fleet's maps of Manhattan."""
    return _asset(
        METRICS, "manhattan_map", fleet, description=f"Maps of {fleet} pickups in Manhattan: one a month, one of all"
    )


def trips_by_week(fleet: str) -> Asset:
    """The fleet's weekly figures: the table `trips_by_week`, CSV and a chart."""
    return _asset(
        METRICS,
        "trips_by_week",
        fleet,
        description=f"{catalogue.fleet(fleet).title}, {weekly_figures(fleet)} by week: table, CSV and line chart",
    )


def weekly_figures(fleet: str) -> str:
    """What `trips_by_week` has of the fleet, in words: its files may lack amounts, distances or passengers."""
    words = {"total_amount": "money", "trip_distance": "miles", "passenger_count": "passengers"}
    *first, last = ["trips", *(word for name, word in words.items() if name in catalogue.fleet(fleet).column_names)]
    return f"{', '.join(first)} and {last}" if first else last


@contextlib.contextmanager
def event(outlet_events: Mapping[Asset, Any], asset: Asset, **facts: Any) -> Iterator[dict[str, Any]]:
    """Yield a dict for what a task did (rows, bytes, paths …); it goes on the asset event that the task will emit.

    `seconds`, how long the block took, is added. A block that raises emits nothing.
    """
    started = time.monotonic()
    yield facts
    facts["seconds"] = round(time.monotonic() - started, 3)
    outlet_events[asset].extra = facts


def no_events(task: Any) -> None:
    """Have the task that is running emit no event, for it has made nothing.

    A task that succeeds emits one for each of its outlets, whatever it has done. `task` is the run's own copy, from the
    context: the DAG, and with it the lineage, keeps the outlets.
    """
    task.outlets = []
