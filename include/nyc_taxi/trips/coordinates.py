"""From coordinates to zone ids, as files before 2011 need it: in SQL, within the query that reads the file.

The city is cut into a grid of small square cells. Most cells lie in one zone, so that a place's cell says its zone; the
others have a few pieces of zone borders, and a place's zone follows from those east of it, as exactly as floating point
allows. A place on a border gets one of the zones that meet there, a place in several zones the one with the lowest id.

    coordinates.prepare(con)
    con.execute(f"SELECT {zone_id('lon', 'lat', 'place')} FROM trips {join('lon', 'lat', 'place')}")
"""

import duckdb

from include.nyc_taxi.errors import ZonesError
from include.nyc_taxi.warehouse import sql

# A power of two, so that which cell a place is in, and where cells begin, has no rounding. Cells are 42 by 54 metres.
# With twice that, look-ups take a third longer, as more places are near a border; with half, `prepare` takes thrice.
CELLS_PER_DEGREE = 2048


def prepare(con: duckdb.DuckDBPyConnection) -> None:
    """Make the temporary table `zone_cells` of the grid from the table `zones`, as needed by `join`; takes a second.

    Raises:
        ZonesError: no zone in the warehouse has a shape.
    """
    import numpy  # heavy, and most months need no coordinates
    import shapely

    rows = con.execute("SELECT zone_id, geometry FROM zones WHERE geometry IS NOT NULL ORDER BY zone_id").fetchall()
    if not rows:
        raise ZonesError("the table zones has no shapes to look coordinates up in; run the DAG taxi_zones first")
    zone_ids, shapes = zip(*rows, strict=True)
    polygons, zone_of = shapely.get_parts(shapely.from_wkt(shapes), return_index=True)
    rings, polygon_of = shapely.get_rings(polygons, return_index=True)
    points, ring_of = shapely.get_coordinates(rings, return_index=True)
    within = ring_of[:-1] == ring_of[1:]  # not from one ring's last point to the next one's first
    start, end = points[:-1][within], points[1:][within]
    eastwards = (start[:, :1] < end[:, :1]) | ((start[:, :1] == end[:, :1]) & (start[:, 1:] <= end[:, 1:]))
    (x0, y0), (x1, y1) = numpy.where(eastwards, start, end).T, numpy.where(eastwards, end, start).T
    owners = numpy.array(zone_ids, dtype=numpy.int16)[zone_of[polygon_of[ring_of[:-1][within]]]]
    # DuckDB reads arrays as they are, if they are contiguous; as bound lists they would take seconds.
    columns = {"x0": x0.copy(), "y0": y0.copy(), "x1": x1.copy(), "y1": y1.copy()}
    con.register("zone_borders", {"zone_id": owners, **columns})
    con.execute(sql("zone_cells"), {"per_degree": float(CELLS_PER_DEGREE)})
    con.unregister("zone_borders")


def join(longitude: str, latitude: str, alias: str) -> str:
    """The LEFT JOIN clause that finds a place's cell: one or none, so that rows become neither more nor fewer.

    Args:
        longitude, latitude: SQL of numbers in degrees, whatever they are: null, NaN and infinity have no cell.
        alias: what the cell is called in the query, for `zone_id`.
    """
    return (
        f"LEFT JOIN zone_cells AS {alias} "
        f"ON {alias}.x = floor({longitude} * {CELLS_PER_DEGREE}) AND {alias}.y = floor({latitude} * {CELLS_PER_DEGREE})"
    )


def zone_id(longitude: str, latitude: str, alias: str) -> str:
    """SQL for the id of the zone that a place is in, null where it is in none; takes what `join` was given."""
    is_east = (
        f"{latitude} >= edge.south AND {latitude} < edge.north "
        f"AND {longitude} < edge.lon + ({latitude} - edge.south) * edge.slope"
    )
    # The product, in place of a CASE, and the logarithm below, which needs `bits` once, save a quarter of the time.
    bits = f"list_bit_xor(list_transform({alias}.edges, lambda edge: edge.bits * CAST({is_east} AS BIGINT)))"
    # The highest bit says the zone's place in the list.
    return (
        f"CASE WHEN {alias}.edges IS NULL THEN {alias}.zone_id "
        f"ELSE {alias}.zones[CAST(floor(log2(nullif({bits}, 0))) AS INTEGER) + 1] END"
    )
