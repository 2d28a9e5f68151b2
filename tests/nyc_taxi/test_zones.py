"""The TLC's taxi zones."""

import csv
import zipfile

import geopandas
import pytest
import shapely

from include.nyc_taxi import tlc, zones
from include.nyc_taxi.errors import DownloadError, ZonesError
from include.tlc_simulator.faults import ErrorPage

NYC_BOUNDS = (-74.3, 40.45, -73.65, 40.95)  # west, south, east, north in degrees


@pytest.fixture
def made_lookup(tmp_path):
    """A lookup of 265 made-up zones; `names` replaces names, None leaves a zone out."""

    def write(names=None):
        path = tmp_path / "taxi_zone_lookup.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
            writer.writerow(zones.LOOKUP_HEADER)
            for zone_id in range(1, tlc.ZONES + 1):
                name = (names or {}).get(zone_id, f"Zone {zone_id}")
                if name is not None:
                    writer.writerow([zone_id, "N/A" if zone_id == 265 else "Queens", name, "N/A"])
        return path

    return write


@pytest.fixture
def made_shapes(tmp_path):
    """A zipped shapefile in the TLC's projection with a square for each zone, first for (OBJECTID, LocationID, name)
    of `rows`, from west to east, then for all other zones that have a shape."""

    def write(*rows):
        given = {row[0] for row in rows}
        rows += tuple((i, i, f"Zone {i}") for i in range(1, 264) if i not in given)
        corners = [(980_000 + 1000 * (i % 20), 190_000 + 1000 * (i // 20)) for i in range(len(rows))]
        squares = [shapely.box(x, y, x + 1000, y + 1000) for x, y in corners]
        columns = dict(zip(("OBJECTID", "LocationID", "zone"), zip(*rows, strict=True), strict=True))
        frame = geopandas.GeoDataFrame(columns, geometry=squares, crs="EPSG:2263")
        folder = tmp_path / "shapes"
        folder.mkdir()
        frame.to_file(folder / "taxi_zones.shp")
        with zipfile.ZipFile(tmp_path / "taxi_zones.zip", "w") as archive:
            for part in sorted(folder.iterdir()):
                archive.write(part, part.name)
        return tmp_path / "taxi_zones.zip"

    return write


def real_lookup(real_data):
    """The rows of the real lookup by zone id."""
    with (real_data / "tlc" / "misc" / "taxi_zone_lookup.csv").open(newline="") as file:
        return {int(row["LocationID"]): row for row in csv.DictReader(file)}


class TestRealZones:
    def test_there_are_265_in_order_with_the_lookups_names_in_every_row(self, real_data, real_zones):
        lookup = real_lookup(real_data)
        assert [zone[0] for zone in real_zones] == list(range(1, 266))
        for zone_id, name, borough, service_zone, _ in real_zones:
            row = lookup[zone_id]
            assert (name, borough, service_zone) == (row["Zone"], row["Borough"], row["service_zone"]), zone_id

    def test_every_shape_is_the_one_that_the_tlc_publishes_in_degrees_for_that_name(self, real_data, real_zones):
        lookup = real_lookup(real_data)
        csv.field_size_limit(10_000_000)
        with (real_data / "tlc" / "misc" / "taxi_zones.csv").open(newline="") as file:
            published = {int(row["OBJECTID"]): row for row in csv.DictReader(file)}
        assert len(published) == 263
        for zone_id, row in published.items():
            assert row["zone"] == lookup[zone_id]["Zone"], zone_id
            ours, theirs = shapely.from_wkt(real_zones[zone_id - 1][-1]), shapely.from_wkt(row["the_geom"])
            assert ours.symmetric_difference(theirs).area < 0.001 * theirs.area, zone_id

    def test_the_three_ids_that_are_wrong_in_the_shapefile_have_their_own_shapes(self, real_data, real_zones):
        published = geopandas.read_file(real_data / "tlc" / "misc" / "taxi_zones.zip")
        assert not {57, 104, 105} & set(published["LocationID"]), "the TLC has mended its file: this test is of no use"
        shapes = {zone_id: shapely.from_wkt(wkt) for zone_id, *_, wkt in real_zones if wkt}
        assert len({shape.wkt for shape in shapes.values()}) == 263
        for zone_id, neighbour in ((57, 56), (104, 103), (105, 103)):
            assert shapes[zone_id].intersection(shapes[neighbour]).area < 1e-9

    def test_every_zone_of_the_city_has_a_valid_shape_within_the_city_in_degrees(self, real_zones):
        west, south, east, north = NYC_BOUNDS
        for zone_id, *_, wkt in real_zones[:263]:
            shape = shapely.from_wkt(wkt)
            assert shape.is_valid, zone_id
            assert not shape.is_empty, zone_id
            assert shapely.box(west, south, east, north).contains(shape), zone_id

    def test_unknown_and_outside_have_no_shape_and_na_stays_text(self, real_zones):
        assert real_zones[263:] == [
            (264, "N/A", "Unknown", "N/A", None),
            (265, "Outside of NYC", "N/A", "N/A", None),
        ]

    def test_they_are_loaded_with_265_rows_and_again_with_the_same(self, con, real_zones):
        for _ in range(2):
            assert zones.load_zones(con, real_zones) == 265
        assert con.execute("SELECT * FROM zones ORDER BY zone_id").fetchall() == real_zones
        assert con.execute("SELECT count(*) FROM zones WHERE geometry IS NULL").fetchone() == (2,)


def test_rows_are_joined_by_object_id_whatever_the_location_id_says(made_lookup, made_shapes):
    read = zones.read_zones(made_lookup(), made_shapes((56, 56, "Zone 56"), (57, 56, "Zone 57"), (3, 3, "Zone 3")))
    west = {zone[0]: shapely.from_wkt(zone[-1]).centroid.x for zone in read if zone[-1]}
    assert sorted(west) == list(range(1, 264))
    assert west[56] < west[57] < west[3] < west[1] < west[2]  # as they stand in the file


def test_shapes_come_out_in_degrees(made_lookup, made_shapes):
    west, south, east, north = NYC_BOUNDS
    for *_, wkt in zones.read_zones(made_lookup(), made_shapes())[:263]:
        assert shapely.box(west, south, east, north).contains(shapely.from_wkt(wkt))


def test_na_is_a_name_like_any_other(made_lookup, made_shapes):
    read = zones.read_zones(made_lookup({264: "N/A"}), made_shapes())
    assert read[263][1] == "N/A"
    assert read[264][2:4] == ("N/A", "N/A")


def test_a_name_that_differs_between_the_files_is_an_error_with_both_names(made_lookup, made_shapes):
    shapes = made_shapes()
    with pytest.raises(ZonesError, match=r"zone 2 is 'Zone 2', but 'Harlem' in taxi_zone_lookup\.csv"):
        zones.read_zones(made_lookup({2: "Harlem"}), shapes)


def test_a_lookup_that_lacks_an_id_is_an_error(made_lookup, made_shapes):
    with pytest.raises(ZonesError, match="expected zone ids 1 to 265, found 264 ids"):
        zones.read_zones(made_lookup({100: None}), made_shapes())


@pytest.mark.parametrize("ids", [(5, 5), (5, 266)])
def test_shapes_with_an_id_twice_or_out_of_range_are_an_error(made_lookup, made_shapes, ids):
    shapes = made_shapes(*((zone_id, zone_id, f"Zone {zone_id}") for zone_id in ids))
    with pytest.raises(ZonesError, match=r"taxi_zones\.zip: expected one row for each zone in OBJECTID, found \["):
        zones.read_zones(made_lookup(), shapes)


def test_a_shapefile_that_lacks_a_zone_is_an_error(made_lookup, made_shapes):
    with pytest.raises(ZonesError, match="expected one row for each zone in OBJECTID"):
        zones.read_zones(made_lookup(), made_shapes((264, 57, "Zone 264"), (57, 57, "Zone 57")))


def test_a_load_of_zones_that_fails_keeps_those_there_were(con, made_lookup, made_shapes):
    rows = zones.read_zones(made_lookup(), made_shapes())
    zones.load_zones(con, rows)
    with pytest.raises(Exception, match="NOT NULL"):
        zones.load_zones(con, [*rows[:10], (11, None, "Queens", "N/A", None)])
    assert con.execute("SELECT * FROM zones ORDER BY zone_id").fetchall() == rows


def test_a_new_warehouse_has_no_zones(con):
    assert zones.count_zones(con) == 0


def test_a_lookup_and_a_shapefile_pass(made_lookup, made_shapes):
    zones.verify_lookup(made_lookup())
    zones.verify_shapes(made_shapes())


@pytest.mark.parametrize(
    "content", [b"", b"<html>Not today</html>", b"LocationID,Borough,Zone\n1,a,b\n", b"\xff\xfe\x00"]
)
def test_what_is_no_lookup_is_refused_with_what_was_expected(tmp_path, content):
    path = tmp_path / "lookup.csv"
    path.write_bytes(content)
    with pytest.raises(
        DownloadError, match=r"lookup\.csv: expected the columns LocationID, Borough, Zone, service_zone"
    ):
        zones.verify_lookup(path)


def test_an_error_page_is_no_shapefile(tmp_path):
    path = tmp_path / "taxi_zones.zip"
    path.write_bytes(b"<html>Not today</html>")
    with pytest.raises(DownloadError, match="expected a ZIP archive, found a file beginning b'<html>"):
        zones.verify_shapes(path)


def test_an_archive_without_a_shapefile_is_refused_with_its_list(tmp_path):
    with zipfile.ZipFile(tmp_path / "taxi_zones.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DownloadError, match=r"expected a shapefile, found \['readme\.txt'\]"):
        zones.verify_shapes(tmp_path / "taxi_zones.zip")


def test_an_archive_with_a_damaged_member_is_refused_with_its_name(tmp_path):
    path = tmp_path / "taxi_zones.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("taxi_zones.shp", b"A" * 1000)
    path.write_bytes(path.read_bytes().replace(b"A" * 10, b"B" * 10, 1))
    with pytest.raises(DownloadError, match=r"broken: taxi_zones\.shp"):
        zones.verify_shapes(path)


def test_the_sites_two_files_come_to_raw_and_join_to_265_zones(site, data_dir):
    done = zones.download_zones(site)
    assert [one.path for one in done] == [
        data_dir / "raw" / "taxi_zone_lookup.csv",
        data_dir / "raw" / "taxi_zones.zip",
    ]
    read = zones.read_zones(zones.lookup_path(), zones.shapes_path())
    assert len(read) == 265
    assert [zone[0] for zone in read if zone[-1] is None] == [264, 265]
    assert [one.fetched for one in zones.download_zones(site)] == [False, False]


@pytest.mark.parametrize("name", ["taxi_zone_lookup", "taxi_zones.zip"])
def test_an_error_page_in_place_of_a_zone_file_is_refused(tlc_site, site, name):
    tlc_site.add_fault(name, ErrorPage("html"))
    with pytest.raises(DownloadError, match=f"{name}.*found"):
        zones.download_zones(site)
