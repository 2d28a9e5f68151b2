"""Load the zones, and describe them on their assets: for `taxi_zones`, and for runs that find no zones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.orchestration import assets

if TYPE_CHECKING:
    from include.nyc_taxi.source.download import Site
    from warehouse_hook import WarehouseHook


def download_zones(site: Site, outlet_events: assets.OutletEvents) -> None:
    """Fetch the lookup and the shapefile, unless these editions are here already.

    Raises the same errors as `zones.download_zones`.
    """
    from include.nyc_taxi.trips import zones

    with assets.event(outlet_events, assets.TAXI_ZONES_FILE) as facts:
        lookup, shapes = zones.download_zones(site)
        facts.update(
            paths=[str(lookup.path), str(shapes.path)],
            bytes=lookup.edition.bytes + shapes.edition.bytes,
            editions=[vars(lookup.edition), vars(shapes.edition)],
        )


def load_zones(warehouse: WarehouseHook, outlet_events: assets.OutletEvents) -> None:
    """Replace the table `zones` by the files in raw/, in one transaction.

    The warehouse is opened only after the files have been read. Raises the same errors as `zones.read_zones`.
    """
    from include.nyc_taxi.trips import zones

    with assets.event(outlet_events, assets.TAXI_ZONES) as facts:
        rows = zones.read_zones(zones.lookup_path(), zones.shapes_path())
        with warehouse.opened() as con:
            facts.update(rows=zones.load_zones(con, rows))
