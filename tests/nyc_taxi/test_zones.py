"""The TLC's taxi zones are downloaded, read and loaded, and errors say what is wrong with the files."""

import csv
import zipfile

import geopandas
import pytest
import shapely

from include.nyc_taxi import catalogue
from include.nyc_taxi.errors import DownloadError, ZonesError
from include.nyc_taxi.trips import zones
from include.tlc_simulator import city
from include.tlc_simulator.faults import ErrorPage
from include.tlc_simulator.server import TlcSimulator
from tests.nyc_taxi.conftest import PlainSite

NYC_BOUNDS = (-74.3, 40.45, -73.65, 40.95)  # west, south, east, north in degrees


@pytest.fixture
def made_lookup(tmp_path):
    """Write a lookup of 265 fictitious zones. `names` replaces names; None omits a zone."""

    def write(names=None):
        path = tmp_path / "taxi_zone_lookup.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
            writer.writerow(zones.LOOKUP_HEADER)
            for zone_id in range(1, catalogue.ZONES + 1):
                name = (names or {}).get(zone_id, f"Zone {zone_id}")
                if name is not None:
                    writer.writerow([zone_id, "N/A" if zone_id == 265 else "Queens", name, "N/A"])
        return path

    return write


@pytest.fixture
def made_shapes(tmp_path):
    """Write a zipped shapefile in the TLC's projection with one square per zone, from west to east: first the zones of
    `rows`, given as (OBJECTID, LocationID, name), then all other zones that have a shape.

    `name` maps each part's name to its name in the archive, and None omits the part; `beside` contains further members
    of the archive; `change` may modify the frame before it is written."""

    def write(*rows, name=lambda part: part, beside=None, change=lambda frame: frame):
        given = {row[0] for row in rows}
        rows += tuple((i, i, f"Zone {i}") for i in range(1, 264) if i not in given)
        corners = [(980_000 + 1000 * (i % 20), 190_000 + 1000 * (i // 20)) for i in range(len(rows))]
        squares = [shapely.box(x, y, x + 1000, y + 1000) for x, y in corners]
        columns = dict(zip(("OBJECTID", "LocationID", "zone"), zip(*rows, strict=True), strict=True))
        frame = geopandas.GeoDataFrame(columns, geometry=squares, crs="EPSG:2263")
        folder = tmp_path / "shapes"
        folder.mkdir()
        change(frame).to_file(folder / "taxi_zones.shp")
        with zipfile.ZipFile(tmp_path / "taxi_zones.zip", "w") as archive:
            for part in sorted(folder.iterdir()):
                if name(part.name):
                    archive.write(part, name(part.name))
            for other, content in (beside or {}).items():
                archive.writestr(other, content)
        return tmp_path / "taxi_zones.zip"

    return write


def real_lookup(real_data):
    """The rows of the real lookup by zone ID."""
    with (real_data / "tlc" / "misc" / "taxi_zone_lookup.csv").open(newline="") as file:
        return {int(row["LocationID"]): row for row in csv.DictReader(file)}


class TestRealZones:
    def test_there_are_265_in_order_with_the_names_of_the_lookup(self, real_data, real_zones):
        lookup = real_lookup(real_data)
        assert [zone[0] for zone in real_zones] == list(range(1, 266))
        for zone_id, name, borough, service_zone, _ in real_zones:
            row = lookup[zone_id]
            assert (name, borough, service_zone) == (row["Zone"], row["Borough"], row["service_zone"]), zone_id

    def test_every_shape_equals_the_one_that_the_tlc_publishes_in_degrees_under_that_name(self, real_data, real_zones):
        lookup = real_lookup(real_data)
        csv.field_size_limit(10_000_000)
        with (real_data / "tlc" / "misc" / "taxi_zones.csv").open(newline="") as file:
            published = {int(row["OBJECTID"]): row for row in csv.DictReader(file)}
        assert len(published) == 263
        for zone_id, row in published.items():
            assert row["zone"] == lookup[zone_id]["Zone"], zone_id
            ours, theirs = shapely.from_wkt(real_zones[zone_id - 1][-1]), shapely.from_wkt(row["the_geom"])
            assert ours.symmetric_difference(theirs).area < 0.001 * theirs.area, zone_id

    def test_the_three_zones_with_wrong_ids_in_the_shapefile_have_their_own_shapes(self, real_data, real_zones):
        published = geopandas.read_file(real_data / "tlc" / "misc" / "taxi_zones.zip")
        assert not {57, 104, 105} & set(published["LocationID"]), (
            "the TLC has corrected its file, so this test is useless"
        )
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

    def test_unknown_and_outside_have_no_shape_and_na_remains_text(self, real_zones):
        assert real_zones[263:] == [
            (264, "N/A", "Unknown", "N/A", None),
            (265, "Outside of NYC", "N/A", "N/A", None),
        ]

    def test_loading_them_twice_gives_the_same_265_rows(self, con, real_zones):
        for _ in range(2):
            assert zones.load_zones(con, real_zones) == 265
        assert con.execute("SELECT * FROM zones ORDER BY zone_id").fetchall() == real_zones
        assert con.execute("SELECT count(*) FROM zones WHERE geometry IS NULL").fetchone() == (2,)


def test_rows_are_joined_by_object_id_if_location_ids_are_wrong(made_lookup, made_shapes):
    read = zones.read_zones(made_lookup(), made_shapes((56, 56, "Zone 56"), (57, 56, "Zone 57"), (3, 3, "Zone 3")))
    west = {zone[0]: shapely.from_wkt(zone[-1]).centroid.x for zone in read if zone[-1]}
    assert sorted(west) == list(range(1, 264))
    assert west[56] < west[57] < west[3] < west[1] < west[2]  # the order in the file


def test_shapes_are_converted_to_degrees(made_lookup, made_shapes):
    west, south, east, north = NYC_BOUNDS
    for *_, wkt in zones.read_zones(made_lookup(), made_shapes())[:263]:
        assert shapely.box(west, south, east, north).contains(shapely.from_wkt(wkt))


def test_na_is_treated_like_any_other_name(made_lookup, made_shapes):
    read = zones.read_zones(made_lookup({264: "N/A"}), made_shapes())
    assert read[263][1] == "N/A"
    assert read[264][2:4] == ("N/A", "N/A")


def test_a_name_that_differs_between_the_files_is_an_error_with_both_names(made_lookup, made_shapes):
    shapes = made_shapes()
    with pytest.raises(ZonesError, match=r"zone 2 is 'Zone 2', but 'Harlem' in taxi_zone_lookup\.csv"):
        zones.read_zones(made_lookup({2: "Harlem"}), shapes)


def test_a_lookup_that_lacks_an_id_is_an_error(made_lookup, made_shapes):
    with pytest.raises(ZonesError, match=r"expected zone ids 1 to 265, found 264 ids; missing or unknown: 100"):
        zones.read_zones(made_lookup({100: None}), made_shapes())


@pytest.mark.parametrize(
    ("ids", "found"),
    [((5, 5), "more than once 5"), ((5, 266), "unknown 266"), ((5, 264), "unknown 264"), ((5, 0), "unknown 0")],
)
def test_shapes_with_a_duplicate_or_unknown_id_are_an_error(made_lookup, made_shapes, ids, found):
    shapes = made_shapes(*((zone_id, zone_id, f"Zone {zone_id}") for zone_id in ids))
    with pytest.raises(ZonesError, match=rf"taxi_zones\.zip: expected a column with the ids .* LocationID: {found}"):
        zones.read_zones(made_lookup(), shapes)


def test_the_error_for_a_shapefile_that_lacks_a_zone_describes_each_column(made_lookup, made_shapes):
    shapes = made_shapes((264, 57, "Zone 264"), (57, 57, "Zone 57"))
    with pytest.raises(ZonesError, match=r"LocationID: more than once 57; OBJECTID: unknown 264"):
        zones.read_zones(made_lookup(), shapes)


class TestLayouts:
    """The location of the shapefile in the archive, and the column with the IDs."""

    WRONG_LOCATION_IDS = ((57, 56, "Zone 57"), (104, 103, "Zone 104"), (105, 103, "Zone 105"))
    RIGHT_LOCATION_IDS = ((1, 57, "Zone 57"), (2, 1, "Zone 1"), (57, 2, "Zone 2"))

    @pytest.mark.parametrize(
        ("name", "beside"),
        [
            (lambda part: part, {}),
            (lambda part: f"taxi_zones/{part}", {"taxi_zones/": b""}),
            (lambda part: f"a/b c/Zonen ü/{part}", {}),
            (lambda part: f"taxi_zones\\{part}", {}),
            (lambda part: part.upper(), {}),
            (lambda part: f"Taxi_Zones/{part}".replace(".shp", ".SHP").replace(".dbf", ".Dbf"), {}),
            (lambda part: part.replace("taxi_zones", "TLC zones 2026") if part.endswith(".shp") else part, None),
            (
                lambda part: f"taxi_zones/{part}",
                {
                    "__MACOSX/._taxi_zones": b"\x00\x05\x16\x07",
                    "__MACOSX/taxi_zones/._taxi_zones.shp": b"\x00\x05\x16\x07",
                    "__MACOSX/taxi_zones/taxi_zones.shp": b"\x00\x05\x16\x07",
                    "taxi_zones/._taxi_zones.shp": b"\x00\x05\x16\x07",
                    "taxi_zones/._taxi_zones.dbf": b"\x00\x05\x16\x07",
                    "taxi_zones/.DS_Store": b"Bud1",
                    "taxi_zones/taxi_zones.shp.xml": b"<metadata/>",
                    "readme.txt": b"hello",
                    "other.dbf": b"no dBase file",
                    "other/taxi_zones.dbf": b"no dBase file",
                },
            ),
        ],
    )
    def test_the_shapefile_is_found_in_any_folder_and_among_any_other_files(
        self, made_lookup, made_shapes, name, beside
    ):
        if beside is None:  # only the .shp has another name, so the shapefile is incomplete
            with pytest.raises(ZonesError, match=r"expected TLC zones 2026\.shp with \.shx, \.dbf beside it"):
                zones.verify_shapes(made_shapes(name=name))
            return
        shapes = made_shapes(name=name, beside=beside)
        zones.verify_shapes(shapes)
        read = zones.read_zones(made_lookup(), shapes)
        assert [zone[0] for zone in read if zone[-1]] == list(range(1, 264))

    @pytest.mark.parametrize("other", ["old/taxi_zones.shp", "taxi_zones/zones.SHP"])
    def test_several_shapefiles_are_an_error_that_names_them(self, made_lookup, made_shapes, other):
        shapes = made_shapes(beside={other: b"any"})
        for read in (zones.verify_shapes, lambda path: zones.read_zones(made_lookup(), path)):
            with pytest.raises(ZonesError, match=rf"expected one shapefile, found 2 in .*'taxi_zones\.shp'.*'{other}'"):
                read(shapes)

    @pytest.mark.parametrize(
        ("rows", "column"), [((), "LocationID"), (WRONG_LOCATION_IDS, "OBJECTID"), (RIGHT_LOCATION_IDS, "LocationID")]
    )
    def test_the_ids_are_in_the_column_that_agrees_with_the_lookups_names(
        self, made_lookup, made_shapes, logged, rows, column
    ):
        read = zones.read_zones(made_lookup(), made_shapes(*rows))
        assert f"taxi_zones.zip: the column {column} has the zones' ids" in logged()
        west = {zone[0]: shapely.from_wkt(zone[-1]).centroid.x for zone in read if zone[-1]}
        assert sorted(west) == list(range(1, 264))
        in_file = [int(name.removeprefix("Zone ")) for _, _, name in rows]
        assert [zone_id for zone_id in sorted(west, key=west.get) if zone_id in in_file] == in_file

    def test_location_id_is_preferred_if_two_columns_fit(self, made_lookup, made_shapes, logged):
        # The TLC has zones with the same name; judged by the names, both columns are right.
        rows = (56, 57, "Corona"), (57, 56, "Corona")
        read = zones.read_zones(made_lookup({56: "Corona", 57: "Corona"}), made_shapes(*rows))
        assert "the column LocationID has the zones' ids" in logged()
        west = {zone[0]: shapely.from_wkt(zone[-1]).centroid.x for zone in read if zone[-1]}
        assert west[57] < west[56]

    @pytest.mark.parametrize(
        "change",
        [
            lambda frame: frame.rename(columns={"LocationID": "location_i", "zone": "ZONE"}),
            lambda frame: frame.drop(columns="LocationID"),
            lambda frame: frame.astype({"LocationID": float, "OBJECTID": str}),
            lambda frame: frame.astype({"LocationID": str}).assign(OBJECTID="x"),
            lambda frame: frame.to_crs("EPSG:4326"),
        ],
    )
    def test_columns_may_have_other_types_and_cases_and_the_file_another_projection(
        self, made_lookup, made_shapes, change
    ):
        read = zones.read_zones(made_lookup(), made_shapes(change=change))
        west, south, east, north = NYC_BOUNDS
        for *_, wkt in read[:263]:
            assert shapely.box(west, south, east, north).contains(shapely.from_wkt(wkt))

    @pytest.mark.parametrize(("layout", "column"), [("2026", "LocationID"), ("2023", "OBJECTID")])
    def test_both_layouts_of_the_site_give_the_same_zones(self, con, made_files, data_dir, logged, layout, column):
        with TlcSimulator(made_files, zones_layout=layout) as tlc_site:
            zones.download_zones(PlainSite(tlc_site.url))
        at_top = zipfile.Path(data_dir / "raw" / "taxi_zones.zip", "taxi_zones.shp").exists()
        assert at_top == (layout == "2023")
        read = zones.read_zones(zones.lookup_path(), zones.shapes_path())
        assert f"the column {column} has the zones' ids" in logged()
        assert zones.load_zones(con, read) == 265
        expected = city.zone_shapes().to_crs("EPSG:4326").set_index("OBJECTID").geometry
        for zone_id, *_, wkt in read[:263]:
            difference = shapely.from_wkt(wkt).symmetric_difference(expected[zone_id]).area
            assert difference < 0.001 * expected[zone_id].area, zone_id

    def test_the_real_old_file_is_downloaded_and_loaded_by_its_objectid(
        self, con, real_data, real_zones, tmp_path, data_dir, logged
    ):
        with TlcSimulator(tmp_path, serve_folder=real_data / "tlc") as tlc_site:
            zones.download_zones(PlainSite(tlc_site.url))
        read = zones.read_zones(zones.lookup_path(), zones.shapes_path())
        assert "taxi_zones.zip: the column OBJECTID has the zones' ids" in logged()
        assert read == real_zones
        assert zones.load_zones(con, read) == 265

    def test_the_real_file_in_a_folder_with_corrected_ids_gives_the_same_zones(
        self, real_data, real_zones, tmp_path, logged
    ):
        """The real shapes in the layout that the TLC has used since February 2026."""
        misc = real_data / "tlc" / "misc"
        frame = geopandas.read_file(misc / "taxi_zones.zip")
        frame = frame.assign(LocationID=frame["OBJECTID"], OBJECTID=frame["OBJECTID"].iloc[::-1].values)
        (tmp_path / "shapes").mkdir()
        frame.to_file(tmp_path / "shapes" / "taxi_zones.shp")
        with zipfile.ZipFile(tmp_path / "taxi_zones.zip", "w") as archive:
            for part in sorted((tmp_path / "shapes").iterdir()):
                archive.write(part, f"taxi_zones/{part.name}")
        assert zones.read_zones(misc / "taxi_zone_lookup.csv", tmp_path / "taxi_zones.zip") == real_zones
        assert "the column LocationID has the zones' ids" in logged()


def nothing_as_shape(frame):
    return frame.set_geometry([None, *frame.geometry[1:]], crs=frame.crs)


def point_as_shape(frame):
    return frame.set_geometry(frame.geometry.centroid)


def feet_called_degrees(frame):
    return frame.set_crs("EPSG:4326", allow_override=True)


class TestUnusableFiles:
    """Every fault of a file in raw/ raises a ZonesError, which is not retried; the file is downloaded again."""

    LOOKUP = b'"LocationID","Borough","Zone","service_zone"\r\n'
    ROWS = tuple(f'{i},"Queens","Zone {i}","N/A"'.encode() for i in range(1, 266))

    def broken_lookup(self, tmp_path, content):
        path = tmp_path / "taxi_zone_lookup.csv"
        path.write_bytes(content)
        return path

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "expected the columns LocationID, Borough, Zone, service_zone, found None"),
            (b"<html>Not today</html>", "expected the columns"),
            (b"\xff\xfe\x00", "cannot be read: UnicodeDecodeError"),
            (LOOKUP.replace(b"Borough", b"Boro"), "found .*'Boro'"),
            (LOOKUP + b"\r\n".join(ROWS).replace(b'Zone 7"', b'Zone \xfc"'), "cannot be read: UnicodeDecodeError"),
            (LOOKUP + b"\r\n".join([b'one,"Queens","Zone 1","N/A"', *ROWS[1:]]), "line 2: .* found 'one'"),
            (LOOKUP + b"\r\n".join([b'1.5,"Queens","Zone 1","N/A"', *ROWS[1:]]), "line 2: .* found '1.5'"),
            (LOOKUP + b"\r\n".join([b'nan,"Queens","Zone 1","N/A"', *ROWS[1:]]), "line 2: .* found 'nan'"),
            (LOOKUP + b"\r\n".join([b'1,"Queens"', *ROWS[1:]]), "line 2: expected 4 values"),
            (LOOKUP + b"\r\n".join([ROWS[0] + b",more", *ROWS[1:]]), "line 2: expected 4 values"),
            (LOOKUP + b"\r\n".join([*ROWS, ROWS[4]]), r"found 265 ids; more than once: 5"),
            (LOOKUP + b"\r\n".join(ROWS[:200]), r"found 200 ids"),
            (LOOKUP + b"\r\n".join(ROWS) + b'\r\n266,"Queens","New","N/A"', "missing or unknown: 266"),
            (LOOKUP + b'1,"Queens"x,"Zone 1","N/A"', "cannot be read: Error"),
        ],
    )
    def test_the_error_for_a_lookup_names_its_fault(self, tmp_path, made_shapes, content, message):
        path = self.broken_lookup(tmp_path, content)
        with pytest.raises(ZonesError, match=rf"taxi_zone_lookup\.csv.*{message}.*Clear the task that downloads it"):
            zones.read_zones(path, made_shapes())

    def test_a_lookup_with_a_byte_order_mark_and_other_columns_is_read(self, tmp_path, made_shapes):
        rows = [f"Zone {i},{i},Queens,N/A,red" for i in range(1, 266)]
        content = "\n".join(["\ufeffZone,LocationID,Borough,service_zone,colour", *rows])
        path = self.broken_lookup(tmp_path, content.encode())
        zones.verify_lookup(path)
        assert zones.read_zones(path, made_shapes())[264] == (265, "Zone 265", "Queens", "N/A", None)

    @pytest.mark.parametrize(
        ("how", "message"),
        [
            ({"change": lambda frame: frame.drop(columns="zone")}, "expected a column 'zone', found OBJECTID, Loc"),
            ({"change": lambda frame: frame.assign(LocationID="x", OBJECTID=0.5)}, "No column has whole numbers"),
            ({"change": lambda frame: frame.set_crs(None, allow_override=True)}, r"projection \(\.prj\), found none"),
            ({"name": lambda part: part if part.endswith(("shp", "shx", "dbf")) else None}, "projection .*found none"),
            ({"name": lambda part: None if part.endswith(".shx") else part}, r"with \.shx beside it"),
            ({"name": lambda part: None if part.endswith(".dbf") else part}, r"with \.dbf beside it"),
            ({"name": lambda part: None}, r"expected one shapefile, found 0 in \[\]"),
            ({"change": nothing_as_shape}, "a polygon as the shape of zone 1, found none"),
            ({"change": point_as_shape}, "a polygon as the shape of zone 1, found Point"),
            ({"change": feet_called_degrees}, "zone 1 to be on the earth, found the bounds .* another projection"),
            ({"change": lambda frame: frame.iloc[:0]}, "No column has whole numbers|cannot be read"),
        ],
    )
    @pytest.mark.filterwarnings("ignore")  # warnings about writing such files
    def test_the_error_for_a_shapefile_names_its_fault(self, made_lookup, made_shapes, how, message):
        shapes = made_shapes(**how)
        with pytest.raises(ZonesError, match=rf"taxi_zones\.zip.*({message}).*Clear the task that downloads it"):
            zones.read_zones(made_lookup(), shapes)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda content: b"",
            lambda content: b"<html>Not today</html>",
            lambda content: b"PK\x03\x04" + b"\x00" * 100,
            lambda content: content[: len(content) // 2],
            lambda content: content[len(content) // 2 :],
            lambda content: content[:3000] + bytes(2000) + content[5000:],
        ],
    )
    def test_a_damaged_archive_is_a_zones_error(self, made_lookup, made_shapes, damage):
        shapes = made_shapes()
        shapes.write_bytes(damage(shapes.read_bytes()))
        with pytest.raises(ZonesError, match=r"taxi_zones\.zip: .*cannot be read.*Clear the task that downloads it"):
            zones.read_zones(made_lookup(), shapes)

    @pytest.mark.parametrize("part", ["shp", "shx", "dbf", "prj"])
    @pytest.mark.parametrize("content", [b"", b"\x00" * 500, b"\xff" * 500, b"<html>Not today</html>"])
    @pytest.mark.filterwarnings("ignore")  # GDAL's warnings about the damaged file
    def test_a_damaged_shapefile_is_a_zones_error(self, made_lookup, made_shapes, part, content):
        shapes = made_shapes(
            name=lambda name: None if name.endswith(part) else name, beside={f"taxi_zones.{part}": content}
        )
        with pytest.raises(ZonesError, match=r"taxi_zones\.zip: .*Clear the task that downloads it"):
            zones.read_zones(made_lookup(), shapes)

    def test_names_in_another_encoding_than_the_file_declares_are_a_zones_error(self, made_lookup, made_shapes):
        shapes = made_shapes()
        with zipfile.ZipFile(shapes) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        assert parts["taxi_zones.cpg"] == b"UTF-8"
        parts["taxi_zones.dbf"] = parts["taxi_zones.dbf"].replace(b"Zone 9 ", b"Z\xf6ne 9 ")
        with zipfile.ZipFile(shapes, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
        with pytest.raises(ZonesError, match=r"taxi_zones\.zip: .*Clear the task that downloads it"):
            zones.read_zones(made_lookup(), shapes)

    def test_an_encrypted_archive_is_a_zones_error(self, made_lookup, made_shapes):
        shapes = made_shapes()
        content = bytearray(shapes.read_bytes())
        for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = content.find(signature)
            while at >= 0:
                content[at + flags] |= 1  # the flag for an encrypted member
                at = content.find(signature, at + 4)
        shapes.write_bytes(content)
        with pytest.raises(ZonesError, match=r"taxi_zones\.zip: expected a readable ZIP archive, found: .*encrypted"):
            zones.verify_shapes(shapes)
        with pytest.raises(ZonesError, match=r"taxi_zones\.zip: cannot be read: .*encrypted"):
            zones.read_zones(made_lookup(), shapes)

    def test_the_error_for_a_missing_file_says_how_to_get_it(self, made_lookup, tmp_path):
        with pytest.raises(
            ZonesError, match=r"taxi_zones\.zip: expected the TLC's file, found none; run the task `download`"
        ):
            zones.read_zones(made_lookup(), tmp_path / "taxi_zones.zip")

    def test_a_lack_of_memory_is_not_the_files_fault(self, site, monkeypatch):
        zones.download_zones(site)
        monkeypatch.setattr(zones, "_read_shapes", lambda path: (_ for _ in ()).throw(MemoryError()))
        with pytest.raises(MemoryError):
            zones.read_zones(zones.lookup_path(), zones.shapes_path())
        assert [done.fetched for done in zones.download_zones(site)] == [False, False]

    @pytest.mark.parametrize("name", ["taxi_zones.zip", "taxi_zone_lookup.csv"])
    def test_a_damaged_file_is_downloaded_again_although_the_site_has_the_same_edition(self, site, data_dir, name):
        zones.download_zones(site)
        path = data_dir / "raw" / name
        path.write_bytes(
            b"\xff" * path.stat().st_size
        )  # the size is the same, so its edition does not reveal the damage
        assert [done.fetched for done in zones.download_zones(site)] == [False, False]
        with pytest.raises(ZonesError, match=name):
            zones.read_zones(zones.lookup_path(), zones.shapes_path())
        assert [done.path.name for done in zones.download_zones(site) if done.fetched] == [name]
        assert len(zones.read_zones(zones.lookup_path(), zones.shapes_path())) == 265

    def test_both_files_are_downloaded_again_if_they_disagree(self, site):
        zones.download_zones(site)
        changed = zones.lookup_path().read_bytes().replace(b"Jamaica Bay", b"Bay Jamaica")
        zones.lookup_path().write_bytes(changed)
        with pytest.raises(ZonesError, match="zone 2 is 'Jamaica Bay', but 'Bay Jamaica' in taxi_zone_lookup"):
            zones.read_zones(zones.lookup_path(), zones.shapes_path())
        assert [done.fetched for done in zones.download_zones(site)] == [True, True]
        assert len(zones.read_zones(zones.lookup_path(), zones.shapes_path())) == 265

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("taxi_zones.zip", None, r"http://\S+/misc/taxi_zones\.zip: .*expected one shapefile, found 0"),
            ("taxi_zone_lookup.csv", b"LocationID,Borough,Zone\n", "expected the columns LocationID, Borough, Zone, s"),
        ],
    )
    def test_an_unusable_new_file_of_the_tlc_is_a_permanent_error_and_the_old_files_stay(
        self, site, tmp_path, data_dir, name, content, message
    ):
        zones.download_zones(site)
        before = (data_dir / "raw" / name).read_bytes()
        (tmp_path / "site" / "misc").mkdir(parents=True)
        for path in (zones.lookup_path(), zones.shapes_path()):
            (tmp_path / "site" / "misc" / path.name).write_bytes(path.read_bytes())
        changed = tmp_path / "site" / "misc" / name
        if content is None:
            with zipfile.ZipFile(changed, "w") as archive:
                archive.writestr("readme.txt", "hello")
        else:
            changed.write_bytes(content)
        with (
            TlcSimulator(tmp_path / "made", serve_folder=tmp_path / "site") as tlc_site,
            pytest.raises(ZonesError, match=f"{message}.*; the TLC seems to have changed the file"),
        ):
            zones.download_zones(PlainSite(tlc_site.url))
        assert (data_dir / "raw" / name).read_bytes() == before
        assert len(zones.read_zones(zones.lookup_path(), zones.shapes_path())) == 265


def test_a_failed_load_keeps_the_existing_zones(con, made_lookup, made_shapes):
    rows = zones.read_zones(made_lookup(), made_shapes())
    zones.load_zones(con, rows)
    with pytest.raises(Exception, match="NOT NULL"):
        zones.load_zones(con, [*rows[:10], (11, None, "Queens", "N/A", None)])
    assert con.execute("SELECT * FROM zones ORDER BY zone_id").fetchall() == rows


def test_a_new_warehouse_has_no_zones(con):
    assert zones.count_zones(con) == 0


def test_a_valid_lookup_and_shapefile_are_accepted(made_lookup, made_shapes):
    zones.verify_lookup(made_lookup())
    zones.verify_shapes(made_shapes())


@pytest.mark.parametrize("content", [b"", b"<html>Not today</html>", b"\xff\xfe\x00"])
def test_the_error_for_a_file_that_is_not_a_lookup_says_what_was_expected(tmp_path, content):
    path = tmp_path / "lookup.csv"
    path.write_bytes(content)
    with pytest.raises(
        DownloadError, match=r"lookup\.csv: expected the columns LocationID, Borough, Zone, service_zone"
    ):
        zones.verify_lookup(path)


def test_a_lookup_that_lacks_a_column_has_been_changed_by_the_tlc(tmp_path):
    path = tmp_path / "lookup.csv"
    path.write_bytes(b"LocationID,Borough,Zone\n1,a,b\n")
    with pytest.raises(ZonesError, match=r"lookup\.csv: expected the columns LocationID, Borough, Zone, service_zone"):
        zones.verify_lookup(path)


def test_an_error_page_is_not_accepted_as_a_shapefile(tmp_path):
    path = tmp_path / "taxi_zones.zip"
    path.write_bytes(b"<html>Not today</html>")
    with pytest.raises(DownloadError, match="expected a ZIP archive, found a file that begins with b'<html>"):
        zones.verify_shapes(path)


def test_the_error_for_an_archive_without_a_shapefile_lists_its_members(tmp_path):
    with zipfile.ZipFile(tmp_path / "taxi_zones.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ZonesError, match=r"expected one shapefile, found 0 in \['readme\.txt'\]"):
        zones.verify_shapes(tmp_path / "taxi_zones.zip")


def test_the_error_for_an_archive_with_a_damaged_member_names_the_member(tmp_path):
    path = tmp_path / "taxi_zones.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("taxi_zones.shp", b"A" * 1000)
    path.write_bytes(path.read_bytes().replace(b"A" * 10, b"B" * 10, 1))
    with pytest.raises(DownloadError, match=r"found one whose taxi_zones\.shp is damaged"):
        zones.verify_shapes(path)


def test_the_sites_two_files_are_downloaded_to_raw_and_joined_to_265_zones(site, data_dir):
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
def test_an_error_page_instead_of_a_zone_file_is_refused(tlc_site, site, name):
    tlc_site.add_fault(name, ErrorPage("html"))
    with pytest.raises(DownloadError, match=f"{name}.*found"):
        zones.download_zones(site)
