"""The assets that tasks read and produce, from which the web UI draws the lineage.

A URI identifies an asset but does not locate it, because the data directory is a setting that is read when a task runs.

The zones are an outlet of `load`, which loads them if there are none. They are not among its inlets, although it reads
them: the graph would have a circle. They are an inlet of those tasks after it whose figures are by zone or borough.
Airflow 3.3 visits each task once when it draws an asset's graph. It goes on to the inlets of a task if it has come from
one of its outlets, and otherwise to its outlets. It comes to `load` from its outlets, because only the TLC's file is
before it, and so finds that file.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from include.nyc_taxi import catalogue
from include.orchestration import lineage, metrics
from include.orchestration.compat import make_asset

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Asset

OutletEvents: TypeAlias = "Mapping[Asset, Any]"
"""The context's `outlet_events`: the event of each outlet, which has an attribute `extra`."""

RAW_FILES, INGESTED, METRICS, MARTS, REQUESTS = "raw_files", "ingested", "metrics", "marts", "requests"


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
    description="Reports on demand: a borough's trips by hour and weekday, in outputs/requests/ (PNG and CSV)",
)


def trips_file(fleet: str) -> Asset:
    """The fleet's files, as the TLC published them."""
    return _asset(
        RAW_FILES, "taxi_trips_file", fleet, description=f"The TLC's {fleet} trip records, one Parquet file per month"
    )


def trips(fleet: str) -> Asset:
    """The fleet's table of trips."""
    return _asset(
        INGESTED, "taxi_trips", fleet, description=f"The table {fleet}_trips: all {fleet} trips in the loaded months"
    )


def manhattan_stats(fleet: str) -> Asset:
    """The fleet's trips by zone: the table `trips_by_zone`, and GeoJSON files of Manhattan."""
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
        METRICS,
        "manhattan_map",
        fleet,
        description=f"Maps of {fleet} pickups in Manhattan: one per month, and one of all months",
    )


def trips_by_week(fleet: str) -> Asset:
    """The fleet's weekly figures: the table `trips_by_week`, a CSV file and a chart."""
    return _asset(
        METRICS,
        "trips_by_week",
        fleet,
        description=f"{catalogue.fleet(fleet).title}, {weekly_figures(fleet)} by week: table, CSV and line chart",
    )


def weekly_figures(fleet: str) -> str:
    """List the fleet's figures in `trips_by_week`. Some fleets' files lack amounts, distances or passengers."""
    words = {"total_amount": "money", "trip_distance": "miles", "passenger_count": "passengers"}
    *first, last = ["trips", *(word for name, word in words.items() if name in catalogue.fleet(fleet).column_names)]
    return f"{', '.join(first)} and {last}" if first else last


def mart(name: str, fleet: str) -> Asset:
    """The fleet's months in a mart that dbt builds."""
    return make_asset(
        name=f"marts_{name}_{fleet}",  # a DAG of the user's own may well make an asset that is called after its table
        uri=f"x-nyc-taxi://{MARTS}/{name}/{fleet}",
        group=MARTS,
        description=f"{catalogue.fleet(fleet).title}: the mart {name}, built by dbt",
    )


def airport_chart(fleet: str) -> Asset:
    """The fleet's charts of airport trips."""
    return _asset(
        METRICS,
        "airport_chart",
        fleet,
        description=f"{catalogue.fleet(fleet).title}, trips from and to airports: a CSV file and a chart per month",
    )


MARKET_SHARE_CHART = _asset(
    METRICS,
    "market_share_chart",
    description="Each fleet's share of the pickups by borough: a CSV file and a chart per month, for all fleets",
)


@contextlib.contextmanager
def event(outlet_events: OutletEvents, asset: Asset, **facts: Any) -> Iterator[dict[str, Any]]:
    """Yield a dict for facts about what a task did (rows, bytes, paths …), to be stored with the task's asset event.

    The block's duration is added as `seconds`. If the block raises an error, nothing is stored. The facts are also sent
    as lineage and metrics. That may take seconds, so the warehouse is to be opened and closed within the block.
    """
    started = time.monotonic()
    try:
        yield facts
    except Exception as error:
        metrics.of_error(asset.uri, error)
        lineage.tell_refusal(asset.uri, facts.get("month"), error)
        raise
    facts["seconds"] = round(time.monotonic() - started, 3)
    outlet_events[asset].extra = facts
    metrics.of_event(asset.uri, facts)
    lineage.tell(asset.uri, facts)


def no_events(task: Any, *made_nothing_of: Asset) -> None:
    """Make a running task emit no events on these of its outlets, because it has produced nothing there.

    Otherwise a task that succeeds emits an event for each of its outlets. `task` is the run's own copy from the
    context, so the DAG keeps its outlets, and the lineage does not change.
    """
    silent = {asset.uri for asset in made_nothing_of}
    task.outlets = [asset for asset in task.outlets if asset.uri not in silent]
