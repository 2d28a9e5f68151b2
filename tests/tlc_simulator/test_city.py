"""The city, compared with the TLC's own files if they are available."""

import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath

import geopandas
import pytest
import shapely

from include.tlc_simulator import city, simplify


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


def test_neighbours_share_their_borders_and_overlap_nowhere(shapes: geopandas.GeoDataFrame) -> None:
    assert shapes.is_valid.all()
    assert set(shapes.geom_type) <= {"Polygon", "MultiPolygon"}
    assert shapely.coverage_is_valid(shapes.geometry.to_numpy())
    near = {57: 173, 107: 224, 161: 162, 132: 219}  # Corona, Gramercy, Midtown Center, JFK Airport: a neighbour of each
    by_id = shapes.set_index("OBJECTID").geometry
    assert all(by_id[one].intersection(by_id[other]).length > 500 for one, other in near.items())


def test_manhattan_is_a_slim_tilted_island(shapes: geopandas.GeoDataFrame) -> None:
    manhattan = shapes[shapes.borough == "Manhattan"]
    assert len(manhattan) == 69
    centres = manhattan.centroid
    assert centres.x.corr(centres.y) > 0.8
    west, south, east, north = manhattan.total_bounds
    assert north - south > 1.8 * (east - west)


def test_squares_lie_wholly_in_their_zones_and_all_over_them(shapes: geopandas.GeoDataFrame) -> None:
    in_degrees = shapes.set_index("OBJECTID").geometry.to_crs("EPSG:4326")
    area = Counter[int]()
    for square in city.squares():
        if square.zone_id in in_degrees.index:
            east, north = square.miles / 2 / 52.4, square.miles / 2 / 69
            box = shapely.box(square.lon - east, square.lat - north, square.lon + east, square.lat + north)
            assert in_degrees[square.zone_id].contains(box), square
            area[square.zone_id] += box.area
    assert {square.zone_id for square in city.squares()} == set(city.ZONES)
    assert min(Counter(square.zone_id for square in city.squares() if square.zone_id < 264).values()) >= 12
    assert min(area[zone_id] / shape.area for zone_id, shape in in_degrees.items()) > 0.15


def test_centres_are_those_of_the_shapes(shapes: geopandas.GeoDataFrame) -> None:
    assert list(city.centres()) == list(city.ZONES)
    centres = geopandas.GeoSeries.from_xy(*zip(*list(city.centres().values())[:263], strict=True), crs="EPSG:4326")
    assert centres.to_crs("EPSG:2263").distance(shapes.centroid).max() < 5


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
    for column in ("Shape_Leng", "Shape_Area"):  # written with 15 decimals
        assert shapes[column].tolist() == pytest.approx(real[column].tolist(), rel=1e-9)


def test_shapes_are_those_of_the_tlcs_shapefile_to_two_per_cent(
    shapes: geopandas.GeoDataFrame, real_data: Path
) -> None:
    real = geopandas.read_file(real_data / "tlc/misc/taxi_zones.zip")
    differing = shapes.symmetric_difference(real, align=False).area / real.area
    assert differing.median() < 0.002
    assert differing.max() < 0.02
    corners = [shapely.get_num_coordinates(each.geometry.to_numpy()).sum() for each in (shapes, real)]
    assert corners[0] < corners[1] / 5


def test_the_shapes_are_the_same_bytes_every_time(shapes_file: Path, layout: str, tmp_path: Path) -> None:
    city.write_shapes(tmp_path / "again.zip", layout)
    assert (tmp_path / "again.zip").read_bytes() == shapes_file.read_bytes()


class TestSimplify:
    def test_the_shapes_kept_here_are_what_it_makes_of_the_tlcs_file(self, tmp_path: Path, real_data: Path) -> None:
        real = geopandas.read_file(real_data / "tlc/misc/taxi_zones.zip")
        simplify.write_geojson(simplify.simplified(real), tmp_path / "again.geojson")
        assert (tmp_path / "again.geojson").read_bytes() == city.SHAPES_FILE.read_bytes()

    def test_borders_that_differ_by_a_hair_become_one(self) -> None:
        west = shapely.Polygon([(0, 0), (1000, 0), (1000.05, 300), (1000, 500), (1000, 1000), (0, 1000)])
        east = shapely.Polygon([(1000, 0), (2000, 0), (2000, 1000), (1000, 1000), (999.97, 700)])
        assert not shapely.coverage_is_valid([west, east])
        zones = simplify.simplified(geopandas.GeoDataFrame(geometry=[west, east], crs=city.FEET))
        straight = [shapely.box(0, 0, 1000, 1000), shapely.box(1000, 0, 2000, 1000)]
        assert shapely.normalize(zones.geometry.to_numpy()).tolist() == shapely.normalize(straight).tolist()

    def test_a_zone_that_whole_feet_would_break_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="some zones overlap or are invalid: try another tolerance"):
            simplify.simplified(geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 0.4, 1000)], crs=city.FEET))
