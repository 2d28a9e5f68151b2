"""Trips by week: the table, and the CSV file and the chart made from it."""

import csv
import multiprocessing
import os
from datetime import date, timedelta

import duckdb
import numpy
import PIL.Image
import pytest

from include.nyc_taxi import charts, weeks
from include.nyc_taxi.errors import FleetError
from include.nyc_taxi.load import load_month

HEADER = "period,num_trips,total_amount,trip_distance,passenger_count"
MONDAY = date(2023, 1, 30)


@pytest.fixture
def load(con, write_trips):
    """Load a month with a trip for each pickup time given; each costs 10.005 dollars and is 1.5 miles long."""

    def load_pickups(fleet, month, *pickups):
        times = f"[{', '.join(repr(time) for time in pickups)}][1 + i]::TIMESTAMP"
        name = "tpep_pickup_datetime" if fleet == "yellow" else "lpep_pickup_datetime"
        columns = {name: times, "total_amount": "10.005", "trip_distance": "1.5", "passenger_count": "2"}
        path = write_trips(fleet, month, rows=len(pickups), columns=columns)
        return load_month(con, fleet, month, path, "run 1", accept=True)  # of a few trips here, many are strays

    return load_pickups


@pytest.fixture
def aggregate(con, tmp_path):
    """Aggregate a week in a transaction, as the task does."""

    def aggregate_into(fleet, monday):
        return weeks.aggregate_week(con, fleet, monday, tmp_path / "outputs" / fleet)

    return aggregate_into


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
    load_month(con, "green", "2023-02", write_trips("green", "2023-02", columns=nulls), "run 1", accept=True)
    assert aggregate("green", MONDAY).week == weeks.Week(3, 0, 0, 0)


def clean(con):
    """What the table has of clean trips: number, dollars and miles."""
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
    done = load_month(con, "green", "2023-02", write_trips("green", "2023-02", rows=10, columns=columns), "run 1")
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
    load_month(con, "green", "2023-02", write_trips("green", "2023-02", rows=4, columns=columns), "run 1", accept=True)
    week = aggregate("green", MONDAY).week
    assert (week.num_trips, week.total_amount, week.trip_distance) == (4, 21.0, 85004.5)
    assert clean(con) == [(1, 10.5, 1.5)], "without the 85,000 miles, the charge and its reversal"


def test_a_week_without_trips_is_a_row_of_zeros(con, aggregate):
    assert aggregate("green", MONDAY).week == weeks.Week(0, 0, 0, 0)
    assert table(con) == [("green", MONDAY, 0)]
    assert clean(con) == [(0, 0, 0)]


class TestAFleetWithoutSuchAColumn:
    """Bases send in neither money nor miles nor passengers, companies neither totals nor passengers."""

    @pytest.fixture
    def load_file(self, con, write_trips):
        def load_trips(fleet):
            load_month(con, fleet, "2023-02", write_trips(fleet, "2023-02"), "run 1")

        return load_trips

    @pytest.mark.parametrize(
        ("fleet", "week"), [("fhv", weeks.Week(3, None, None, None)), ("fhvhv", weeks.Week(3, None, 3.0, None))]
    )
    def test_has_null_there_and_not_zero(self, load_file, aggregate, fleet, week):
        load_file(fleet)
        assert aggregate(fleet, MONDAY).week == week
        assert aggregate(fleet, date(2023, 1, 23)).week.passenger_count is None  # nor in a week without trips

    @pytest.mark.parametrize(("fleet", "line"), [("fhv", "3,,,"), ("fhvhv", "3,,3.00,")])
    def test_has_an_empty_place_in_the_csv(self, load_file, aggregate, fleet, line):
        load_file(fleet)
        assert aggregate(fleet, MONDAY).csv_file.read_text() == f"{HEADER}\n2023-01-30,{line}\n"

    @pytest.mark.parametrize(("fleet", "panels"), [("fhv", 1), ("fhvhv", 2), ("green", 4)])
    def test_has_no_panel_for_it_in_the_chart(self, load_file, aggregate, fleet, panels, monkeypatch):
        load_file(fleet)
        folder = aggregate(fleet, MONDAY).csv_file.parent
        drawn = []
        draw_panel = charts._draw_panel
        monkeypatch.setattr(charts, "_draw_panel", lambda *given: [drawn.append(given[1]), draw_panel(*given)])
        with PIL.Image.open(weeks.draw_chart(fleet, folder)) as picture:
            width, height = picture.size
        assert len(drawn) == panels
        assert drawn[0] == "Trips"
        assert (width, height) == (1200, 144 + 292 * panels)

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
    assert done.csv_file.read_text() == f"{HEADER}\n2023-01-30,1,10.01,1.50,2\n2023-02-06,2,20.01,3.00,4\n"


def test_a_failure_to_write_leaves_the_file_whole_and_the_next_try_mends_it(con, load, aggregate, monkeypatch):
    load("green", "2023-02", "2023-01-30")
    file = aggregate("green", MONDAY).csv_file
    before = file.read_text()
    with monkeypatch.context() as broken:
        broken.setattr(csv, "writer", None)
        with pytest.raises(TypeError):
            aggregate("green", date(2023, 2, 6))
    assert file.read_text() == before
    assert [path.name for path in file.parent.glob("[!.]*")] == ["trips_by_week.csv"]
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
        # A stray of January, the week that both months share, and a week that nobody has asked for.
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
        with pytest.raises(Exception, match="zone id outside"):
            load_month(con, "green", "2023-02", spoilt, "run 2")
        assert table(con) == [("green", MONDAY, 1)]


class TestTheChart:
    def test_is_a_png_that_is_not_blank_and_lies_beside_the_csv(self, load, aggregate):
        load("green", "2023-02", "2023-01-30", "2023-02-06", "2023-02-06")
        for monday in (MONDAY, date(2023, 2, 6)):
            file = aggregate("green", monday).csv_file
        chart = weeks.draw_chart("green", file.parent)
        assert chart == file.with_name("trips_by_week.png")
        with PIL.Image.open(chart) as picture:
            assert picture.format == "PNG"
            pixels = numpy.asarray(picture.convert("RGB"))
        assert (pixels.max(axis=2) - pixels.min(axis=2) > 40).sum() > 1000

    def test_one_week_is_enough(self, aggregate):
        file = aggregate("green", MONDAY).csv_file
        assert weeks.draw_chart("green", file.parent).exists()

    def test_a_missing_week_is_a_gap_and_not_a_line(self):
        days, values = charts._with_gaps([MONDAY, MONDAY + timedelta(days=21)], [1.0, 2.0])
        assert days == [MONDAY + timedelta(days=n) for n in (0, 7, 14, 21)]
        assert numpy.isnan(values).tolist() == [False, True, True, False]

    def test_is_old_when_the_csv_has_changed_since(self, aggregate, tmp_path):
        assert not weeks.is_chart_old(tmp_path)  # nothing counted: nothing to draw
        folder = aggregate("green", MONDAY).csv_file.parent
        assert weeks.is_chart_old(folder)
        chart = weeks.draw_chart("green", folder)
        assert not weeks.is_chart_old(folder)
        os.utime(chart, (0, 0))
        assert weeks.is_chart_old(folder)

    def test_says_which_file_is_missing_where_nothing_was_counted(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"trips_by_week\.csv"):
            weeks.draw_chart("green", tmp_path)


def _aggregate(monday):
    """What a task does in its own process: wait for the file, then one transaction."""
    from include.nyc_taxi.settings import outputs_dir
    from warehouse_hook import WarehouseHook

    with WarehouseHook().opened() as con:
        weeks.aggregate_week(con, "green", monday, outputs_dir("green"))


def test_runs_side_by_side_lose_no_week(data_dir):
    mondays = [MONDAY + timedelta(days=7 * n) for n in range(8)]
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        pool.map(_aggregate, mondays, chunksize=1)
    with (data_dir / "outputs" / "green" / "trips_by_week.csv").open() as file:
        assert [row["period"] for row in csv.DictReader(file)] == [str(monday) for monday in mondays]


def test_the_real_weeks_are_those_of_a_direct_query_on_the_files(real_data, con, aggregate):
    files = [real_data / "tlc" / "trip-data" / f"green_tripdata_2023-{month}.parquet" for month in ("01", "02", "03")]
    mondays = [date(2023, 1, 2) + timedelta(days=7 * n) for n in range(13)]

    def load(number):
        load_month(con, "green", f"2023-0{number + 1}", files[number], "run 1")

    # As the schedule does it: weeks when their months are there, and the months' strays come later.
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
    with weeks.csv_path(file.parent).open() as lines:
        assert [tuple(row.values()) for row in csv.DictReader(lines)] == direct
