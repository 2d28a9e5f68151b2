"""Bring the zones into the warehouse, and note it on their assets: for `taxi_zones`, and for runs that find none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from include.orchestration import assets

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Asset

    from include.nyc_taxi.source.download import Site


def download_zones(site: Site, outlet_events: Mapping[Asset, Any]) -> None:
    """Fetch the lookup and the shapefile, unless the same editions are here. Raises as `zones.download_zones` does."""
    from include.nyc_taxi.trips import zones

    with assets.event(outlet_events, assets.TAXI_ZONES_FILE) as facts:
        lookup, shapes = zones.download_zones(site)
        facts.update(paths=[str(lookup.path), str(shapes.path)], bytes=lookup.edition.bytes + shapes.edition.bytes)


def load_zones(warehouse: Any, outlet_events: Mapping[Asset, Any]) -> None:
    """Replace the table `zones` by what is in raw/, in one transaction. Raises as `zones.read_zones` does.

    Args:
        warehouse: the WarehouseHook. It is opened when the files are read, not before.
    """
    from include.nyc_taxi.trips import zones

    with assets.event(outlet_events, assets.TAXI_ZONES) as facts:
        rows = zones.read_zones(zones.lookup_path(), zones.shapes_path())
        with warehouse.opened() as con:
            facts.update(rows=zones.load_zones(con, rows))
