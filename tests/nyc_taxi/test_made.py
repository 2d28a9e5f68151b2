"""What the warehouse has of a table, as those see it who wait for it."""

from datetime import UTC, date, datetime, timedelta

import duckdb

from include.nyc_taxi.warehouse import made

JANUARY, LOADED_AT = date(2023, 1, 1), datetime(2023, 4, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = LOADED_AT + timedelta(days=1)


def record(con: duckdb.DuckDBPyConnection, *builds: tuple[str, str, date, datetime]) -> None:
    """Record builds as the dbt project does (macros/months.sql): mart, fleet, first day of the month, and load."""
    con.execute("CREATE SCHEMA marts")
    con.execute(
        "CREATE TABLE marts.built_months (mart VARCHAR NOT NULL, fleet VARCHAR NOT NULL, "
        "partition_month DATE NOT NULL, loaded_at TIMESTAMP NOT NULL, built_at TIMESTAMP NOT NULL)"
    )
    for mart, fleet, month, loaded_at in builds:
        moment = loaded_at.replace(tzinfo=None)
        con.execute("INSERT INTO marts.built_months VALUES (?, ?, ?, ?, ?)", [mart, fleet, month, moment, moment])


def test_without_the_schema_of_the_marts_nothing_is_built_and_nothing_is_created(
    con: duckdb.DuckDBPyConnection,
) -> None:
    assert made.built_from(con, ["daily_trips", "airport_trips"], "green", JANUARY) == [None, None]
    assert not made.exists(con, "marts.daily_trips")
    assert not made.has_rows(con, "marts.daily_trips")
    schemas = con.execute("SELECT DISTINCT schema_name FROM duckdb_tables() WHERE NOT internal").fetchall()
    assert ("marts",) not in schemas


def test_each_mart_has_the_load_from_which_it_has_built_this_month_of_this_fleet(
    con: duckdb.DuckDBPyConnection,
) -> None:
    record(
        con,
        ("daily_trips", "green", JANUARY, LOADED_AT),
        ("airport_trips", "green", JANUARY, LATER),
        ("daily_trips", "yellow", JANUARY, LATER),
        ("daily_trips", "green", date(2023, 2, 1), LATER),
    )
    found = made.built_from(con, ["airport_trips", "daily_trips", "payment_and_tips"], "green", JANUARY)
    assert found == [LATER, LOADED_AT, None]


def test_a_table_has_rows_when_it_has_one_with_all_values(con: duckdb.DuckDBPyConnection) -> None:
    assert not made.has_rows(con, "trips_by_zone")
    con.execute("INSERT INTO trips_by_zone VALUES ('green', '2023-01-01', 1, 7), ('fhv', '2023-02-01', 1, 7)")
    assert made.has_rows(con, "trips_by_zone")
    assert made.has_rows(con, "trips_by_zone", fleet="green", partition_month=JANUARY)
    assert not made.has_rows(con, "trips_by_zone", fleet="fhv", partition_month=JANUARY)


def test_views_and_tables_of_other_schemas_are_found_and_only_there(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("CREATE SCHEMA marts")
    con.execute("CREATE TABLE marts.lines (a INTEGER)")
    con.execute("CREATE VIEW marts.shares AS SELECT * FROM marts.lines")
    for name in ("marts.lines", "marts.shares", "trips", "zones"):
        assert made.exists(con, name), name
    for name in ("lines", "shares", "marts.zones"):
        assert not made.exists(con, name), name
    con.execute("INSERT INTO marts.lines VALUES (1)")
    assert made.has_rows(con, "marts.shares", a="1")
