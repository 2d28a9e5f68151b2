"""Figures and charts from the marts, on a small warehouse with made-up marts."""

import csv
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from include.nyc_taxi import warehouse
from include.nyc_taxi.months import Month
from include.nyc_taxi.reports import mart_charts, marts
from include.nyc_taxi.web import pages

JANUARY = Month("2023-01")


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        warehouse.ensure_tables(con)
        con.execute(
            """
            CREATE SCHEMA marts;
            CREATE SCHEMA staging;
            CREATE TABLE staging.stg_zones AS
                FROM (VALUES (1, 'EWR'), (4, 'Manhattan'), (7, 'Queens'), (132, 'Queens'), (264, 'Unknown'))
                AS t(zone_id, borough);
            CREATE TABLE marts.airport_trips AS
                FROM (VALUES
                    ('green', DATE '2023-01-01', 132, 'JFK Airport', 'from', 'Manhattan', 70),
                    ('green', DATE '2023-01-01', 132, 'JFK Airport', 'to', 'Unknown', 30),
                    ('green', DATE '2023-02-01', 132, 'JFK Airport', 'to', 'Queens', 8),
                    ('yellow', DATE '2023-01-01', 132, 'JFK Airport', 'to', 'Queens', 9))
                AS t(fleet, partition_month, airport_zone_id, airport, direction, other_borough, num_trips);
            CREATE VIEW marts.fleet_market_share AS
                FROM (VALUES
                    (DATE '2023-01-01', 4, 'green', 10), (DATE '2023-01-01', 4, 'yellow', 30),
                    (DATE '2023-01-01', 7, 'green', 5), (DATE '2023-01-01', 132, 'yellow', 15),
                    (DATE '2023-01-01', 264, 'yellow', 99), (DATE '2023-02-01', 4, 'green', 1))
                AS t(partition_month, zone_id, fleet, num_trips);
            CREATE TABLE marts.without_months AS FROM range(3);
            """
        )
        yield con


def rows(path: Path) -> list[list[str]]:
    with path.open() as file:
        return list(csv.reader(file))


def test_rows_are_those_of_the_fleets_month_where_a_mart_has_fleets_and_months(con: duckdb.DuckDBPyConnection) -> None:
    names = ["airport_trips", "fleet_market_share", "without_months"]
    assert marts.count_rows(con, names, "green", JANUARY) == dict(zip(names, (2, 2, 3), strict=True))


def test_a_mart_that_is_gone_is_named(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(marts.MartError, match=r"there is no table marts\.daily_trips in the warehouse: clear the task"):
        marts.count_rows(con, ["daily_trips"], "green", JANUARY)


def test_airport_trips_are_those_of_the_fleets_month(con: duckdb.DuckDBPyConnection, data_dir: Path) -> None:
    path = marts.write_airports(con, "green", JANUARY, data_dir / "outputs" / "green")
    assert rows(path) == [
        list(marts.AIRPORTS),
        ["green", "2023-01", "JFK Airport", "from", "Manhattan", "70"],
        ["green", "2023-01", "JFK Airport", "to", "Unknown", "30"],
    ]


def test_shares_of_a_borough_add_up_to_a_hundred_and_unknown_zones_are_in_none(
    con: duckdb.DuckDBPyConnection, data_dir: Path
) -> None:
    path = marts.write_shares(con, JANUARY, data_dir / "outputs")
    assert rows(path) == [
        list(marts.SHARES),
        ["2023-01", "Manhattan", "green", "10", "25.0"],
        ["2023-01", "Manhattan", "yellow", "30", "75.0"],
        ["2023-01", "Queens", "green", "5", "25.0"],
        ["2023-01", "Queens", "yellow", "15", "75.0"],
    ]


def test_charts_are_pictures_that_the_pages_list_with_their_figures(
    con: duckdb.DuckDBPyConnection, data_dir: Path
) -> None:
    outputs = data_dir / "outputs"
    airports = mart_charts.draw_airports(marts.write_airports(con, "green", JANUARY, outputs / "green"))
    shares = mart_charts.draw_shares(marts.write_shares(con, JANUARY, outputs))
    assert airports.read_bytes().startswith(b"\x89PNG")
    assert shares.read_bytes().startswith(b"\x89PNG")
    assert [(output.folder, output.title) for output in pages.list_outputs() if output.is_picture] == [
        ("all_fleets", "Market share, January 2023"),
        ("green", "Trips at airports, January 2023"),
    ]


def test_a_month_without_such_trips_has_charts_too(con: duckdb.DuckDBPyConnection, data_dir: Path) -> None:
    outputs, month = data_dir / "outputs", "2023-03"
    for picture in (
        mart_charts.draw_airports(marts.write_airports(con, "green", Month(month), outputs / "green")),
        mart_charts.draw_shares(marts.write_shares(con, Month(month), outputs)),
    ):
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_equal_figures_give_equal_pictures(con: duckdb.DuckDBPyConnection, data_dir: Path) -> None:
    figures = marts.write_shares(con, JANUARY, data_dir / "outputs")
    assert mart_charts.draw_shares(figures).read_bytes() == mart_charts.draw_shares(figures).read_bytes()


LOADED = datetime(2023, 4, 1, 12, 30, tzinfo=UTC)


@pytest.fixture
def built(con: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """Two marts that have two months of green trips, each from its latest load; of yellow trips a month is loaded."""
    con.execute(
        "CREATE TABLE marts.built_months "
        "(mart VARCHAR, fleet VARCHAR, partition_month DATE, loaded_at TIMESTAMP, built_at TIMESTAMP)"
    )
    for fleet, month in (("green", "2023-01-01"), ("green", "2023-02-01"), ("yellow", "2023-01-01")):
        load(con, fleet, month, LOADED)
    for mart in ("daily_trips", "airport_trips"):
        con.execute(
            "INSERT INTO marts.built_months SELECT ?, fleet, partition_month, loaded_at, loaded_at FROM loads "
            "WHERE fleet = 'green'",
            [mart],
        )
    return con


def load(con: duckdb.DuckDBPyConnection, fleet: str, month: str, moment: datetime) -> None:
    con.execute(
        "INSERT INTO loads VALUES (?, ?, 'u', 'e', NULL, 1, 1, 1, '{}', ?, 'a run', NULL, '[]', false)",
        [fleet, month, moment.replace(tzinfo=None)],
    )


def test_without_marts_no_month_is_to_be_built_again(con: duckdb.DuckDBPyConnection) -> None:
    assert marts.reloaded_months(con, ["green"]) == []


def test_a_month_is_to_be_built_again_once_for_each_time_that_it_is_loaded_again(
    built: duckdb.DuckDBPyConnection,
) -> None:
    assert marts.reloaded_months(built, ["green", "yellow"]) == [], "and months that no mart has are not"

    load(built, "green", "2023-01-01", LOADED + timedelta(days=28))
    (first,) = marts.reloaded_months(built, ["green", "yellow"])
    assert (first.fleet, first.month, first.run_id) == ("green", "2023-01", "reload__2023-01__20230429T123000.000000")
    assert marts.reloaded_months(built, ["green"]) == [first], "the same load gives the same run"
    assert marts.reloaded_months(built, ["yellow"]) == []

    load(built, "green", "2023-01-01", LOADED + timedelta(days=28, microseconds=1))
    (second,) = marts.reloaded_months(built, ["green"])
    assert (second.run_id, second.logical_date) != (first.run_id, first.logical_date)

    built.execute("UPDATE marts.built_months SET loaded_at = ? WHERE mart = 'daily_trips'", [second.loaded_at])
    assert second in marts.reloaded_months(built, ["green"]), "one of the marts still has the load before"
    built.execute(
        "UPDATE marts.built_months SET loaded_at = (SELECT max(loaded_at) FROM loads AS l "
        "WHERE (l.fleet, l.partition_month) = (built_months.fleet, built_months.partition_month))"
    )
    assert marts.reloaded_months(built, ["green"]) == []


@pytest.mark.parametrize("since", [timedelta(0), timedelta(days=9, hours=3, microseconds=7), timedelta(days=27.99999)])
def test_the_run_of_a_reloaded_month_has_a_date_within_the_month_but_not_that_of_the_schedule(since: timedelta) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + 700 * timedelta(days=28) + since
    date = marts.ReloadedMonth("green", Month("2023-02"), moment).logical_date
    assert datetime(2023, 2, 1, tzinfo=UTC) < date < datetime(2023, 3, 1, tzinfo=UTC)


def test_the_charts_have_other_files_than_the_report_that_users_are_shown_how_to_add(data_dir: Path) -> None:
    example = (Path(__file__).parents[2] / "docs" / "how-to" / "add-a-report.md").read_text()
    (name,) = {*re.findall(r'outputs / f"(\w+)_\{month\}\.csv"', example)}
    for path in (marts.airports_path(JANUARY, data_dir), marts.shares_path(JANUARY, data_dir)):
        assert path.name != f"{name}_{JANUARY}.csv"
