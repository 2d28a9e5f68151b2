"""A report's numbers and picture."""

import csv
import json
import time
from datetime import date, datetime

import numpy
import PIL.Image
import pytest
from matplotlib.figure import Figure

from include.nyc_taxi import adhoc_chart, adhoc_report, warehouse
from include.nyc_taxi.adhoc import Request
from include.nyc_taxi.errors import RequestError

MONDAY = date(2023, 1, 2)
REQUEST = Request("yellow", "Manhattan", MONDAY, date(2023, 1, 8), "week")


@pytest.fixture
def trips(con, zones):
    """Put trips into the warehouse, each a pickup's moment and zone, and have their months count as loaded."""

    def insert(*pickups, fleet="yellow", months=("2023-01",)):
        for month in months:
            con.execute(
                "INSERT INTO loads VALUES "
                "(?, ?, 'url', NULL, NULL, 1, 1, 1, '{}', now()::TIMESTAMP, 'run', NULL, '[]', false)",
                [fleet, f"{month}-01"],
            )
        for moment, zone in pickups:
            con.execute(
                f"INSERT INTO {fleet}_trips (pickup_datetime, pickup_zone_id, partition_month) VALUES (?, ?, ?)",
                [datetime.fromisoformat(moment), zone, f"{months[0]}-01"],
            )

    return insert


@pytest.fixture
def count(con, tmp_path):
    """Count and return the report with its rows, each weekday and hour with its trips."""

    def rows(request=REQUEST):
        done = adhoc_report.count_trips(con, request, tmp_path / "requests")
        with done.csv_file.open(newline="") as file:
            return done, list(csv.DictReader(file))

    return rows


def filled(rows):
    return {(row["weekday"], int(row["hour"])): int(row["num_trips"]) for row in rows if row["num_trips"] != "0"}


def test_all_168_hours_of_a_week_are_there_monday_first(trips, count, tmp_path):
    trips()
    done, rows = count()
    assert done == adhoc_report.Report(rows=168, trips=0, csv_file=tmp_path / "requests" / "week.csv")
    assert [(row["weekday"], row["hour"]) for row in rows] == [
        (weekday, str(hour)) for weekday in adhoc_report.WEEKDAYS for hour in range(24)
    ]
    assert {row["num_trips"] for row in rows} == {"0"}


def test_each_row_says_what_was_asked(trips, count):
    trips()
    _, rows = count()
    about = {(row["fleet"], row["borough"], row["start_date"], row["end_date"]) for row in rows}
    assert about == {("yellow", "Manhattan", "2023-01-02", "2023-01-08")}


def test_trips_count_by_weekday_and_hour_of_their_pickup(trips, count):
    trips(
        ("2023-01-02 00:00:00", 4),
        ("2023-01-02 00:59:59", 12),
        ("2023-01-02 01:00:00", 4),
        ("2023-01-08 23:59:59", 103),
    )
    done, rows = count()
    assert done.trips == 4
    assert filled(rows) == {("Monday", 0): 2, ("Monday", 1): 1, ("Sunday", 23): 1}


def test_weeks_add_up(trips, count):
    trips(("2023-01-03 07:10:00", 4), ("2023-01-10 07:20:00", 4))
    _, rows = count(Request("yellow", "Manhattan", MONDAY, date(2023, 1, 31), "weeks"))
    assert filled(rows) == {("Tuesday", 7): 2}


def test_the_first_and_the_last_day_count_and_no_other(trips, count):
    trips(
        ("2023-01-01 23:59:59", 4),
        ("2023-01-02 00:00:00", 4),
        ("2023-01-03 23:59:59", 4),
        ("2023-01-04 00:00:00", 4),
    )
    _, rows = count(Request("yellow", "Manhattan", MONDAY, date(2023, 1, 3), "two-days"))
    assert filled(rows) == {("Monday", 0): 1, ("Tuesday", 23): 1}


def test_other_boroughs_other_fleets_and_trips_without_a_zone_do_not_count(trips, count):
    trips(("2023-01-02 05:00:00", 7), ("2023-01-02 05:00:00", 264), ("2023-01-02 05:00:00", None))
    trips(("2023-01-02 05:00:00", 4), fleet="green")
    assert filled(count()[1]) == {}
    assert filled(count(Request("yellow", "Queens", MONDAY, MONDAY, "queens"))[1]) == {("Monday", 5): 1}
    assert filled(count(Request("yellow", "Unknown", MONDAY, MONDAY, "unknown"))[1]) == {("Monday", 5): 1}


def test_a_pickup_counts_whichever_months_file_it_came_in(trips, count):
    trips(("2023-01-31 23:50:00", 4), months=("2023-02", "2023-01"))
    request = Request("yellow", "Manhattan", date(2023, 1, 31), date(2023, 1, 31), "last-day")
    assert filled(count(request)[1]) == {("Tuesday", 23): 1}


def test_months_that_are_not_loaded_are_named_with_what_to_do(trips, count, tmp_path):
    trips(months=("2022-12", "2023-02"))
    request = Request("yellow", "Manhattan", date(2022, 12, 31), date(2023, 5, 1), "long")
    with pytest.raises(RequestError, match=r"2023-01, 2023-03 to 2023-05 not loaded.*run taxi_trips_yellow"):
        count(request)
    assert not (tmp_path / "requests").exists()


def test_months_of_another_fleet_do_not_count_as_loaded(trips, count):
    trips(fleet="green")
    with pytest.raises(RequestError, match="yellow 2023-01 not loaded"):
        count()


def test_a_warehouse_without_zones_says_so(trips, count, con):
    trips()
    con.execute("DELETE FROM zones")
    with pytest.raises(RequestError, match="no zones of Manhattan: run taxi_zones"):
        count()


def test_a_failing_count_leaves_the_earlier_file(trips, count, con):
    trips(("2023-01-02 05:00:00", 4))
    done, _ = count()
    before = done.csv_file.read_bytes()
    con.execute("DELETE FROM loads")
    with pytest.raises(RequestError):
        count()
    assert done.csv_file.read_bytes() == before
    assert [path.name for path in done.csv_file.parent.iterdir()] == ["week.csv"]


def test_only_the_row_groups_of_the_days_asked_for_are_read(con, zones, tmp_path):
    """The cost of a report does not grow with what else is loaded."""
    con.execute(
        "INSERT INTO yellow_trips (pickup_datetime, pickup_zone_id, partition_month) "
        "SELECT TIMESTAMP '2013-01-01' + i * INTERVAL 1 MINUTE, 4, '2013-01-01' FROM range(3_000_000) AS r(i)"
    )
    con.execute("CHECKPOINT")
    plan = con.execute(
        "EXPLAIN (ANALYZE, FORMAT json) " + warehouse.sql("trips_by_hour").format(table="yellow_trips"),
        {"borough": "Manhattan", "start": date(2013, 5, 1), "end": date(2013, 5, 2)},
    ).fetchone()[1]
    rows = json.loads(plan)["cumulative_rows_scanned"]
    assert 0 < rows <= 2 * 122_880 + len(zones)


@pytest.fixture
def draw(trips, count, tmp_path, monkeypatch):
    """Draw a report and return its figure, which `draw_report` keeps to itself."""

    def draw_trips(*pickups, request=REQUEST):
        drawn = []

        class KeptFigure(Figure):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                drawn.append(self)

        monkeypatch.setattr(adhoc_chart, "Figure", KeptFigure)
        trips(*pickups)
        done, _ = count(request)
        chart = adhoc_chart.draw_report(done.csv_file)
        assert chart.trips == done.trips
        return chart, drawn[0]

    return draw_trips


def test_the_picture_is_a_png_1400_pixels_wide_beside_the_file_and_not_blank(draw, tmp_path):
    chart, _ = draw(("2023-01-02 05:00:00", 4), ("2023-01-07 18:00:00", 4))
    assert chart.picture == tmp_path / "requests" / "week.png"
    assert chart.rows == 168
    with PIL.Image.open(chart.picture) as picture:
        assert picture.format == "PNG"
        assert picture.width == 1400
        pixels = numpy.asarray(picture.convert("RGB"))
    assert (pixels[0, 0] == 255).all()
    assert (pixels.max(axis=2) - pixels.min(axis=2) > 40).mean() > 0.01


def test_bars_are_stacked_by_weekday_over_24_hours(draw):
    _, figure = draw(("2023-01-02 05:00:00", 4), ("2023-01-02 05:30:00", 4), ("2023-01-08 05:00:00", 4))
    (axes,) = figure.axes
    bars = {container.get_label(): container.patches for container in axes.containers}
    assert list(bars) == list(adhoc_report.WEEKDAYS)
    assert {len(patches) for patches in bars.values()} == {24}
    assert (bars["Monday"][5].get_y(), bars["Monday"][5].get_height()) == (0, 2)
    assert (bars["Sunday"][5].get_y(), bars["Sunday"][5].get_height()) == (2, 1)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(reversed(adhoc_report.WEEKDAYS))


def test_the_title_says_what_was_asked_and_the_line_below_the_trips(draw):
    _, figure = draw(("2023-01-02 05:00:00", 4))
    title, below = (text.get_text() for text in figure.texts)
    assert title == "Yellow taxis, Manhattan, 2023-01-02 to 2023-01-08"
    assert below.startswith("1 trip")


def test_the_longest_title_fits(draw, con):
    con.execute("INSERT INTO zones VALUES (5, 'Arden Heights', 'Staten Island', 'Boro Zone', NULL)")
    _, figure = draw(request=Request("yellow", "Staten Island", MONDAY, date(2023, 1, 31), "x" * 64))
    for text in figure.texts:
        assert text.get_window_extent().x1 < adhoc_chart.WIDTH_PIXELS, text.get_text()


def test_a_report_without_a_trip_has_a_picture_too(draw):
    _, figure = draw()
    assert figure.axes[0].get_ylim()[1] >= 1


def test_the_axis_has_whole_numbers_with_thousands_separators(draw):
    _, figure = draw(*[("2023-01-02 05:00:00", 4)] * 2)
    figure.canvas.draw()
    assert all(label.get_text().isdecimal() for label in figure.axes[0].get_yticklabels())
    assert figure.axes[0].yaxis.get_major_formatter()(1234567, 0) == "1,234,567"


def test_a_missing_file_is_named_and_no_picture_appears(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.csv"):
        adhoc_chart.draw_report(tmp_path / "nothing.csv")
    assert list(tmp_path.glob("*.png")) == []


def test_of_two_requests_of_one_name_the_picture_shows_what_the_file_holds(draw, count, tmp_path):
    """The second request's numbers came in before the first one's picture was drawn."""
    _, figure = draw(("2023-01-07 05:00:00", 4))
    count(Request("yellow", "Queens", MONDAY, MONDAY, "week"))
    chart = adhoc_chart.draw_report(tmp_path / "requests" / "week.csv")
    assert chart.trips == 0
    assert "Manhattan" in figure.texts[0].get_text()


def test_one_is_drawn_at_a_time(trips, count, start_python, tmp_path):
    trips()
    done, _ = count()
    holder = start_python(
        "import pathlib, sys\n"
        "from include.nyc_taxi.files import locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n",
        done.csv_file.parent / ".charts.lock",
    )
    assert holder.stdout.readline() == "held\n"
    drawing = start_python(
        "import pathlib, sys\n"
        "from include.nyc_taxi.adhoc_chart import draw_report\n"
        "print('ready', flush=True)\n"
        "draw_report(pathlib.Path(sys.argv[1]))\n",
        done.csv_file,
    )
    assert drawing.stdout.readline() == "ready\n"
    time.sleep(1)
    assert drawing.poll() is None
    holder.kill()
    assert drawing.wait(timeout=60) == 0
    assert done.csv_file.with_suffix(".png").exists()
