"""A report's numbers and picture."""

import csv
import json
import re
import time
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy
import PIL.Image
import pytest
from matplotlib.colors import Normalize

from include.nyc_taxi import warehouse
from include.nyc_taxi.errors import RequestError
from include.nyc_taxi.reports import adhoc_chart, adhoc_report, pictures
from include.nyc_taxi.reports.adhoc import Request
from tests.nyc_taxi import drawing

LOCKS = Path("/proc/locks")
MONDAY = date(2023, 1, 2)


def asked(fleet, borough, start_date, end_date, name):
    return Request(fleet=fleet, borough=borough, start_date=start_date, end_date=end_date, name=name)


REQUEST = asked("yellow", "Manhattan", MONDAY, date(2023, 1, 8), "week")


@pytest.fixture
def trips(con, zones):
    """Put trips into the warehouse, each a pickup's moment and zone, and have their months count as loaded."""

    def insert(*pickups, fleet="yellow", months=("2023-01",), simulated=False):
        for month in months:
            con.execute(
                "INSERT INTO loads VALUES (?, ?, 'https://me:secret@tlc.test/x', NULL, NULL, 1, 1, 1, '{}', "
                "now()::TIMESTAMP, 'run', NULL, '[]', ?)",
                [fleet, f"{month}-01", simulated],
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
    _, rows = count(asked("yellow", "Manhattan", MONDAY, date(2023, 1, 31), "weeks"))
    assert filled(rows) == {("Tuesday", 7): 2}


def test_the_first_and_the_last_day_count_and_no_other(trips, count):
    trips(
        ("2023-01-01 23:59:59", 4),
        ("2023-01-02 00:00:00", 4),
        ("2023-01-03 23:59:59", 4),
        ("2023-01-04 00:00:00", 4),
    )
    _, rows = count(asked("yellow", "Manhattan", MONDAY, date(2023, 1, 3), "two-days"))
    assert filled(rows) == {("Monday", 0): 1, ("Tuesday", 23): 1}


def test_other_boroughs_other_fleets_and_trips_without_a_zone_do_not_count(trips, count):
    trips(("2023-01-02 05:00:00", 7), ("2023-01-02 05:00:00", 264), ("2023-01-02 05:00:00", None))
    trips(("2023-01-02 05:00:00", 4), fleet="green")
    assert filled(count()[1]) == {}
    assert filled(count(asked("yellow", "Queens", MONDAY, MONDAY, "queens"))[1]) == {("Monday", 5): 1}
    assert filled(count(asked("yellow", "Unknown", MONDAY, MONDAY, "unknown"))[1]) == {("Monday", 5): 1}


def test_a_pickup_counts_whichever_months_file_it_came_in(trips, count):
    trips(("2023-01-31 23:50:00", 4), months=("2023-02", "2023-01"))
    request = asked("yellow", "Manhattan", date(2023, 1, 31), date(2023, 1, 31), "last-day")
    assert filled(count(request)[1]) == {("Tuesday", 23): 1}


def test_months_that_are_not_loaded_are_named_with_what_to_do(trips, count, tmp_path):
    trips(months=("2022-12", "2023-02"))
    request = asked("yellow", "Manhattan", date(2022, 12, 31), date(2023, 5, 1), "long")
    with pytest.raises(RequestError, match=r"2023-01, 2023-03 to 2023-05 are not loaded.*run taxi_trips_yellow"):
        count(request)
    assert not (tmp_path / "requests").exists()


def test_months_of_another_fleet_do_not_count_as_loaded(trips, count):
    trips(fleet="green")
    with pytest.raises(RequestError, match="yellow 2023-01 is not loaded"):
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
    assert sorted(path.name for path in done.csv_file.parent.glob("[!.]*")) == ["week.csv", "week.csv.source.json"]


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

    def draw_trips(*pickups, request=REQUEST, **loaded):
        drawn = drawing.keep_pages(monkeypatch)
        trips(*pickups, **loaded)
        done, _ = count(request)
        chart = adhoc_chart.draw_report(done.csv_file)
        assert chart.trips == done.trips
        return chart, drawn[-1]

    return draw_trips


def cells(figure):
    """What is written in the heat map, by weekday (0 is Monday) and hour."""
    found = {}
    for text in figure.axes[0].texts:
        x, y = text.get_position()
        found[int(y), int(x)] = text.get_text()
    return found


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


FIVE_WEEKS = asked("yellow", "Manhattan", MONDAY, date(2023, 2, 7), "weeks")  # and a Monday and a Tuesday more


def test_a_cell_is_the_weekdays_trips_divided_by_how_often_it_occurs(draw):
    mondays = [(f"{MONDAY + timedelta(days=7 * week)} 05:30:00", 4) for week in range(6)]
    wednesday = [("2023-01-04 05:10:00", 4)] * 12
    _, figure = draw(*mondays, *wednesday, request=FIVE_WEEKS, months=("2023-01", "2023-02"))
    found = cells(figure)
    assert len(found) == 7 * 24
    assert found[0, 5] == "1.0"  # six in six Mondays
    assert found[2, 5] == "2.4"  # twelve in five Wednesdays
    assert {text for cell, text in found.items() if cell not in ((0, 5), (2, 5))} == {"0"}


def test_weekdays_are_from_the_top_each_with_its_number_of_days(draw):
    _, figure = draw(request=FIVE_WEEKS, months=("2023-01", "2023-02"))
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    counts = ["6 days", "6 days", *["5 days"] * 5]
    assert labels == [f"{name}\n{days}" for name, days in zip(adhoc_report.WEEKDAYS, counts, strict=True)]
    low, high = axes.get_ylim()
    assert low > high
    assert [label.get_text() for label in axes.get_xticklabels()] == [str(hour) for hour in range(24)]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2023-01-02", "2023-01-02"),
        ("2023-01-07", "2023-01-09"),
        ("2023-02-01", "2023-02-28"),
        ("2019-12-30", "2024-03-01"),
    ],
)
def test_weekdays_are_counted_as_the_calendar_has_them(start, end):
    start, end = date.fromisoformat(start), date.fromisoformat(end)
    days = [start + timedelta(days=n) for n in range((end - start).days + 1)]
    assert adhoc_chart.days_of_weekdays(start, end) == [sum(day.weekday() == n for day in days) for n in range(7)]


def test_a_weekday_that_does_not_occur_is_no_such_day_and_not_zero(draw):
    _, figure = draw(
        ("2023-01-03 05:00:00", 4), request=asked("yellow", "Manhattan", date(2023, 1, 3), date(2023, 1, 3), "day")
    )
    found = cells(figure)
    tuesday = {cell: text for cell, text in found.items() if cell[0] == 1}
    others = [text for cell, text in found.items() if cell[0] != 1]
    assert len(tuesday) == 24
    assert tuesday[1, 5] == "1.0"
    assert len(others) == 6
    assert all(text.startswith("no such day") for text in others)
    assert any("no Sunday" in text for text in others)
    assert "No such day" in drawing.texts(figure)
    assert "Monday\n0 days" in [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_more_trips_are_brighter_and_no_trips_are_in_no_colour_of_the_scale(draw):
    _, figure = draw(*[("2023-01-02 05:00:00", 4)] * 4, *[("2023-01-02 06:00:00", 4)] * 2, ("2023-01-02 07:00:00", 4))
    patches = {(int(patch.get_y()), int(patch.get_x())): patch.get_facecolor()[:3] for patch in figure.axes[0].patches}
    brightness = [numpy.dot(patches[0, hour], [0.2126, 0.7152, 0.0722]) for hour in (5, 6, 7)]
    assert brightness == sorted(brightness, reverse=True)
    assert patches[0, 8] == patches[6, 23] == pytest.approx((0.93, 0.93, 0.93))


def test_the_legend_covers_the_range_and_says_the_unit(draw):
    _, figure = draw(*[("2023-01-02 05:00:00", 4)] * 13)
    bar = figure.axes[1]
    assert bar.get_ylim() == (0, 13)
    labels = [label.get_text() for label in bar.get_yticklabels()]
    assert (labels[0], labels[-1]) == ("0", "13")
    assert "Average trips\nper hour" in drawing.texts(figure)
    assert "(square-root scale)" not in drawing.texts(figure)
    assert "No trips" in drawing.texts(figure)


@pytest.mark.parametrize(
    ("average", "text"),
    [
        (0, "0"),
        (0.01, "<0.05"),
        (0.0499, "<0.05"),
        (0.05, "0.1"),
        (2.45, "2.5"),
        (99.94, "99.9"),
        (99.96, "100"),
        (1234.4, "1,234"),
        (9_999.4, "9,999"),
        (9_999.6, "10k"),
        (12_345, "12.3k"),
        (123_456, "123k"),
    ],
)
def test_only_no_trips_at_all_are_zero(average, text):
    assert adhoc_chart.short(average) == text


def test_numbers_can_be_read_on_every_colour_of_the_scale():
    """The contrast that WCAG 2.1 asks of text (AA)."""

    def luminance(colour):
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
        return numpy.dot(linear, [0.2126, 0.7152, 0.0722])

    for value in numpy.linspace(0, 1, 101):
        colour = pictures.colour(value, Normalize(0, 1))
        light, dark = sorted((luminance(colour), {"black": 0, "white": 1}[pictures.ink(colour)]), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, value


@pytest.mark.parametrize("trips_an_hour", [1, 88, 9_888, 28_888])
def test_no_number_leaves_its_cell(draw, con, trips_an_hour):
    con.execute(
        "INSERT INTO yellow_trips (pickup_datetime, pickup_zone_id, partition_month) "
        "SELECT TIMESTAMP '2023-01-02' + h * INTERVAL 1 HOUR, 4, '2023-01-01' FROM range(24) AS hours(h), range(?)",
        [trips_an_hour],
    )
    _, figure = draw()
    axes = figure.axes[0]
    width = axes.get_window_extent().width / 24
    assert max(text.get_window_extent().width for text in axes.texts) < width


def test_the_title_says_what_was_asked_and_the_line_below_the_unit_and_the_trips(draw):
    _, figure = draw(("2023-01-02 05:00:00", 4))
    title, below = drawing.texts(figure)[:2]
    assert title == "Yellow taxis, Manhattan, 2023-01-02 to 2023-01-08"
    assert below.startswith("Average trips per hour that began there")
    assert below.endswith("(1 trip in 7 days)")


def test_the_title_of_one_day_has_it_once(draw):
    _, figure = draw(request=asked("yellow", "Manhattan", MONDAY, MONDAY, "day"))
    assert drawing.texts(figure)[0] == "Yellow taxis, Manhattan, 2023-01-02"


@pytest.mark.parametrize("simulated", [True, False, None])
def test_simulated_data_is_marked_as_such_and_nothing_else_is(draw, simulated):
    _, figure = draw(simulated=simulated)
    assert ("Simulated data" in drawing.texts(figure)) is (simulated is True)


def test_data_is_simulated_if_any_month_asked_for_is(draw, trips):
    trips(months=("2023-02",), simulated=True)
    _, figure = draw(request=asked("yellow", "Manhattan", MONDAY, date(2023, 2, 1), "two"))
    assert "Simulated data" in drawing.texts(figure)


def test_the_picture_names_the_source_without_login_and_password(draw):
    _, figure = draw()
    assert "Source: NYC Taxi & Limousine Commission (TLC), from tlc.test" in drawing.texts(figure)


def test_a_file_of_an_older_version_has_a_picture_that_claims_nothing(trips, count, monkeypatch):
    trips(simulated=True)
    done, _ = count()
    done.csv_file.with_name("week.csv.source.json").unlink()
    drawn = drawing.keep_pages(monkeypatch)
    adhoc_chart.draw_report(done.csv_file)
    assert not [text for text in drawing.texts(drawn[0]) if "Simulated" in text or "Source" in text]


def test_all_that_is_written_can_be_read(draw, con):
    con.execute("INSERT INTO zones VALUES (5, 'Arden Heights', 'Staten Island', 'Boro Zone', NULL)")
    _, figure = draw(
        ("2023-01-03 05:00:00", 5),
        request=asked("fhvhv", "Staten Island", date(2023, 1, 3), date(2023, 1, 31), "x" * 64),
        fleet="fhvhv",
        simulated=True,
    )
    assert drawing.outside_of_the_page(figure) == []
    assert drawing.covering_each_other(figure) == []


def test_a_report_without_a_trip_has_a_picture_too(draw):
    _, figure = draw()
    assert set(cells(figure).values()) == {"0"}
    assert drawing.texts(figure)[1].endswith("(0 trips in 7 days)")


def test_drawing_imports_no_database(start_python):
    asked = (
        "import sys\nfrom include.nyc_taxi.reports import adhoc_chart\nprint({'duckdb', 'pandas'} & set(sys.modules))\n"
    )
    assert start_python(asked).communicate()[0] == "set()\n"


def test_a_missing_file_is_named_and_no_picture_appears(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.csv"):
        adhoc_chart.draw_report(tmp_path / "nothing.csv")
    assert list(tmp_path.glob("*.png")) == []


def test_of_two_requests_of_one_name_the_picture_shows_what_the_file_holds(draw, count, tmp_path):
    """The second request's numbers came in before the first one's picture was drawn."""
    _, figure = draw(("2023-01-07 05:00:00", 4))
    count(asked("yellow", "Queens", MONDAY, MONDAY, "week"))
    chart = adhoc_chart.draw_report(tmp_path / "requests" / "week.csv")
    assert chart.trips == 0
    assert "Manhattan" in figure.texts[0].get_text()


@pytest.mark.skipif(not LOCKS.exists(), reason="only Linux says which process waits for a lock")
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
        "from include.nyc_taxi.reports.adhoc_chart import draw_report\n"
        "print('ready', flush=True)\n"
        "draw_report(pathlib.Path(sys.argv[1]))\n",
        done.csv_file,
    )
    assert drawing.stdout.readline() == "ready\n"
    while not re.search(rf"-> FLOCK .* {drawing.pid} ", LOCKS.read_text()):
        assert drawing.poll() is None, "it has not waited"
        time.sleep(0.02)
    holder.kill()
    assert drawing.wait(timeout=60) == 0
    assert done.csv_file.with_suffix(".png").exists()
