"""Maps of Manhattan."""

import json
import random
import re
import time
from pathlib import Path

import numpy
import PIL.Image
import pytest
import shapely

from include.nyc_taxi.errors import SettingError
from include.nyc_taxi.files import locked
from include.nyc_taxi.reports import maps
from include.nyc_taxi.reports.by_zone import month_stats_path, overall_stats_path
from include.tlc_simulator import city
from tests.nyc_taxi import drawing

LOCKS = Path("/proc/locks")
# South to north, each 0.02 degrees high: together about the size of the island.
ZONES = {4: 40.70, 12: 40.72, 13: 40.74, 24: 40.76, 41: 40.78, 42: 40.80, 43: 40.82, 45: 40.84}
NAMES = dict(zip(ZONES, ("Alphabet City", "Battery Park", "Chinatown", "D", "E", "F", "G", "Harlem"), strict=True))


@pytest.fixture
def stats(tmp_path):
    """Write a GeoJSON file as `aggregate` does; `trips` in the order of ZONES."""

    def write(path=tmp_path / "stats.geojson", trips=(0, 5, 10, 50, 100, 500, 1_000, 12_345), **covered):
        features = [
            {
                "type": "Feature",
                "properties": {"zone_id": zone_id, "zone": NAMES[zone_id], "borough": "Manhattan", "num_trips": count},
                "geometry": json.loads(shapely.to_geojson(shapely.box(-74.0, south, -73.95, south + 0.02))),
            }
            for (zone_id, south), count in zip(ZONES.items(), trips, strict=True)
        ]
        what = {"fleet": "green", "first_month": "2023-02", "last_month": "2023-02", "months": 1} | covered
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features} | what))
        return path

    return write


@pytest.fixture
def draw(stats, tmp_path, monkeypatch):
    """Draw a map and return its figure, which `draw_map` does not return."""

    def draw_stats(**what):
        drawn = drawing.keep_pages(monkeypatch)
        maps.draw_map(stats(**what), tmp_path / "map.png")
        (figure,) = drawn
        return figure

    return draw_stats


def legend_labels(figure):
    """The numbers beside the legend's bar, from the bottom up."""
    return [label.get_text() for label in figure.axes[1].get_yticklabels()]


def test_the_picture_is_a_png_1000_pixels_wide_and_not_blank(stats, tmp_path):
    maps.draw_map(stats(), tmp_path / "map.png")
    with PIL.Image.open(tmp_path / "map.png") as picture:
        assert picture.format == "PNG"
        assert picture.width == 1000
        pixels = numpy.asarray(picture.convert("RGB"))
    assert (pixels[0, 0] == 255).all()
    coloured = pixels.max(axis=2) - pixels.min(axis=2) > 40
    assert coloured.mean() > 0.1


def test_a_month_gives_two_pictures_with_the_designs_names(stats, tmp_path):
    stats(month_stats_path(tmp_path / "green", "2023-02"))
    stats(overall_stats_path(tmp_path / "green"), first_month="2023-01", months=2)
    drawn = maps.draw_maps("2023-02", tmp_path / "green")
    assert drawn.month_file == tmp_path / "green" / "manhattan_map_2023-02.png"
    assert drawn.overall_file == tmp_path / "green" / "manhattan_map.png"
    assert drawn.month_file.read_bytes() != drawn.overall_file.read_bytes()


def test_pictures_are_drawn_while_another_process_holds_the_warehouse(stats, tmp_path, data_dir, hold_open):
    data_dir.mkdir()
    hold_open(data_dir / "warehouse.duckdb")
    stats(month_stats_path(tmp_path / "green", "2023-02"))
    stats(overall_stats_path(tmp_path / "green"))
    drawn = maps.draw_maps("2023-02", tmp_path / "green")
    assert drawn.month_file.exists()
    assert drawn.overall_file.exists()


def test_missing_figures_are_named_and_no_picture_appears(tmp_path):
    (tmp_path / "green").mkdir()
    with pytest.raises(FileNotFoundError, match=r"manhattan_stats_2023-02\.geojson"):
        maps.draw_maps("2023-02", tmp_path / "green")
    assert list((tmp_path / "green").glob("*.png")) == []


def test_a_map_drawn_again_is_the_same_and_with_other_figures_another(stats, tmp_path):
    pictures = []
    for trips in ((1, 2, 3, 4, 5, 6, 7, 8), (1, 2, 3, 4, 5, 6, 7, 8), (8, 7, 6, 5, 4, 3, 2, 1)):
        maps.draw_map(stats(trips=trips), tmp_path / "map.png")
        pictures.append((tmp_path / "map.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_the_legend_has_thousands_separators_and_round_numbers_between_its_ends(draw):
    labels = legend_labels(draw(trips=(0, 5, 10, 50, 100, 500, 1_000, 1_234_567)))
    assert "1,000,000" in labels
    numbers = [int(label.replace(",", "")) for label in labels]
    assert [f"{number:,}" for number in numbers] == labels
    assert all(str(number).rstrip("0") in ("1", "2", "5") for number in numbers[:-1])


@pytest.mark.parametrize("most", [2, 7, 99, 12_345, 38_821, 45_000_000])
def test_the_legends_labels_cover_the_range_of_zones_with_trips(draw, most):
    figure = draw(trips=(0, 0, 0, 0, 0, 1, 1, most))
    labels = legend_labels(figure)
    assert labels[0] == "1"
    assert labels[-1] == f"{most:,}"
    assert figure.axes[1].get_ylim() == (1, most)
    assert len(labels) == len(set(labels)) <= 10


def test_the_legend_says_that_its_scale_is_not_linear_and_is_true_to_it(draw):
    figure = draw(trips=(0, 0, 0, 0, 0, 0, 0, 10_001))
    assert "(square-root scale)" in drawing.texts(figure)
    bar = figure.axes[1]
    # The square root of the distance from 1 to 10,001: 2,501 is half-way up.
    assert bar.transScale.transform([[0, 2501]])[0, 1] == pytest.approx(
        numpy.mean(bar.transScale.transform([[0, 1], [0, 10_001]])[:, 1])
    )


@pytest.mark.parametrize("most", [1, 2, 7])
def test_the_legend_of_a_few_trips_has_whole_numbers_each_once(draw, most):
    shown = legend_labels(draw(trips=(0, 0, 0, 0, 0, 0, 0, most)))
    assert shown == sorted(set(shown), key=int)
    assert all(text.isdecimal() for text in shown)
    assert int(shown[-1]) == most


def test_zones_without_trips_are_hatched_in_a_colour_that_the_scale_has_not(draw):
    figure = draw(trips=(0, 0, 1, 1, 1, 1, 1, 100))
    with_trips, without = figure.axes[0].collections
    assert (len(with_trips.get_paths()), len(without.get_paths())) == (6, 2)
    assert without.get_hatch()
    (grey,) = without.get_facecolor()
    scale = with_trips.get_cmap()(numpy.linspace(0, 1, 256))
    assert numpy.abs(scale[:, :3] - grey[:3]).max(axis=1).min() > 0.3
    assert "No trips" in drawing.texts(figure)
    # The legend shows the same.
    (swatch,) = [
        patch for patch in figure.findobj(lambda artist: getattr(artist, "get_hatch", str)()) if patch.axes is None
    ]
    assert swatch.get_facecolor() == pytest.approx(grey)


def test_few_trips_differ_from_none_and_from_many_in_print_and_with_every_kind_of_colour_blindness(draw):
    """Lightness rises along the whole scale, and zones without trips are far from its low end."""
    figure = draw(trips=(0, 0, 1, 1, 1, 1, 1, 100))
    with_trips, without = figure.axes[0].collections
    lightness = with_trips.get_cmap()(numpy.linspace(0, 1, 256))[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (numpy.diff(lightness) > 0).all()
    assert without.get_facecolor()[0, :3] @ [0.2126, 0.7152, 0.0722] - lightness[0] > 0.7


def test_the_title_says_fleet_and_month_and_the_line_below_the_trips(draw):
    title, below = drawing.texts(draw())[:2]
    assert title == "Green taxis, February 2023"
    assert below.startswith("14,010 trips that began in Manhattan")


def test_one_trip_is_not_called_trips(draw):
    assert drawing.texts(draw(trips=(0, 0, 0, 1, 0, 0, 0, 0)))[1].startswith("1 trip that began")


def test_the_title_over_months_of_two_years_has_both(draw):
    title = drawing.texts(draw(fleet="yellow", first_month="2022-12", last_month="2023-02", months=3))[0]
    assert title == "Yellow taxis, December 2022 to February 2023"


def test_the_title_over_months_of_one_year_has_it_once(draw):
    title = drawing.texts(draw(fleet="yellow", first_month="2023-01", last_month="2023-03", months=3))[0]
    assert title == "Yellow taxis, January to March 2023"


def test_the_text_says_when_months_between_are_not_loaded(draw):
    title, below = drawing.texts(draw(first_month="2022-12", last_month="2023-03", months=2))[:2]
    assert "December 2022 to March 2023" in title
    assert "2 of 4 months" in title + below


SOURCE = "NYC Taxi & Limousine Commission (TLC), from tlc.test"


def test_simulated_data_is_marked_as_such(draw):
    figure = draw(simulated=True, source="simulated trips")
    mark = next(text for text in figure.texts if text.get_text() == "Simulated data")
    assert mark.get_weight() == "bold"
    assert mark.get_fontsize() >= 14
    assert mark.get_bbox_patch() is not None


@pytest.mark.parametrize("said", [{"simulated": False}, {"simulated": None}, {}])
def test_data_that_is_not_known_to_be_simulated_is_not_marked(draw, said):
    assert "Simulated data" not in drawing.texts(draw(**said))


def test_the_source_stands_below_the_map(draw):
    source = next(text for text in draw(source=SOURCE).texts if text.get_text() == f"Source: {SOURCE}")
    assert source.get_window_extent().y1 < 60


@pytest.mark.parametrize("said", [{"source": None}, {}], ids=["not known", "a file of an older version"])
def test_a_file_that_names_no_source_makes_a_map_that_claims_none(draw, said):
    assert not any("Source" in text for text in drawing.texts(draw(**said)))


def named(figure):
    """The zones labelled on a map and their figures, busiest first: the texts after the head and the legend."""
    written = drawing.texts(figure)
    return written[written.index("No trips") + 1 :]


def test_the_five_busiest_zones_are_named_with_their_trips(draw):
    figure = draw(trips=(60, 50, 40, 0, 1, 2, 70, 1_234))
    assert named(figure) == [
        "1,234",
        "Harlem",
        "70",
        "G",
        "60",
        "Alphabet City",
        "50",
        "Battery Park",
        "40",
        "Chinatown",
    ]


def test_zones_without_trips_are_not_named(draw):
    assert named(draw(trips=(0, 3, 0, 0, 0, 0, 0, 0))) == ["3", "Battery Park"]


def test_a_line_leads_from_each_name_into_its_zone(draw):
    figure = draw(trips=(60, 50, 40, 0, 1, 2, 70, 1_234))
    lines = [line for line in figure.artists if isinstance(line, maps.Line2D)]
    ends = [line.get_xydata()[-1] for line in lines if len(line.get_xydata()) == 2]
    axes = figure.axes[0]
    south = [axes.transData.inverted().transform(end)[1] for end in ends]
    zones = [path.get_extents() for path in axes.collections[0].get_paths()]  # south to north, without zone 24
    order = [6, 5, 0, 1, 2]
    assert [zones[i].y0 < y < zones[i].y1 for i, y in zip(order, south, strict=True)] == [True] * 5


class TestNamesBesideTheIsland:
    """All five labels are readable, whichever zones are the busiest."""

    @pytest.fixture(params=["simplified", "real"])
    def manhattan(self, request):
        """The name and shape of each zone."""
        if request.param == "real":
            rows = request.getfixturevalue("real_zones")
            return [(row[1], shapely.from_wkt(row[4])) for row in rows if row[2] == "Manhattan" and row[4]]
        shapes = city.zone_shapes().to_crs("EPSG:4326")
        return [(row.zone, row.geometry) for row in shapes.itertuples() if row.borough == "Manhattan"]

    @pytest.fixture
    def draw_zones(self, manhattan, tmp_path, monkeypatch):
        def draw_busiest(busiest):
            features = [
                {
                    "type": "Feature",
                    "properties": {"zone_id": i, "zone": name, "num_trips": 9_000_000 + i if i in busiest else 5},
                    "geometry": json.loads(shapely.to_geojson(shape)),
                }
                for i, (name, shape) in enumerate(manhattan)
            ]
            what = {"fleet": "fhvhv", "first_month": "2022-12", "last_month": "2023-02", "months": 3}
            where_from = {"simulated": True, "source": SOURCE}
            (tmp_path / "stats.geojson").write_text(json.dumps({"features": features} | what | where_from))
            drawn = drawing.keep_pages(monkeypatch)
            maps.draw_map(tmp_path / "stats.geojson", tmp_path / "map.png")
            return drawn[0]

        return draw_busiest

    @pytest.mark.parametrize("seed", range(6))
    def test_none_covers_another_the_legend_or_the_title_or_leaves_the_page(self, draw_zones, manhattan, seed):
        # Some are clustered, as in reality, and some scattered.
        chosen = random.Random(seed).sample(range(len(manhattan)), 5)
        if seed % 2:
            centres = [shape.centroid for _, shape in manhattan]
            chosen = sorted(range(len(manhattan)), key=lambda i: centres[i].distance(centres[chosen[0]]))[:5]
        figure = draw_zones(set(chosen))
        assert drawing.covering_each_other(figure) == []
        assert drawing.outside_of_the_page(figure) == []
        assert len([text for text in named(figure) if text.startswith("9,000,0")]) == 5


class TestTripsPerArea:
    @pytest.fixture
    def draw_both(self, stats, tmp_path, monkeypatch):
        def draw_maps(**what):
            stats(month_stats_path(tmp_path / "green", "2023-02"), **what)
            stats(overall_stats_path(tmp_path / "green"), **what)
            drawn = drawing.keep_pages(monkeypatch)
            return maps.draw_maps("2023-02", tmp_path / "green"), drawn

        return draw_maps

    @pytest.mark.parametrize("value", [None, "", "0", "false"])
    def test_is_not_drawn_where_nobody_asks_for_it(self, draw_both, monkeypatch, tmp_path, value):
        if value is not None:
            monkeypatch.setenv("NYC_TAXI_MAP_DENSITY", value)
        done, drawn = draw_both()
        assert (done.density_month_file, done.density_overall_file) == (None, None)
        assert len(drawn) == 2
        assert not list(tmp_path.glob("green/*density*"))

    def test_has_pictures_of_its_own_beside_those_of_trips(self, draw_both, monkeypatch, tmp_path):
        monkeypatch.setenv("NYC_TAXI_MAP_DENSITY", "1")
        done, _ = draw_both()
        assert sorted(path.name for path in tmp_path.glob("green/*.png")) == [
            "manhattan_map.png",
            "manhattan_map_2023-02.png",
            "manhattan_map_density.png",
            "manhattan_map_density_2023-02.png",
        ]
        assert done.density_month_file == tmp_path / "green" / "manhattan_map_density_2023-02.png"
        assert done.density_overall_file == tmp_path / "green" / "manhattan_map_density.png"

    def test_leaves_the_pictures_of_trips_as_they_are_without_it(self, draw_both, monkeypatch):
        done, _ = draw_both()
        before = done.month_file.read_bytes()
        monkeypatch.setenv("NYC_TAXI_MAP_DENSITY", "1")
        assert draw_both()[0].month_file.read_bytes() == before

    def test_is_trips_divided_by_the_zones_area(self, draw_both, monkeypatch):
        monkeypatch.setenv("NYC_TAXI_MAP_DENSITY", "1")
        _, drawn = draw_both(trips=(0, 0, 0, 0, 0, 0, 0, 1_000))
        figure = drawn[1]
        assert "Trips per km²" in drawing.texts(figure)
        assert drawing.texts(figure)[1] == "1,000 trips that began in Manhattan, per km² of pickup zone"
        density, zone = named(figure)
        # 0.05 degrees of longitude at 40.85 north by 0.02 of latitude: 4.217 km by 2.221 km.
        assert float(density) == pytest.approx(1_000 / (4.217 * 2.221), rel=0.01)
        assert zone == "Harlem"
        assert legend_labels(figure)[0] == "0"
        assert legend_labels(figure)[-1] == density

    def test_a_setting_that_is_neither_1_nor_0_is_an_error_that_names_it(self, draw_both, monkeypatch, tmp_path):
        monkeypatch.setenv("NYC_TAXI_MAP_DENSITY", "yes please")
        with pytest.raises(SettingError, match="NYC_TAXI_MAP_DENSITY: expected 1 or 0, found 'yes please'"):
            draw_both()
        assert not list(tmp_path.glob("green/*.png"))


@pytest.mark.parametrize(
    "covered",
    [{}, {"first_month": "2022-09", "months": 6}, {"first_month": "2022-09", "months": 5}],
    ids=["one month", "six months", "five of six months"],
)
def test_all_text_is_within_the_picture(draw, covered):
    figure = draw(fleet="fhvhv", trips=(45_000_000,) * 8, simulated=True, source=SOURCE * 3, **covered)
    assert drawing.outside_of_the_page(figure) == []


def test_every_zone_is_in_view_and_more_trips_are_brighter(draw):
    axes = draw().axes[0]
    zones, without = axes.collections
    corners = numpy.vstack([path.vertices for path in (*zones.get_paths(), *without.get_paths())])
    (west, east), (south, north) = axes.get_xlim(), axes.get_ylim()
    assert len(zones.get_paths()) + len(without.get_paths()) == len(ZONES)
    assert corners[:, 0].min() >= west
    assert corners[:, 0].max() <= east
    assert corners[:, 1].min() >= south
    assert corners[:, 1].max() <= north
    brightness = zones.get_facecolor()[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (numpy.diff(brightness) > 0).all()
    assert not axes.axison


@pytest.mark.parametrize("shell_is_reversed", [False, True])
@pytest.mark.parametrize("hole_is_reversed", [False, True])
def test_a_hole_in_a_zone_stays_white_whichever_way_round_its_ring_goes(
    stats, tmp_path, monkeypatch, shell_is_reversed, hole_is_reversed
):
    path = stats()
    collection = json.loads(path.read_text())
    shell, hole = (
        [[-74.0 + dx, 40.72 + dx], [-73.95 - dx, 40.72 + dx], [-73.95 - dx, 40.74 - dx], [-74.0 + dx, 40.74 - dx]]
        for dx in (0, 0.004)
    )
    rings = [
        ring[::-1] if is_reversed else ring
        for ring, is_reversed in ((shell, shell_is_reversed), (hole, hole_is_reversed))
    ]
    collection["features"][1]["geometry"] = {"type": "Polygon", "coordinates": [[*ring, ring[0]] for ring in rings]}
    path.write_text(json.dumps(collection))
    drawn = drawing.keep_pages(monkeypatch)
    maps.draw_map(path, tmp_path / "map.png")
    axes = drawn[0].axes[0]
    with PIL.Image.open(tmp_path / "map.png") as picture:
        pixels = numpy.asarray(picture.convert("RGB"))
    outline = axes.collections[0].get_paths()[0].get_extents()
    x, y = axes.transData.transform([(outline.x0 + outline.x1) / 2, (outline.y0 + outline.y1) / 2])
    assert (pixels[maps.HEIGHT_PIXELS - int(y), int(x)] == 255).all()


def test_the_island_keeps_its_shape(draw):
    axes = draw().axes[0]
    assert axes.get_aspect() == 1
    corners = numpy.vstack([path.vertices for zones in axes.collections for path in zones.get_paths()])
    width, height = numpy.ptp(corners, axis=0)  # in feet: 0.05 degrees of longitude by 0.16 of latitude
    assert height / width == pytest.approx(0.16 * 69.0 / (0.05 * 52.4), rel=0.03)


def test_a_month_without_a_trip_in_manhattan_can_be_drawn(draw):
    figure = draw(trips=(0,) * 8)
    title, below = drawing.texts(figure)[:2]
    assert title == "Green taxis, February 2023"
    assert below.startswith("0 trips")
    assert named(figure) == []


def test_drawing_imports_neither_geopandas_nor_pandas(start_python):
    """Importing them takes longer than the rest of the task."""
    asked = "import sys\nfrom include.nyc_taxi.reports import maps\nprint({'geopandas', 'pandas'} & set(sys.modules))\n"
    assert start_python(asked).communicate()[0] == "set()\n"


@pytest.mark.skipif(not LOCKS.exists(), reason="only Linux says which process waits for a lock")
def test_the_overall_map_waits_its_turn_and_then_shows_the_latest_figures(stats, tmp_path, start_python):
    outputs = tmp_path / "green"
    stats(month_stats_path(outputs, "2023-02"))
    stats(overall_stats_path(outputs), trips=(1,) * 8)
    with locked(outputs / ".manhattan_map.lock"):
        process = start_python(
            "import sys\n"
            "from pathlib import Path\n"
            "from include.nyc_taxi.reports import maps\n"
            "maps.draw_maps('2023-02', Path(sys.argv[1]))\n",
            outputs,
        )
        while not re.search(rf"-> FLOCK .* {process.pid} ", LOCKS.read_text()):
            assert process.poll() is None, "it has not waited"
            time.sleep(0.02)
        stats(overall_stats_path(outputs), trips=(1, 2, 3, 4, 5, 6, 7, 8))
    process.communicate()
    assert process.returncode == 0
    maps.draw_map(overall_stats_path(outputs), tmp_path / "expected.png")
    assert (outputs / "manhattan_map.png").read_bytes() == (tmp_path / "expected.png").read_bytes()
