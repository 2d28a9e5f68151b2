"""The city, against the TLC's own files where they are at hand."""

import itertools
import zipfile
from pathlib import Path, PurePosixPath

import geopandas
import pytest
import shapely

from include.tlc_simulator import city


@pytest.fixture(scope="module", params=city.ZONES_LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def shapes_file(tmp_path_factory: pytest.TempPathFactory, layout: str) -> Path:
    path = tmp_path_factory.mktemp("city") / "taxi_zones.zip"
    city.write_shapes(path, layout)
    return path


@pytest.fixture(scope="module")
def shapes(shapes_file: Path, layout: str) -> geopandas.GeoDataFrame:
    return geopandas.read_file(shapes_file if layout == "2023" else f"{shapes_file}!taxi_zones/taxi_zones.shp")


def test_the_shapefile_is_in_a_folder_since_2026(shapes_file: Path, layout: str) -> None:
    with zipfile.ZipFile(shapes_file) as archive:
        found = {PurePosixPath(name) for name in archive.namelist()}
    assert {str(path.parent) for path in found} == {"." if layout == "2023" else "taxi_zones"}
    assert {path.name for path in found} >= {f"taxi_zones.{suffix}" for suffix in ("shp", "shx", "dbf", "prj")}


def test_an_unknown_layout_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no layout '2022' of the zones: expected one of 2026, 2023"):
        city.write_shapes(tmp_path / "shapes.zip", "2022")
    assert list(tmp_path.iterdir()) == []


def test_the_lookup_is_the_tlcs_to_the_byte(tmp_path: Path, real_data: Path) -> None:
    city.write_lookup(tmp_path / "lookup.csv")
    assert (tmp_path / "lookup.csv").read_bytes() == (real_data / "tlc/misc/taxi_zone_lookup.csv").read_bytes()


def test_the_lookup_has_265_zones_the_last_two_without_a_place() -> None:
    assert list(city.ZONES) == list(range(1, 266))
    assert (city.ZONES[264].borough, city.ZONES[264].name) == ("Unknown", "N/A")
    assert (city.ZONES[265].borough, city.ZONES[265].name) == ("N/A", "Outside of NYC")


def test_the_shapes_are_263_in_order_of_objectid(shapes: geopandas.GeoDataFrame) -> None:
    assert shapes.OBJECTID.tolist() == list(range(1, 264))
    assert shapes.crs.to_epsg() == 2263


def test_every_shape_is_valid_and_has_an_area(shapes: geopandas.GeoDataFrame) -> None:
    assert shapes.is_valid.all()
    assert set(shapes.geom_type) <= {"Polygon", "MultiPolygon"}
    square_miles = shapes.area / 5280**2
    assert square_miles.min() > 0.02
    assert square_miles.max() < 15


def test_no_two_boroughs_overlap(shapes: geopandas.GeoDataFrame) -> None:
    boroughs = shapes.dissolve("borough").geometry
    for one, other in itertools.combinations(boroughs.index, 2):
        assert boroughs[one].intersection(boroughs[other]).area < 1, f"{one} and {other} overlap"


def test_manhattan_is_a_slim_tilted_island(shapes: geopandas.GeoDataFrame) -> None:
    manhattan = shapes[shapes.borough == "Manhattan"]
    assert len(manhattan) == 69
    centres = manhattan.centroid
    assert centres.x.corr(centres.y) > 0.8
    west, south, east, north = manhattan.total_bounds
    assert north - south > 1.8 * (east - west)


def test_squares_lie_wholly_in_their_zones(shapes: geopandas.GeoDataFrame) -> None:
    assert {square.zone_id for square in city.squares()} == set(city.ZONES)
    in_degrees = shapes.set_index("OBJECTID").geometry.to_crs("EPSG:4326")
    for square in city.squares():
        if square.zone_id in in_degrees.index:
            east, north = square.miles / 2 / 52.4, square.miles / 2 / 69
            box = shapely.box(square.lon - east, square.lat - north, square.lon + east, square.lat + north)
            assert in_degrees[square.zone_id].contains(box), square


def test_location_ids_are_true_since_2026_and_three_were_wrong_before(
    shapes: geopandas.GeoDataFrame, layout: str
) -> None:
    wrong = shapes[shapes.LocationID != shapes.OBJECTID]
    assert dict(zip(wrong.OBJECTID, wrong.LocationID, strict=True)) == (
        {57: 56, 104: 103, 105: 103} if layout == "2023" else {}
    )


def test_columns_are_those_of_the_tlcs_shapefile(shapes: geopandas.GeoDataFrame, layout: str, real_data: Path) -> None:
    real = geopandas.read_file(real_data / "tlc/misc/taxi_zones.zip")
    assert list(shapes.columns) == list(real.columns)
    assert shapes.dtypes.astype(str).tolist() == real.dtypes.astype(str).tolist()
    for column in ("OBJECTID", "zone", "borough", *(["LocationID"] if layout == "2023" else [])):
        assert shapes[column].tolist() == real[column].tolist()


def test_zones_lie_about_where_they_are(shapes: geopandas.GeoDataFrame, real_data: Path) -> None:
    real = geopandas.read_file(real_data / "tlc/misc/taxi_zones.zip")
    miles = shapes.centroid.distance(real.centroid) / 5280
    assert miles.median() < 0.25
    assert miles.max() < 2


def test_the_shapes_are_the_same_bytes_every_time(shapes_file: Path, layout: str, tmp_path: Path) -> None:
    city.write_shapes(tmp_path / "again.zip", layout)
    assert (tmp_path / "again.zip").read_bytes() == shapes_file.read_bytes()
