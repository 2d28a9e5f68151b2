"""Zone IDs from coordinates are compared with shapely's point-in-polygon test."""

import itertools
import math

import duckdb
import numpy as np
import pytest
import shapely

from include.nyc_taxi import warehouse
from include.nyc_taxi.errors import ZonesError
from include.nyc_taxi.trips import coordinates, zones
from include.tlc_simulator import city

CELL = 1 / coordinates.CELLS_PER_DEGREE
WEST, SOUTH = -74.0, 40.75  # the corner of a cell in the middle of the city
ON_A_BORDER = 1e-9
"""In degrees, about a tenth of a millimetre. Closer to a border, rounding decides."""


@pytest.fixture(scope="session")
def simulated_zones(tmp_path_factory):
    """The simulator's zones, as returned by `read_zones`."""
    folder = tmp_path_factory.mktemp("city")
    city.write_lookup(folder / "lookup.csv")
    city.write_shapes(folder / "shapes.zip")
    return zones.read_zones(folder / "lookup.csv", folder / "shapes.zip")


@pytest.fixture(scope="module", params=["real_zones", "simulated_zones"])
def city_zones(request):
    """A connection to an in-memory warehouse with a city's zones, and their polygons by zone ID."""
    rows = request.getfixturevalue(request.param)
    with duckdb.connect() as con:
        zones.load_zones(con, rows)
        coordinates.prepare(con)
        yield con, {zone_id: shapely.from_wkt(wkt) for zone_id, *_, wkt in rows if wkt}


@pytest.fixture
def add_zones(con):
    """Insert polygons, given by ID, into the warehouse as zones."""

    def add(shapes):
        rows = [(zone_id, f"Zone {zone_id}", "Queens", "Boro Zone", shape.wkt) for zone_id, shape in shapes.items()]
        con.executemany("INSERT INTO zones VALUES (?, ?, ?, ?, ?)", rows)

    return add


@pytest.fixture
def find(con):
    """Find the zone IDs of places with the current zones of the warehouse; see `look_up`."""

    def find(places):
        coordinates.prepare(con)
        return look_up(con, places)

    return find


def look_up(con, places):
    """The zone IDs of places, an array of (longitude, latitude), in their order; None for places in no zone."""
    places = np.asarray(places, dtype=float)
    con.register("places", {"i": np.arange(len(places)), "lon": places[:, 0].copy(), "lat": places[:, 1].copy()})
    found = con.execute(
        f"SELECT i, {coordinates.zone_id('lon', 'lat', 'cell')} FROM places "
        f"{coordinates.join('lon', 'lat', 'cell')} ORDER BY i"
    ).fetchall()
    assert [i for i, _ in found] == list(range(len(places))), "a row is lost or duplicated"
    return [zone_id for _, zone_id in found]


def by_shapely(shapes, places):
    """For each place, the IDs of all zones that contain it or have it on their border."""
    ids = list(shapes)
    indices, hits = shapely.STRtree(list(shapes.values())).query(shapely.points(places), predicate="intersects")
    found = [set() for _ in places]
    for index, hit in zip(indices, hits, strict=True):
        found[index].add(ids[hit])
    return found


def assert_as_shapely_says(shapes, places, found):
    """Assert that each place has the lowest of its zones. On a border, any zone that meets there, or none, is right."""
    places, wanted = np.asarray(places), by_shapely(shapes, places)
    differ = [i for i, zone_id in enumerate(found) if zone_id != min(wanted[i], default=None)]
    borders = shapely.boundary(list(shapes.values()))
    for i in differ:
        meeting = shapely.dwithin(borders, shapely.Point(places[i]), ON_A_BORDER)
        allowed = {None, *wanted[i], *(zone_id for zone_id, meets in zip(shapes, meeting, strict=True) if meets)}
        assert meeting.any(), f"{places[i]}: found {found[i]}, shapely says {wanted[i]}"
        assert found[i] in allowed, f"{places[i]}: found {found[i]}, on the border of {allowed}"


def corners_of(shapes):
    return shapely.get_coordinates(list(shapes.values()))


class TestTheCity:
    def test_places_everywhere_in_and_around_the_city(self, city_zones):
        con, shapes = city_zones
        places = np.random.default_rng(1).uniform((-74.35, 40.4), (-73.6, 41.0), (60_000, 2))
        found = look_up(con, places)
        assert len({*found}) > 250  # of 263; the other zones are smaller than the distance between places
        assert None in found
        assert_as_shapely_says(shapes, places, found)

    @pytest.mark.parametrize("metres", [0.01, 1, 30])
    def test_places_near_the_corners_of_zones(self, city_zones, metres):
        con, shapes = city_zones
        corners = np.random.default_rng(2).choice(corners_of(shapes), 20_000)
        places = corners + np.random.default_rng(3).normal(0, metres / 100_000, corners.shape)
        assert_as_shapely_says(shapes, places, look_up(con, places))

    def test_corners_of_zones_get_a_zone_that_has_them(self, city_zones):
        con, shapes = city_zones
        corners = np.random.default_rng(7).choice(corners_of(shapes), 3000)
        assert_as_shapely_says(shapes, corners, look_up(con, corners))

    def test_places_on_the_borders_of_cells(self, city_zones):
        con, shapes = city_zones
        west, south, east, north = (round(degrees / CELL) for degrees in (-74.3, 40.45, -73.65, 40.95))
        places = np.random.default_rng(4).integers((west, south), (east, north), (20_000, 2)) * CELL
        places[::4, 0] += CELL / 3  # on the south side of a cell
        places[1::4, 1] += CELL / 3  # on the west side
        places[2::4] = np.nextafter(places[2::4], -np.inf)  # the last floating-point number before a corner
        assert_as_shapely_says(shapes, places, look_up(con, places))

    def test_places_on_a_shared_border_get_one_of_its_two_zones(self, city_zones):
        con, shapes = city_zones
        ids, polygons = list(shapes), list(shapes.values())
        places, neighbours = [], []
        for a, b in shapely.STRtree(polygons).query(polygons, predicate="touches").T:
            border = shapely.get_parts(polygons[a].intersection(polygons[b]))
            for line in [part for part in border if part.geom_type == "LineString"][:3]:
                (x0, y0), (x1, y1) = line.coords[:2]
                places.append(((x0 + x1) / 2, (y0 + y1) / 2))
                neighbours.append({ids[a], ids[b]})
        assert len(places) > 200
        assert_as_shapely_says(shapes, places, look_up(con, places))
        for place, zone_id, pair in zip(places, look_up(con, places), neighbours, strict=True):
            assert zone_id in pair, place

    def test_two_places_per_row_of_a_file_keep_each_of_100_000_rows_once(self, city_zones, tmp_path):
        con, shapes = city_zones
        trips, rows = tmp_path / "trips.parquet", 100_000
        random = np.random.default_rng(8)
        places = {"pickup": random.uniform((-74.05, 40.6), (-73.85, 40.85), (rows, 2))}
        places["dropoff"] = random.permutation(places["pickup"])
        places["pickup"][::100, 0], places["pickup"][50::100] = np.nan, 0
        places["dropoff"][::200, 1], places["dropoff"][99::200, 0] = np.inf, -3509.015037
        columns = {
            f"{name}_{axis}": at[:, i].copy() for name, at in places.items() for i, axis in enumerate(("lon", "lat"))
        }
        con.register("made", {"i": np.arange(rows), **columns})
        con.execute(f"COPY made TO '{trips}' (FORMAT parquet)")
        con.execute("CREATE OR REPLACE TABLE found (i BIGINT, pickup SMALLINT, dropoff SMALLINT)")
        with warehouse.transaction(con):
            coordinates.prepare(con)
            inserted = con.execute(
                f"INSERT INTO found SELECT i, {coordinates.zone_id('pickup_lon', 'pickup_lat', 'a')}, "
                f"{coordinates.zone_id('dropoff_lon', 'dropoff_lat', 'b')} FROM read_parquet($path) "
                f"{coordinates.join('pickup_lon', 'pickup_lat', 'a')} "
                f"{coordinates.join('dropoff_lon', 'dropoff_lat', 'b')}",
                {"path": str(trips)},
            ).fetchone()
        assert inserted == (rows,)
        found = con.execute("SELECT i, pickup, dropoff FROM found ORDER BY i").fetchall()
        assert [i for i, *_ in found] == list(range(rows))
        for column, at in enumerate(places.values(), start=1):
            sample = [i for i in range(0, rows, 7) if np.isfinite(at[i]).all()]
            assert_as_shapely_says(shapes, at[sample], [found[i][column] for i in sample])
            assert {row[column] for row in found if not np.isfinite(at[row[0]]).all()} == {None}


def test_all_available_real_trips_of_2009_and_2010(real_data, con, find, real_zones):
    zones.load_zones(con, real_zones)
    samples = real_data / "tlc-samples" / "trip-data"
    places = con.execute(
        f"SELECT Start_Lon, Start_Lat FROM '{samples}/yellow_tripdata_2009-01.parquet' UNION ALL "
        f"SELECT End_Lon, End_Lat FROM '{samples}/yellow_tripdata_2009-01.parquet' UNION ALL "
        f"SELECT pickup_longitude, pickup_latitude FROM '{samples}/yellow_tripdata_2010-0[12].parquet' UNION ALL "
        f"SELECT dropoff_longitude, dropoff_latitude FROM '{samples}/yellow_tripdata_2010-0[12].parquet'"
    ).fetchall()
    assert len(places) == 6 * 98
    found = find(places)
    assert_as_shapely_says({i: shapely.from_wkt(wkt) for i, *_, wkt in real_zones if wkt}, places, found)
    nowhere = [place for place, zone_id in zip(places, found, strict=True) if zone_id is None and 0 not in place]
    assert nowhere == [(-73.855753, 40.770402)]  # in the water near LaGuardia Airport


class TestShapes:
    def test_a_place_in_overlapping_zones_gets_the_lowest_id(self, add_zones, find):
        shapes = {
            9: shapely.box(WEST, SOUTH, WEST + 3.3 * CELL, SOUTH + 3.3 * CELL),
            5: shapely.box(WEST + 1.1 * CELL, SOUTH + 1.2 * CELL, WEST + 7.5 * CELL, SOUTH + 7.7 * CELL),
            7: shapely.box(WEST + 1.15 * CELL, SOUTH - 2.2 * CELL, WEST + 2.6 * CELL, SOUTH + 9.4 * CELL),
            200: shapely.box(WEST, SOUTH, WEST + 3.3 * CELL, SOUTH + 3.3 * CELL),  # the same shape as 9
        }
        add_zones(shapes)
        places = np.random.default_rng(5).uniform(
            (WEST - CELL, SOUTH - 3 * CELL), (WEST + 8 * CELL, SOUTH + 10 * CELL), (20_000, 2)
        )
        found = find(places)
        assert set(found) == {5, 7, 9, None}
        assert_as_shapely_says(shapes, places, found)

    def test_a_hole_belongs_to_no_zone_unless_another_zone_fills_it(self, add_zones, find):
        hole = shapely.Point(WEST, SOUTH).buffer(2.5 * CELL)
        island = shapely.Point(WEST, SOUTH).buffer(0.3 * CELL)
        shapes = {1: shapely.Point(WEST, SOUTH).buffer(6 * CELL) - hole, 2: island}
        add_zones(shapes)
        places = np.random.default_rng(6).uniform(
            (WEST - 7 * CELL, SOUTH - 7 * CELL), (WEST + 7 * CELL, SOUTH + 7 * CELL), (20_000, 2)
        )
        found = find([*places, (WEST, SOUTH), (WEST + CELL, SOUTH), (WEST + 4 * CELL, SOUTH)])
        assert found[-3:] == [2, None, 1]
        assert_as_shapely_says(shapes, places, found[:-3])

    def test_a_zone_of_several_polygons_contains_all_of_them(self, add_zones, find):
        islands = [shapely.Point(WEST + i * 1.7 * CELL, SOUTH + i * i * CELL).buffer(0.6 * CELL) for i in range(5)]
        add_zones({103: shapely.MultiPolygon(islands)})
        places = [(island.centroid.x, island.centroid.y) for island in islands]
        between = [((x0 + x1) / 2, (y0 + y1) / 2) for (x0, y0), (x1, y1) in itertools.pairwise(places)]
        assert find(places + between) == [103] * 5 + [None] * 4

    @pytest.mark.parametrize("seed", range(8))
    def test_triangles_with_corners_and_sides_on_the_borders_of_cells(self, add_zones, find, seed):
        random = np.random.default_rng(seed)
        half_steps = np.unique(random.integers(0, 24, (60, 2)), axis=0)
        corners = (WEST, SOUTH) + half_steps * CELL / 2
        triangles = shapely.get_parts(shapely.delaunay_triangles(shapely.MultiPoint(corners)))
        shapes = dict(zip(random.permutation(260)[: len(triangles)].tolist(), triangles, strict=True))
        add_zones(shapes)
        eighths = np.stack(np.meshgrid(np.arange(-8, 104), np.arange(-8, 104)), axis=-1).reshape(-1, 2)
        places = (WEST, SOUTH) + eighths * CELL / 8  # all corners of the triangles, and many points of their sides
        found = find(places)
        assert_as_shapely_says(shapes, places, found)
        inside = shapely.contains_properly(shapely.union_all(triangles), shapely.points(places))
        assert inside.sum() > 1000
        for zone_id, touched, within in zip(found, by_shapely(shapes, places), inside, strict=True):
            assert zone_id in touched or (zone_id is None and not within)

    @pytest.mark.parametrize("seed", range(4))
    def test_places_at_the_latitude_of_corners_that_lie_on_the_sides_of_cells(self, add_zones, find, seed):
        random = np.random.default_rng(seed)
        corners = np.column_stack([WEST + random.integers(0, 12, 60) * CELL, SOUTH + random.uniform(0, 12, 60) * CELL])
        triangles = shapely.get_parts(shapely.delaunay_triangles(shapely.MultiPoint(corners)))
        shapes = dict(enumerate(triangles, start=1))
        add_zones(shapes)
        latitudes = np.repeat(corners[:, 1], 100)  # exactly
        places = np.column_stack([WEST + random.uniform(-1, 13, len(latitudes)) * CELL, latitudes])
        assert_as_shapely_says(shapes, places, find(places))


class TestOddCoordinates:
    @pytest.mark.parametrize(
        ("longitude", "latitude"),
        [
            (0, 0),
            (0, 40.75),
            (-73.98, 0),
            (40.75, -73.98),  # swapped
            (73.98, 40.75),  # without the minus sign
            (-3509.015037, 40.75),
            (-73.98, 1e9),
            (1e9, -1e9),
            (1e300, 1e300),
            (-73.98 - 360, 40.75),
            (math.nan, 40.75),
            (-73.98, math.nan),
            (math.nan, math.nan),
            (math.inf, 40.75),
            (-math.inf, -math.inf),
            (-73.98, math.inf),
        ],
    )
    def test_places_outside_the_city_have_no_zone(self, add_zones, find, longitude, latitude):
        add_zones({1: shapely.box(-74, 40.74, -73.96, 40.76)})
        assert find([(longitude, latitude), (-73.98, 40.75)]) == [None, 1]

    @pytest.mark.parametrize("place", ["NULL, 40.75", "-73.98, NULL", "NULL, NULL"])
    @pytest.mark.parametrize("kind", ["DOUBLE", "FLOAT", "DECIMAL(9, 6)"])
    def test_null_has_no_zone_in_any_type(self, con, add_zones, place, kind):
        add_zones({1: shapely.box(-74, 40.74, -73.96, 40.76)})
        coordinates.prepare(con)
        rows = con.execute(
            f"SELECT {coordinates.zone_id('lon', 'lat', 'cell')} FROM (SELECT lon::{kind} AS lon, lat::{kind} AS lat "
            f"FROM (VALUES ({place}), (-73.98, 40.75), (-74.31, 40.75)) AS v(lon, lat)) "
            f"{coordinates.join('lon', 'lat', 'cell')}"
        ).fetchall()
        assert sorted(rows, key=str) == [(1,), (None,), (None,)]


class TestPrepare:
    @pytest.mark.parametrize("rows", ["nothing", "zones without shapes"])
    def test_without_shapes_it_says_what_to_do(self, con, rows):
        if rows != "nothing":
            con.execute("INSERT INTO zones VALUES (264, 'N/A', 'Unknown', 'N/A', NULL)")
        with pytest.raises(ZonesError, match="run the DAG taxi_zones first"):
            coordinates.prepare(con)

    def test_a_second_call_uses_the_current_zones(self, con, add_zones, find):
        add_zones({1: shapely.box(-73.96, 40.74, -73.94, 40.76)})
        assert find([(-73.95, 40.75)]) == [1]
        con.execute("UPDATE zones SET zone_id = 2")
        assert find([(-73.95, 40.75)]) == [2]

    def test_after_a_rollback_it_can_be_called_again(self, con, add_zones, find):
        add_zones({1: shapely.box(-73.96, 40.74, -73.94, 40.76)})
        con.execute("BEGIN")
        coordinates.prepare(con)
        con.execute("ROLLBACK")
        assert find([(-73.95, 40.75)]) == [1]

    def test_it_leaves_nothing_in_the_warehouse(self, con, add_zones):
        add_zones({1: shapely.box(-73.96, 40.74, -73.94, 40.76)})
        before = con.execute("SELECT table_name FROM duckdb_tables() WHERE NOT temporary").fetchall()
        coordinates.prepare(con)
        assert con.execute("SELECT table_name FROM duckdb_tables() WHERE NOT temporary").fetchall() == before

    def test_it_does_not_import_pandas(self, start_python, tmp_path):
        with duckdb.connect(str(tmp_path / "a.duckdb")) as con:
            warehouse.ensure_tables(con)
            con.execute("INSERT INTO zones VALUES (1, 'A', 'Queens', 'N/A', 'POLYGON ((0 0, 0.01 0, 0.01 0.01, 0 0))')")
        process = start_python(
            "import duckdb, sys\n"
            "from include.nyc_taxi.trips import coordinates\n"
            "from include.nyc_taxi.without_pandas import binding_without_pandas\n"
            "coordinates.prepare(binding_without_pandas(duckdb.connect(sys.argv[1])))\n"
            "print(sorted({'pandas', 'geopandas'} & set(sys.modules)))\n",
            tmp_path / "a.duckdb",
        )
        assert process.communicate()[0] == "[]\n"
