"""The GeoJSON files conform to RFC 7946."""

import copy
import json

import pytest
import shapely

from include.nyc_taxi.months import Month
from include.nyc_taxi.reports.by_zone import aggregate_month
from include.nyc_taxi.trips.load import load_month
from include.nyc_taxi.trips.zones import load_zones, read_zones
from include.tlc_simulator import city
from tests.geojson import NotGeoJSONError, validate

SQUARE = [[-74.0, 40.7], [-73.9, 40.7], [-73.9, 40.8], [-74.0, 40.8], [-74.0, 40.7]]
HOLE = [[-73.98, 40.72], [-73.98, 40.78], [-73.92, 40.78], [-73.92, 40.72], [-73.98, 40.72]]


@pytest.fixture
def write(con, write_trips, tmp_path):
    """Load zones and a month of trips, write the two files, and return their texts."""

    def written(zones):
        load_zones(con, zones)
        load_month(con, "green", Month("2023-02"), write_trips("green", "2023-02"), "run 1")
        done = aggregate_month(con, "green", Month("2023-02"), tmp_path / "outputs")
        return done.month_file.read_text(), done.overall_file.read_text()

    return written


@pytest.fixture(params=city.ZONES_LAYOUTS)
def simulated_zones(request, tmp_path):
    """The simulator's zones, as `read_zones` returns them for either layout of the files."""
    city.write_lookup(tmp_path / "lookup.csv")
    city.write_shapes(tmp_path / "shapes.zip", request.param)
    return read_zones(tmp_path / "lookup.csv", tmp_path / "shapes.zip")


def without_orientation(zones):
    """The shapes of Manhattan as an older version wrote them: as they are in the shapefile."""
    shapes = [json.loads(shapely.to_geojson(shapely.from_wkt(zone[-1]))) for zone in zones if zone[2] == "Manhattan"]
    features = [{"type": "Feature", "properties": {}, "geometry": shape} for shape in shapes]
    return json.dumps({"type": "FeatureCollection", "features": features})


def document(*rings, kind="Polygon"):
    coordinates = [list(rings)] if kind == "MultiPolygon" else list(rings)
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, "geometry": geometry}]}


def test_files_of_simulated_zones_are_valid(write, simulated_zones):
    for text in write(simulated_zones):
        assert len(validate(text)["features"]) == 69


def test_files_of_the_real_zones_are_valid(write, real_zones):
    for text in write(real_zones):
        assert len(validate(text)["features"]) == 69


def test_what_was_written_before_is_refused(simulated_zones):
    with pytest.raises(NotGeoJSONError, match="an outer ring that runs counter-clockwise, found clockwise"):
        validate(without_orientation(simulated_zones))


def test_what_was_written_before_of_the_real_zones_is_refused(real_zones):
    with pytest.raises(NotGeoJSONError, match="an outer ring that runs counter-clockwise, found clockwise"):
        validate(without_orientation(real_zones))


@pytest.mark.parametrize("clockwise", [True, False])
def test_islands_and_holes_come_out_right_however_they_are_in_the_table(write, clockwise):
    island, ring = shapely.box(-73.8, 40.7, -73.7, 40.8), shapely.Polygon(SQUARE, [HOLE])
    shape = shapely.orient_polygons(shapely.MultiPolygon([ring, island]), exterior_cw=clockwise)
    texts = write([(4, "Alphabet City", "Manhattan", "Yellow Zone", shape.wkt)])
    for text in texts:
        (feature,) = validate(text)["features"]
        assert shapely.from_geojson(json.dumps(feature["geometry"])).equals(shape)
        assert [len(rings) for rings in feature["geometry"]["coordinates"]] == [2, 1]


class TestValidator:
    @pytest.mark.parametrize("kind", ["Polygon", "MultiPolygon"])
    def test_takes_a_ring_with_a_hole(self, kind):
        assert validate(json.dumps(document(SQUARE, HOLE, kind=kind)))

    @pytest.mark.parametrize("kind", ["Polygon", "MultiPolygon"])
    @pytest.mark.parametrize(
        ("rings", "message"),
        [
            ([SQUARE[::-1]], r"ring\[0\]: expected an outer ring that runs counter-clockwise"),
            ([SQUARE, HOLE[::-1]], r"ring\[1\]: expected a hole that runs clockwise"),
            ([SQUARE[:-1]], "a closed ring"),
            ([[SQUARE[0], SQUARE[1], SQUARE[0]]], "four positions"),
            ([[SQUARE[0], SQUARE[1], SQUARE[1], SQUARE[0]]], "has an area"),
            (
                [[[lat, lon] for lon, lat in SQUARE]],
                "runs counter-clockwise",
            ),  # reversed by the swap
            ([[[lon + 980_000, lat] for lon, lat in SQUARE]], "in degrees"),
            ([[[lon, lat + 60] for lon, lat in SQUARE]], "in degrees"),
            ([[[str(lon), lat] for lon, lat in SQUARE]], "finite numbers"),
            ([[[True, lat] for lon, lat in SQUARE]], "finite numbers"),
            ([[[lon] for lon, lat in SQUARE]], "positions"),
            ([[[float("nan"), lat] for lon, lat in SQUARE]], "found NaN"),
            ([[[float("inf"), lat] for lon, lat in SQUARE]], "found Infinity"),
            ([[[1e400, lat] for lon, lat in SQUARE]], "found Infinity"),
            ([], "a ring at least"),
        ],
    )
    def test_refuses_rings_that_are_none(self, kind, rings, message):
        with pytest.raises(NotGeoJSONError, match=message):
            validate(json.dumps(document(*rings, kind=kind)))

    @pytest.mark.parametrize(
        ("path", "change", "message"),
        [
            ((), {"crs": None}, "no member crs"),
            ((), {"type": "Feature"}, "the type FeatureCollection"),
            ((), {"features": None}, "an array"),
            ((), {"features": ...}, r"the members \['features'\]"),
            ((), {"properties": {}}, "none of the members"),
            (("features", 0), {"type": "feature"}, "the type Feature"),
            (("features", 0), {"properties": ...}, r"the members \['geometry', 'properties'\]"),
            (("features", 0), {"properties": []}, "an object as properties"),
            (("features", 0), {"geometry": ...}, "the members"),
            (("features", 0), {"id": []}, "as id a text or a number"),
            (("features", 0), {"coordinates": []}, "none of the members"),
            (("features", 0, "geometry"), {"type": "Point"}, "a Polygon or a MultiPolygon"),
            (("features", 0, "geometry"), {"coordinates": ...}, "the members"),
            (("features", 0, "geometry"), {"crs": {}}, "no member crs"),
        ],
    )
    def test_refuses_members_that_are_wrong(self, path, change, message):
        found = copy.deepcopy(document(SQUARE))
        target = found
        for step in path:
            target = target[step]
        for name, value in change.items():
            if value is ...:
                del target[name]
            else:
                target[name] = value
        with pytest.raises(NotGeoJSONError, match=message):
            validate(json.dumps(found))
