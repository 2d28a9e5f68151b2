-- Divide the city into square cells of 1/$per_degree degree, in which `coordinates` finds places.
-- It reads the segments of the zones' borders from `zone_borders`, each from its west end (x0, y0) to its east end
-- (x1, y1). A cell that lies in a single zone has its zone_id. A cell with borders has edges: a place in it belongs to
-- the zones that have an odd number of edges east of the place. Each cell can be evaluated without the edges of other
-- cells: where a border leaves the cell eastwards, an edge at infinite longitude continues to the cell's north side, and
-- a zone that contains the cell's south-east corner has such an edge along the whole side.
CREATE OR REPLACE TEMP TABLE zone_cells AS
WITH
-- Segments, cut at the borders between columns of cells. A segment that two zones share is cut at the same points for
-- both, because both have it from west to east.
columns AS (
    SELECT *, unnest(range(floor(x0 * $per_degree)::BIGINT, floor(x1 * $per_degree)::BIGINT + 1)) AS x
    FROM zone_borders
),
sections AS (
    SELECT
        zone_id,
        x,
        x < floor(x1 * $per_degree) AS goes_on,
        greatest(x0, x / $per_degree) AS west,
        least(x1, (x + 1) / $per_degree) AS east,
        -- End points must keep their exact values, because the next segment begins there.
        CASE west WHEN x0 THEN y0 WHEN x1 THEN y1 ELSE y0 + (west - x0) / (x1 - x0) * (y1 - y0) END AS y_west,
        CASE east WHEN x1 THEN y1 WHEN x0 THEN y0 ELSE y0 + (east - x0) / (x1 - x0) * (y1 - y0) END AS y_east
    FROM columns
),
leaving AS (
    SELECT zone_id, x, floor(y_east * $per_degree)::BIGINT AS y, y_east AS south FROM sections WHERE goes_on
),
-- Going north along a column's east side: whether the zone contains the corner north of row y, and up to which row.
corners AS (
    SELECT zone_id, x, y, sum(count(*)) OVER northwards % 2 = 1 AS has, lead(y) OVER northwards AS last
    FROM leaving
    GROUP BY zone_id, x, y
    WINDOW northwards AS (PARTITION BY zone_id, x ORDER BY y)
),
-- An edge lies at lon + (latitude - south) * slope, for latitudes from south to below north.
edges AS (
    SELECT
        zone_id,
        x,
        least(y_west, y_east) AS south,
        greatest(y_west, y_east) AS north,
        CASE WHEN y_west < y_east THEN west ELSE east END AS lon,
        (east - west) / (y_east - y_west) AS slope,
        unnest(range(floor(south * $per_degree)::BIGINT, ceil(north * $per_degree)::BIGINT)) AS y
    FROM sections
    WHERE y_west <> y_east
    UNION ALL BY NAME
    SELECT zone_id, x, y, south, 'inf'::DOUBLE AS north, 'inf'::DOUBLE AS lon, 0 AS slope
    FROM leaving
    UNION ALL BY NAME
    SELECT
        zone_id,
        x,
        unnest(range(y + 1, last + 1)) AS y,
        '-inf'::DOUBLE AS south,
        'inf'::DOUBLE AS north,
        'inf'::DOUBLE AS lon,
        0 AS slope
    FROM corners
    WHERE has
),
-- Where zones overlap, a place gets the zone with the lowest ID: the last of `zones`.
cells AS (
    SELECT x, y, list(zone_id ORDER BY zone_id DESC) AS zones, arg_min(filled, zone_id) AS filled
    FROM (SELECT x, y, zone_id, bool_and(south = '-inf') AS filled FROM edges GROUP BY x, y, zone_id)
    GROUP BY x, y
),
-- An edge has a bit for each zone whose border it is: the bit's position is that of the zone in `zones`.
merged AS (
    SELECT x, y, south, north, lon, slope, bit_xor(1::BIGINT << (list_position(zones, zone_id) - 1)) AS bits
    FROM edges
    JOIN cells USING (x, y)
    WHERE NOT filled
    GROUP BY ALL
    HAVING bits <> 0
),
lists AS (
    SELECT x, y, list({south: south, north: north, lon: lon, slope: slope, bits: bits}) AS edges
    FROM merged
    GROUP BY x, y
)
SELECT
    x::DOUBLE AS x,
    y::DOUBLE AS y,
    CASE WHEN filled THEN zones[-1] END AS zone_id,  -- null: see edges
    CASE WHEN NOT filled THEN zones END AS zones,
    edges
FROM cells
LEFT JOIN lists USING (x, y)
