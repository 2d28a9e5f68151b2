"""Convert coordinates to zone IDs in SQL, within the query that reads a file. Only files before 2011 need this.

The city is divided into a grid of small square cells. Most cells lie in a single zone, so the cell determines the zone
of a place. The other cells store the pieces of zone borders in them, and the zone of a place follows from the pieces
east of it, as exactly as floating-point numbers allow. A place on a border gets one of the zones that meet there; a
place in several zones gets the one with the lowest ID.

    coordinates.prepare(con)
    con.execute(f"SELECT {zone_id('lon', 'lat', 'place')} FROM trips {join('lon', 'lat', 'place')}")
"""

import duckdb

from include.nyc_taxi.errors import ZonesError
from include.nyc_taxi.warehouse import sql

# A power of two, so that computing a place's cell and a cell's corner involves no rounding. Cells are 42 by 54 metres.
# With cells of twice that size, look-ups take a third longer, because more cells contain borders; with cells of half
# that size, `prepare` takes three times as long.
CELLS_PER_DEGREE = 2048


def prepare(con: duckdb.DuckDBPyConnection) -> None:
    """Create the temporary table `zone_cells`, the grid that `join` needs, from the table `zones`. It takes a second.

    Raises:
        ZonesError: no zone in the warehouse has a shape.
    """
    import numpy  # slow to import, and most months have no coordinates
    import shapely

    rows = con.execute("SELECT zone_id, geometry FROM zones WHERE geometry IS NOT NULL ORDER BY zone_id").fetchall()
    if not rows:
        raise ZonesError(
            "the table zones: expected the zones' shapes, to find coordinates in them, found none; run the DAG "
            "taxi_zones first"
        )
    zone_ids, shapes = zip(*rows, strict=True)
    polygons, zone_of = shapely.get_parts(shapely.from_wkt(shapes), return_index=True)
    rings, polygon_of = shapely.get_rings(polygons, return_index=True)
    points, ring_of = shapely.get_coordinates(rings, return_index=True)
    within = ring_of[:-1] == ring_of[1:]  # excludes pairs of one ring's last point and the next ring's first point
    start, end = points[:-1][within], points[1:][within]
    eastwards = (start[:, :1] < end[:, :1]) | ((start[:, :1] == end[:, :1]) & (start[:, 1:] <= end[:, 1:]))
    (x0, y0), (x1, y1) = numpy.where(eastwards, start, end).T, numpy.where(eastwards, end, start).T
    owners = numpy.array(zone_ids, dtype=numpy.int16)[zone_of[polygon_of[ring_of[:-1][within]]]]
    # DuckDB reads contiguous arrays directly; binding them as lists would take seconds.
    columns = {"x0": x0.copy(), "y0": y0.copy(), "x1": x1.copy(), "y1": y1.copy()}
    con.register("zone_borders", {"zone_id": owners, **columns})
    con.execute(sql("zone_cells"), {"per_degree": float(CELLS_PER_DEGREE)})
    con.unregister("zone_borders")


def join(longitude: str, latitude: str, alias: str) -> str:
    """The LEFT JOIN clause that finds a place's cell. There is at most one, so the number of rows does not change.

    Args:
        longitude, latitude: SQL for numbers in degrees. Null, NaN and infinity are allowed, and have no cell.
        alias: the cell's name in the query, for `zone_id`.
    """
    return (
        f"LEFT JOIN zone_cells AS {alias} "
        f"ON {alias}.x = floor({longitude} * {CELLS_PER_DEGREE}) AND {alias}.y = floor({latitude} * {CELLS_PER_DEGREE})"
    )


def zone_id(longitude: str, latitude: str, alias: str) -> str:
    """SQL for the ID of a place's zone, null if it is in none. The arguments are those of `join`."""
    is_east = (
        f"{latitude} >= edge.south AND {latitude} < edge.north "
        f"AND {longitude} < edge.lon + ({latitude} - edge.south) * edge.slope"
    )
    # The product instead of a CASE, and the logarithm below, which needs `bits` only once, save a quarter of the time.
    bits = f"list_bit_xor(list_transform({alias}.edges, lambda edge: edge.bits * CAST({is_east} AS BIGINT)))"
    # The highest bit is the zone's position in the list.
    return (
        f"CASE WHEN {alias}.edges IS NULL THEN {alias}.zone_id "
        f"ELSE {alias}.zones[CAST(floor(log2(nullif({bits}, 0))) AS INTEGER) + 1] END"
    )
