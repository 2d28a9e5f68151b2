"""Trips by week: the table, and the CSV file and the chart made from it."""

import csv
import os
from datetime import date, timedelta

import duckdb
import numpy
import PIL.Image
import pytest

from include.nyc_taxi.errors import FleetError
from include.nyc_taxi.months import Month
from include.nyc_taxi.reports import by_week, charts
from include.nyc_taxi.reports.provenance import Provenance
from include.nyc_taxi.trips.load import load_month
from include.tlc_simulator.trips import write_month
from tests.nyc_taxi import drawing

HEADER = (
    "period,num_trips,total_amount,trip_distance,passenger_count,clean_trips,clean_total_amount,clean_trip_distance"
)
MONDAY = date(2023, 1, 30)
FROM_THE_TLC = Provenance(False, "tlc.test")


@pytest.fixture
def load(con, write_trips):
    """Load a month with one trip for each pickup time; each trip costs 10.005 dollars and is 1.5 miles long."""

    def load_pickups(fleet, month, *pickups):
        times = f"[{', '.join(repr(time) for time in pickups)}][1 + i]::TIMESTAMP"
        name = "tpep_pickup_datetime" if fleet == "yellow" else "lpep_pickup_datetime"
        columns = {name: times, "total_amount": "10.005", "trip_distance": "1.5", "passenger_count": "2"}
        path = write_trips(fleet, month, rows=len(pickups), columns=columns)
        return load_month(con, fleet, Month(month), path, "run 1", accept=True)  # of a few trips here, many are strays

    return load_pickups


@pytest.fixture
def aggregate(con, tmp_path):
    """Aggregate a week in a transaction, as the task does."""

    def aggregate_into(fleet, monday):
        return by_week.aggregate_week(con, fleet, monday, tmp_path / "outputs" / fleet)

    return aggregate_into


def of_all_trips(week):
    return week.num_trips, week.total_amount, week.trip_distance, week.passenger_count


def lines_of_all_trips(csv_file):
    """The lines of the CSV file without the figures of clean trips."""
    header, *lines = csv_file.read_text().splitlines()
    assert header == HEADER
    return [line.rsplit(",", 3)[0] for line in lines]


def table(con):
    return con.execute("SELECT fleet, period, num_trips FROM trips_by_week ORDER BY ALL").fetchall()


def test_a_week_is_from_monday_to_before_monday_by_pickup(con, load, aggregate):
    load("green", "2023-01", "2023-01-29 23:59:59.999999", "2023-01-30", "2023-01-31 23:59:59")
    load("green", "2023-02", "2023-02-01", "2023-02-05 23:59:59.999999", "2023-02-06")
    week = aggregate("green", MONDAY).week
    assert (week.num_trips, week.trip_distance, week.passenger_count) == (4, 6.0, 8)
    assert week.total_amount == pytest.approx(40.02)
    assert table(con) == [("green", MONDAY, 4)]


def test_trips_count_whatever_months_file_they_came_in(load, aggregate):
    load("green", "2023-02", "2023-01-30 12:00")
    load("green", "2023-03", "2023-02-01 12:00", "2009-01-01", "2098-09-09")
    assert aggregate("green", MONDAY).week.num_trips == 2


def test_a_week_aggregated_again_replaces_its_row_and_no_other(con, load, aggregate):
    load("green", "2023-01", "2023-01-23", "2023-01-30")
    load("yellow", "2023-01", "2023-01-30")
    for _ in range(2):
        aggregate("green", MONDAY)
        aggregate("green", date(2023, 1, 23))
        aggregate("yellow", MONDAY)
    assert table(con) == [("green", date(2023, 1, 23), 1), ("green", MONDAY, 1), ("yellow", MONDAY, 1)]


def test_trips_without_an_amount_or_a_passenger_number_add_nothing(con, write_trips, aggregate):
    nulls = dict.fromkeys(("total_amount", "trip_distance", "passenger_count"), "NULL")
    load_month(con, "green", Month("2023-02"), write_trips("green", "2023-02", columns=nulls), "run 1", accept=True)
    assert of_all_trips(aggregate("green", MONDAY).week) == (3, 0, 0, 0)


def clean(con):
    """The table's figures of clean trips: number, dollars and miles."""
    found = con.execute(
        "SELECT clean_trips, clean_total_amount, clean_trip_distance FROM trips_by_week ORDER BY period"
    )
    return found.fetchall()


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_an_amount_that_is_no_number_adds_nothing_and_is_no_clean_trip(con, write_trips, aggregate, value):
    columns = {
        "total_amount": f"if(i = 3, '{value}'::DOUBLE, 10.5)",
        "trip_distance": f"if(i = 4, '{value}'::DOUBLE, 1.5)",
    }
    done = load_month(
        con, "green", Month("2023-02"), write_trips("green", "2023-02", rows=10, columns=columns), "run 1"
    )
    assert done.quality["not_finite"] == 2
    week = aggregate("green", MONDAY).week
    assert (week.num_trips, week.total_amount, week.trip_distance) == (10, 94.5, 13.5)
    assert clean(con) == [(8, 84.0, 12.0)]


def test_clean_figures_leave_out_what_was_no_trip(con, write_trips, aggregate):
    columns = {
        "total_amount": "[10.5, 10.5, 10.5, -10.5][i + 1]",
        "trip_distance": "[1.5, 85000, 1.5, 1.5][i + 1]",
        "lpep_pickup_datetime": "TIMESTAMP '2023-02-01 10:00:00' + least(i, 2) * INTERVAL 1 MINUTE",
        "lpep_dropoff_datetime": "TIMESTAMP '2023-02-01 10:30:00'",
        "PULocationID": "7",
        "DOLocationID": "7",
    }
    load_month(
        con, "green", Month("2023-02"), write_trips("green", "2023-02", rows=4, columns=columns), "run 1", accept=True
    )
    week = aggregate("green", MONDAY).week
    assert (week.num_trips, week.total_amount, week.trip_distance) == (4, 21.0, 85004.5)
    assert clean(con) == [(1, 10.5, 1.5)], "without the 85,000 miles, the charge and its reversal"


def test_a_week_without_trips_is_a_row_of_zeros(con, aggregate):
    assert of_all_trips(aggregate("green", MONDAY).week) == (0, 0, 0, 0)
    assert table(con) == [("green", MONDAY, 0)]
    assert clean(con) == [(0, 0, 0)]


class TestAFleetWithoutSuchAColumn:
    """Bases report neither amounts nor distances nor passengers, and companies neither totals nor passengers."""

    @pytest.fixture
    def load_file(self, con, write_trips):
        def load_trips(fleet):
            load_month(con, fleet, Month("2023-02"), write_trips(fleet, "2023-02"), "run 1")

        return load_trips

    @pytest.mark.parametrize(("fleet", "week"), [("fhv", (3, None, None, None)), ("fhvhv", (3, None, 3.0, None))])
    def test_has_null_there_and_not_zero(self, load_file, aggregate, fleet, week):
        load_file(fleet)
        assert of_all_trips(aggregate(fleet, MONDAY).week) == week
        assert aggregate(fleet, date(2023, 1, 23)).week.passenger_count is None  # not even in a week without trips

    @pytest.mark.parametrize(("fleet", "line"), [("fhv", "3,,,"), ("fhvhv", "3,,3.00,")])
    def test_has_an_empty_place_in_the_csv(self, load_file, aggregate, fleet, line):
        load_file(fleet)
        assert lines_of_all_trips(aggregate(fleet, MONDAY).csv_file) == [f"2023-01-30,{line}"]

    @pytest.mark.parametrize(("fleet", "panels"), [("fhv", 1), ("fhvhv", 2), ("green", 4)])
    def test_has_no_panel_for_it_in_the_chart(self, load_file, aggregate, fleet, panels, monkeypatch):
        load_file(fleet)
        folder = aggregate(fleet, MONDAY).csv_file.parent
        drawn = []
        draw_panel = charts._draw_panel
        monkeypatch.setattr(charts, "_draw_panel", lambda *given: [drawn.append(given[1].title), draw_panel(*given)])
        with PIL.Image.open(by_week.draw_chart(fleet, folder)) as picture:
            width, height = picture.size
        assert len(drawn) == panels
        assert drawn[0] == "Trips (all)"
        assert width == 1200
        assert 292 * panels + 200 < height < 292 * panels + 300

    def test_counts_no_other_fleets_trips(self, load_file, aggregate):
        for fleet in ("fhv", "fhvhv", "green"):
            load_file(fleet)
        assert aggregate("fhvhv", MONDAY).week.num_trips == 3


def test_the_csv_has_every_week_in_order_with_money_and_miles_rounded_to_2(load, aggregate):
    load("green", "2023-02", "2023-02-06", "2023-02-06", "2023-01-30")
    load("yellow", "2023-02", "2023-01-23")
    aggregate("green", date(2023, 2, 6))
    aggregate("yellow", date(2023, 1, 23))
    done = aggregate("green", MONDAY)
    assert done.weeks == 2
    assert done.csv_file.name == "trips_by_week.csv"
    assert lines_of_all_trips(done.csv_file) == ["2023-01-30,1,10.01,1.50,2", "2023-02-06,2,20.01,3.00,4"]


def test_the_csv_has_the_figures_of_clean_trips_last_and_nothing_where_they_are_not_known(con, tmp_path):
    con.execute("INSERT INTO trips_by_week VALUES ('green', '2023-01-30', 9, 99.5, 5000, 12, 7, 88.125, 14.005)")
    con.execute("INSERT INTO trips_by_week VALUES ('green', '2023-02-06', 3, 30, 6, 4, NULL, NULL, NULL)")
    written = by_week.write_csv(con, "green", tmp_path)
    assert written[MONDAY] == by_week.Week(9, 99.5, 5000, 12, 7, 88.125, 14.005)
    assert written[date(2023, 2, 6)] == by_week.Week(3, 30, 6, 4, None, None, None)
    assert (tmp_path / "trips_by_week.csv").read_text() == (
        f"{HEADER}\n2023-01-30,9,99.50,5000.00,12,7,88.12,14.01\n2023-02-06,3,30.00,6.00,4,,,\n"
    )


def test_a_failure_to_write_leaves_the_file_whole_and_the_next_try_mends_it(con, load, aggregate, monkeypatch):
    load("green", "2023-02", "2023-01-30")
    file = aggregate("green", MONDAY).csv_file
    before = file.read_text()
    with monkeypatch.context() as broken:
        broken.setattr(csv, "writer", None)
        with pytest.raises(TypeError):
            aggregate("green", date(2023, 2, 6))
    assert file.read_text() == before
    assert sorted(path.name for path in file.parent.glob("[!.]*")) == [
        "trips_by_week.csv",
        "trips_by_week.csv.source.json",
    ]
    aggregate("green", date(2023, 2, 6))
    assert len(file.read_text().splitlines()) == len(before.splitlines()) + 1


def test_an_unknown_fleet_is_refused(aggregate):
    with pytest.raises(FleetError, match="no fleet 'purple'"):
        aggregate("purple", MONDAY)


class TestAMonthThatIsLoadedLater:
    def test_counts_the_weeks_again_that_are_there_and_in_which_it_has_trips(self, con, load, aggregate):
        load("green", "2023-01", "2023-01-23", "2023-01-30")
        for monday in (date(2023, 1, 16), date(2023, 1, 23), MONDAY):
            aggregate("green", monday)
        # A stray from January, the week that both months share, and a week that nobody has requested.
        done = load("green", "2023-02", "2023-01-24", "2023-02-01", "2023-02-06")
        assert done.weeks == (date(2023, 1, 23), MONDAY)
        assert [trips for _, _, trips in table(con)] == [0, 2, 2]

    def test_counts_the_weeks_again_in_which_it_had_trips_before(self, con, load, aggregate):
        load("green", "2023-02", "2023-01-16", "2023-02-01")
        aggregate("green", date(2023, 1, 16))
        aggregate("green", MONDAY)
        assert load("green", "2023-02", "2023-02-01").weeks == (date(2023, 1, 16), MONDAY)
        assert [trips for _, _, trips in table(con)] == [0, 1]

    def test_counts_no_week_of_another_fleet(self, con, load, aggregate):
        load("yellow", "2023-02", "2023-02-01")
        aggregate("yellow", MONDAY)
        assert load("green", "2023-02", "2023-02-01").weeks == ()
        assert table(con) == [("yellow", MONDAY, 1)]

    def test_that_fails_leaves_the_weeks_as_they_were(self, con, load, aggregate, write_trips):
        load("green", "2023-02", "2023-02-01")
        aggregate("green", MONDAY)
        spoilt = write_trips("green", "2023-02", columns={"PULocationID": "999"})
        with pytest.raises(Exception, match="zone ID outside"):
            load_month(con, "green", Month("2023-02"), spoilt, "run 2")
        assert table(con) == [("green", MONDAY, 1)]


class TestTheChart:
    def test_is_a_png_that_is_not_blank_and_lies_beside_the_csv(self, load, aggregate):
        load("green", "2023-02", "2023-01-30", "2023-02-06", "2023-02-06")
        for monday in (MONDAY, date(2023, 2, 6)):
            file = aggregate("green", monday).csv_file
        chart = by_week.draw_chart("green", file.parent)
        assert chart == file.with_name("trips_by_week.png")
        with PIL.Image.open(chart) as picture:
            assert picture.format == "PNG"
            pixels = numpy.asarray(picture.convert("RGB"))
        assert (pixels.max(axis=2) - pixels.min(axis=2) > 40).sum() > 1000

    def test_one_week_is_enough(self, aggregate):
        file = aggregate("green", MONDAY).csv_file
        assert by_week.draw_chart("green", file.parent).exists()

    def test_a_missing_week_is_a_gap_and_not_a_line(self):
        days, values = charts._with_gaps([MONDAY, MONDAY + timedelta(days=21)], [1.0, 2.0])
        assert days == [MONDAY + timedelta(days=n) for n in (0, 7, 14, 21)]
        assert numpy.isnan(values).tolist() == [False, True, True, False]

    def test_is_drawn_of_a_csv_file_of_an_older_version_too(self, tmp_path, monkeypatch):
        old = "period,num_trips,total_amount,trip_distance,passenger_count\n2023-01-30,9,99.50,5000.00,12\n"
        by_week.csv_path(tmp_path).write_text(old)
        drawn = drawing.keep_pages(monkeypatch)
        by_week.draw_chart("green", tmp_path)
        written = drawing.texts(drawn[0])
        assert any("1 week was counted by an older version" in text for text in written)
        assert not [text for text in written if "Simulated" in text or "Source" in text]

    def test_says_that_data_are_simulated_and_where_they_come_from(self, con, tmp_path, aggregate, monkeypatch):
        write_month(tmp_path / "green_tripdata_2023-01.parquet", "green", "2023-01", rows=500)
        load_month(con, "green", Month("2023-01"), tmp_path / "green_tripdata_2023-01.parquet", "run 1")
        con.execute("UPDATE loads SET source_url = 'http://me:secret@tlc.test:8000/x.parquet'")
        drawn = drawing.keep_pages(monkeypatch)
        by_week.draw_chart("green", aggregate("green", date(2023, 1, 9)).csv_file.parent)
        assert "Simulated data" in drawing.texts(drawn[0])
        assert "Source: simulated trips, not the TLC's data, from tlc.test" in drawing.texts(drawn[0])

    def test_counts_as_simulated_only_where_a_month_that_its_weeks_touch_is(self, con, load, aggregate, monkeypatch):
        for month in ("2023-01", "2023-02", "2023-03"):
            load("green", month, f"{month}-10")
        con.execute("UPDATE loads SET simulated = true WHERE partition_month = '2023-03-01'")
        drawn = drawing.keep_pages(monkeypatch)
        for monday in (MONDAY, date(2023, 2, 27)):  # the second week extends into March
            by_week.draw_chart("green", aggregate("green", monday).csv_file.parent)
        assert ["Simulated data" in drawing.texts(page) for page in drawn] == [False, True]

    def test_is_old_when_the_csv_has_changed_since(self, aggregate, tmp_path):
        assert not by_week.is_chart_old(tmp_path)  # no week is counted, so there is nothing to draw
        folder = aggregate("green", MONDAY).csv_file.parent
        assert by_week.is_chart_old(folder)
        chart = by_week.draw_chart("green", folder)
        assert not by_week.is_chart_old(folder)
        os.utime(chart, (0, 0))
        assert by_week.is_chart_old(folder)

    def test_says_which_file_is_missing_where_nothing_was_counted(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"trips_by_week\.csv"):
            by_week.draw_chart("green", tmp_path)


class TestDrawnWeeks:
    """The contents of a chart drawn from given figures."""

    @pytest.fixture
    def draw(self, tmp_path, monkeypatch):
        def draw_figures(first=MONDAY, provenance=FROM_THE_TLC, title="Green taxis", **figures):
            count = len(figures["num_trips"])
            given = dict.fromkeys(by_week.HEADER[1:], [float("nan")] * count) | figures
            drawn = drawing.keep_pages(monkeypatch)
            mondays = [first + timedelta(days=7 * n) for n in range(count)]
            charts.draw_weeks(title, mondays, given, provenance, tmp_path / "chart.png")
            return drawn[0]

        return draw_figures

    @staticmethod
    def of(*trips, left_out=1, miles=3.0):
        """The figures of weeks in which the amounts and distances of all trips are meaningless."""
        clean = [float(count - left_out) for count in trips]
        return {
            "num_trips": [float(count) for count in trips],
            "total_amount": [9e9] * len(trips),
            "trip_distance": [9e9] * len(trips),
            "clean_trips": clean,
            "clean_total_amount": [count * 20 for count in clean],
            "clean_trip_distance": [count * miles for count in clean],
        }

    @staticmethod
    def panel(figure, title):
        (found,) = [axes for axes in figure.axes if axes.get_title(loc="left") == title]
        return found

    def test_money_and_miles_are_those_of_clean_trips_and_trips_are_all(self, draw):
        figure = draw(**self.of(100, 200))
        lines = {axes.get_title(loc="left"): [*axes.lines[0].get_ydata()] for axes in figure.axes}
        assert lines == {
            "Trips (all)": [100, 200],
            "Total amount of clean trips, dollars": [99 * 20, 199 * 20],
            "Distance of clean trips, miles": [99 * 3, 199 * 3],
        }

    def test_how_many_trips_are_left_out_is_said(self, draw):
        written = drawing.texts(draw(**self.of(1_000, 3_000, left_out=10)))
        assert (
            "20 of 4,000 trips (0.5 %) left out of money and miles: their fares, distances or times are implausible "
            "(view trips_clean)"
        ) in written
        assert not [text for text in written if "older version" in text]

    def test_a_week_of_an_older_version_is_a_gap_and_counts_for_nothing_in_the_share(self, draw):
        figures = self.of(1_000, 5_000, 3_000, left_out=10)
        for name in ("clean_trips", "clean_total_amount", "clean_trip_distance"):
            figures[name][1] = float("nan")
        figure = draw(**figures)
        for title in ("Total amount of clean trips, dollars", "Distance of clean trips, miles"):
            line = self.panel(figure, title).lines[0]
            assert numpy.isnan(line.get_ydata()).tolist() == [False, True, False]
        assert not numpy.isnan(self.panel(figure, "Trips (all)").lines[0].get_ydata()).any()
        written = drawing.texts(figure)
        assert any(text.startswith("20 of 4,000 trips (0.5 %) left out") for text in written)
        assert (
            "1 week was counted by an older version, without money and miles of clean trips; run that week again"
            in (written)
        )

    def test_weeks_of_an_older_version_alone_leave_their_panels_empty_and_say_what_to_do(self, draw):
        old = dict.fromkeys(("clean_trips", "clean_total_amount", "clean_trip_distance"), [float("nan")] * 3)
        figure = draw(**self.of(10, 20, 30) | old)
        assert numpy.isnan(self.panel(figure, "Distance of clean trips, miles").lines[0].get_ydata()).all()
        notes = [text for text in drawing.texts(figure) if "run those weeks again" in text]
        assert len(notes) == 1
        assert notes[0].startswith("3 weeks were counted by an older version")
        assert not [text for text in drawing.texts(figure) if "left out" in text]

    def test_a_fleet_without_money_and_miles_has_no_word_about_them(self, draw):
        figure = draw(num_trips=[5.0, 6.0], clean_trips=[4.0, 6.0])
        assert [axes.get_title(loc="left") for axes in figure.axes] == ["Trips (all)"]
        assert not [text for text in drawing.texts(figure) if "left out" in text or "older" in text]

    def test_a_fleet_with_miles_alone_speaks_of_miles_alone(self, draw):
        figures = self.of(100, 200)
        del figures["total_amount"], figures["clean_total_amount"]
        written = drawing.texts(draw(**figures))
        assert any(text.startswith("2 of 300 trips (0.67 %) left out of miles: ") for text in written)

    @pytest.mark.parametrize("count", [1, 2, 5, 9, 10, 17, 60, 81, 700, 2_000])
    @pytest.mark.parametrize("first", [MONDAY, date(2009, 12, 28)])
    def test_ticks_are_mondays_with_the_year_in_order_and_none_covers_another(self, draw, count, first):
        figure = draw(first=first, num_trips=[1.0] * count)
        assert drawing.covering_each_other(figure) == []
        assert drawing.outside_of_the_page(figure) == []
        labels = [label.get_text() for label in figure.axes[-1].get_xticklabels()]
        days = [date.fromisoformat(label) for label in labels]
        assert {day.weekday() for day in days} == {0}
        assert days[0] == first
        assert days == sorted(set(days))
        assert days[-1] <= first + timedelta(days=7 * (count - 1))
        assert len(days) == count if count <= 8 else 4 <= len(days) <= 8
        # Each label is at its own week.
        at = numpy.array(days, dtype="datetime64[D]").astype(float)
        assert figure.axes[-1].get_xticks().tolist() == at.tolist()

    @pytest.mark.parametrize("most", [0, 1, 3])
    def test_a_few_trips_have_whole_numbers_each_once(self, draw, most):
        figure = draw(num_trips=[0.0, float(most)])
        figure.canvas.draw()
        shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert shown == sorted(set(shown), key=int)

    @pytest.mark.parametrize(
        ("value", "label"),
        [
            (0, "0"),
            (0.5, "0.5"),
            (950, "950"),
            (1_500, "1.5k"),
            (300_000, "300k"),
            (2_500_000, "2.5M"),
            (-2_000, "-2k"),
        ],
    )
    def test_numbers_of_an_axis_are_short_and_below_one_no_thousandths(self, value, label):
        assert charts._short(value) == label

    def test_all_that_is_written_can_be_read(self, draw):
        long = Provenance(
            True, "NYC Taxi & Limousine Commission (TLC), from " + ", ".join(["a.long.name.tlc.test"] * 6)
        )
        figures = self.of(45_000_000, 50_000_000)
        figures["clean_trips"][0] = float("nan")
        figure = draw(title="High-volume for-hire vehicles", provenance=long, passenger_count=[1.0, 2.0], **figures)
        assert drawing.outside_of_the_page(figure) == []
        assert drawing.covering_each_other(figure) == []

    def test_money_taken_back_is_in_view(self, draw):
        figures = self.of(10, 20)
        figures["clean_total_amount"] = [-50.0, 100.0]
        low, high = self.panel(draw(**figures), "Total amount of clean trips, dollars").get_ylim()
        assert low < -50
        assert high > 100


def test_the_real_weeks_are_those_of_a_direct_query_on_the_files(real_data, con, aggregate):
    files = [real_data / "tlc" / "trip-data" / f"green_tripdata_2023-{month}.parquet" for month in ("01", "02", "03")]
    mondays = [date(2023, 1, 2) + timedelta(days=7 * n) for n in range(13)]

    def load(number):
        load_month(con, "green", Month(f"2023-0{number + 1}"), files[number], "run 1")

    # In the order of the schedule: weeks are counted when their months are loaded, and strays come with later months.
    load(0)
    for monday in mondays[:4]:
        aggregate("green", monday)
    load(1)
    load(2)
    for monday in mondays[4:]:
        file = aggregate("green", monday).csv_file

    direct = duckdb.execute(
        """SELECT date_trunc('week', lpep_pickup_datetime)::DATE::VARCHAR AS period, count(*)::VARCHAR,
               format('{:.2f}', sum(total_amount)), format('{:.2f}', sum(trip_distance)),
               sum(passenger_count)::BIGINT::VARCHAR
           FROM read_parquet(?, union_by_name = true)
           WHERE lpep_pickup_datetime >= '2023-01-02' AND lpep_pickup_datetime < '2023-04-03'
           GROUP BY ALL ORDER BY period""",
        [[str(path) for path in files]],
    ).fetchall()
    with by_week.csv_path(file.parent).open() as lines:
        assert [tuple(row.values())[:5] for row in csv.DictReader(lines)] == direct
