"""The assets that tasks read and make: the lineage that the web UI shows.

A URI says what a thing is, not where it lies: the data directory is a setting of the run, and these are parsed before.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from include.orchestration.airflow_line import make_asset

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Asset

RAW_FILES, INGESTED, METRICS = "raw_files", "ingested", "metrics"


def _asset(group: str, *path: str) -> Asset:
    return make_asset(name="_".join(path), uri=f"x-nyc-taxi://{group}/{'/'.join(path)}", group=group)


TAXI_ZONES_FILE = _asset(RAW_FILES, "taxi_zones_file")
TAXI_ZONES = _asset(INGESTED, "taxi_zones")


def trips_file(fleet: str) -> Asset:
    """The fleet's files as the TLC published them."""
    return _asset(RAW_FILES, "taxi_trips_file", fleet)


def trips(fleet: str) -> Asset:
    """The fleet's table of trips."""
    return _asset(INGESTED, "taxi_trips", fleet)


def manhattan_stats(fleet: str) -> Asset:
    """The fleet's trips by Manhattan zone: the table `trips_by_zone` and GeoJSON."""
    return _asset(METRICS, "manhattan_stats", fleet)


def manhattan_map(fleet: str) -> Asset:
    """The fleet's maps of Manhattan."""
    return _asset(METRICS, "manhattan_map", fleet)


@contextlib.contextmanager
def event(outlet_events: Mapping[Asset, Any], asset: Asset, **facts: Any) -> Iterator[dict[str, Any]]:
    """Yield a dict for what a task did (rows, bytes, paths …); it goes on the asset event that the task will emit.

    `seconds`, how long the block took, is added. A block that raises emits nothing.
    """
    started = time.monotonic()
    yield facts
    facts["seconds"] = round(time.monotonic() - started, 3)
    outlet_events[asset].extra = facts
