"""Maps of Manhattan."""

import json
import re
import time
from pathlib import Path

import numpy
import PIL.Image
import pytest
import shapely
from matplotlib.figure import Figure

from include.nyc_taxi import maps
from include.nyc_taxi.aggregate import month_stats_path, overall_stats_path
from include.nyc_taxi.files import locked

LOCKS = Path("/proc/locks")
# South to north, each 0.02 degrees high: together about the size of the island.
ZONES = {4: 40.70, 12: 40.72, 13: 40.74, 24: 40.76, 41: 40.78, 42: 40.80, 43: 40.82, 45: 40.84}


@pytest.fixture
def stats(tmp_path):
    """Write a GeoJSON file as `aggregate` does; `trips` in the order of ZONES."""

    def write(path=tmp_path / "stats.geojson", trips=(0, 5, 10, 50, 100, 500, 1_000, 12_345), **covered):
        features = [
            {
                "type": "Feature",
                "properties": {"zone_id": zone_id, "zone": "A", "borough": "Manhattan", "num_trips": count},
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
    """Draw a map and return its figure, which `draw_map` keeps to itself."""

    def draw_stats(**what):
        drawn = []

        class KeptFigure(Figure):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                drawn.append(self)

        monkeypatch.setattr(maps, "Figure", KeptFigure)
        maps.draw_map(stats(**what), tmp_path / "map.png")
        (figure,) = drawn
        return figure

    return draw_stats


def texts(figure):
    return [text.get_text() for text in figure.texts]


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


def test_the_legend_has_thousands_separators(draw):
    bar = draw(trips=(0, 5, 10, 50, 100, 500, 1_000, 1_234_567)).axes[1]
    labels = [label.get_text() for label in bar.get_yticklabels()]
    assert "1,000,000" in labels
    assert all(f"{int(label.replace(',', '')):,}" == label for label in labels)


@pytest.mark.parametrize("most", [1, 2, 7])
def test_the_legend_of_a_few_trips_has_whole_numbers_each_once(draw, most):
    bar = draw(trips=(0, 0, 0, 0, 0, 0, 0, most)).axes[1]
    low, high = bar.get_ylim()
    ticks = zip(bar.get_yticklabels(), bar.get_yticks(), strict=True)
    shown = [label.get_text() for label, at in ticks if low <= at <= high]
    assert shown == sorted(set(shown), key=int)
    assert all(text.isdecimal() for text in shown)


def test_the_title_says_fleet_and_month_and_the_line_below_the_trips(draw):
    title, below = texts(draw())
    assert title == "Green taxis, February 2023"
    assert below.startswith("14,010 trips that began in Manhattan")


def test_the_title_over_all_months_says_from_when_to_when(draw):
    title, _ = texts(draw(fleet="yellow", first_month="2022-12", last_month="2023-02", months=3))
    assert title == "Yellow taxis, December 2022 to February 2023"


def test_the_text_says_when_months_between_are_not_loaded(draw):
    title, below = texts(draw(first_month="2022-12", last_month="2023-03", months=2))
    assert "December 2022 to March 2023" in title
    assert "2 of 4 months" in title + below


@pytest.mark.parametrize(
    "covered",
    [{}, {"first_month": "2022-09", "months": 6}, {"first_month": "2022-09", "months": 5}],
    ids=["one month", "six months", "five of six months"],
)
def test_all_text_is_within_the_picture(draw, covered):
    figure = draw(fleet="yellow", trips=(45_000_000,) * 8, **covered)
    width, height = figure.canvas.get_width_height()
    renderer = figure.canvas.get_renderer()
    for text in [*figure.texts, *figure.axes[1].get_yticklabels()]:
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0, text.get_text()
        assert box.x1 <= width, text.get_text()
        assert box.y1 <= height, text.get_text()


def test_every_zone_is_in_view_and_more_trips_are_brighter(draw):
    axes = draw().axes[0]
    zones = axes.collections[0]
    corners = numpy.vstack([path.vertices for path in zones.get_paths()])
    (west, east), (south, north) = axes.get_xlim(), axes.get_ylim()
    assert corners[:, 0].min() >= west
    assert corners[:, 0].max() <= east
    assert corners[:, 1].min() >= south
    assert corners[:, 1].max() <= north
    brightness = zones.get_facecolor()[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (numpy.diff(brightness) > 0).all()
    assert not axes.axison


def test_the_island_keeps_its_shape(draw):
    axes = draw().axes[0]
    assert axes.get_aspect() == 1
    corners = numpy.vstack([path.vertices for path in axes.collections[0].get_paths()])
    width, height = numpy.ptp(corners, axis=0)  # in feet: 0.05 degrees of longitude by 0.16 of latitude
    assert height / width == pytest.approx(0.16 * 69.0 / (0.05 * 52.4), rel=0.03)


def test_a_month_without_a_trip_in_manhattan_can_be_drawn(draw):
    title, below = texts(draw(trips=(0,) * 8))
    assert title == "Green taxis, February 2023"
    assert below.startswith("0 trips")


@pytest.mark.skipif(not LOCKS.exists(), reason="only Linux says which process waits for a lock")
def test_the_overall_map_waits_its_turn_and_then_shows_the_latest_figures(stats, tmp_path, start_python):
    outputs = tmp_path / "green"
    stats(month_stats_path(outputs, "2023-02"))
    stats(overall_stats_path(outputs), trips=(1,) * 8)
    with locked(outputs / ".manhattan_map.lock"):
        process = start_python(
            "import sys\n"
            "from pathlib import Path\n"
            "from include.nyc_taxi import maps\n"
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
