"""Tables and views are created and upgraded, and transactions are committed completely or not at all."""

import dataclasses
from datetime import date

import duckdb
import pytest

from include.nyc_taxi import catalogue, warehouse
from include.nyc_taxi.audit import report, rules
from include.nyc_taxi.months import Month
from include.nyc_taxi.reports import by_week, provenance
from include.nyc_taxi.reports.adhoc import Request, RequestError
from include.nyc_taxi.reports.adhoc_report import count_trips
from include.nyc_taxi.trips import loaded, zones
from include.nyc_taxi.warehouse import registry

FLEETS = sorted(catalogue.FLEETS)
TRIPS = ["fleet", "partition_month", "vendor_id", "pickup_zone_id", "dropoff_zone_id", "rate_code_id", "payment_type"]
TRIPS += ["pickup_datetime", "dropoff_datetime", "trip_distance", "passenger_count", "total_amount"]


def columns(con, table):
    """The (name, type) pairs of the columns of a table or view, in order."""
    return [(name, kind) for name, kind, *_ in con.execute(f"DESCRIBE {table}").fetchall()]


def has_amount(fleet):
    """Whether the fleet's trips have a total amount."""
    return "total_amount" in catalogue.fleet(fleet).column_names


def test_a_transaction_is_committed_when_the_block_ends(con, tmp_path):
    with warehouse.transaction(con) as same:
        same.execute("INSERT INTO trips_by_zone VALUES ('green', '2023-01-01', 1, 1)")
    con.close()
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as again:
        assert again.execute("SELECT * FROM trips_by_zone").fetchall()


def test_a_transaction_that_raises_changes_nothing_and_the_connection_remains_usable(con):
    con.execute("INSERT INTO trips_by_zone VALUES ('green', '2023-01-01', 1, 7)")

    def replace():
        with warehouse.transaction(con):
            con.execute("DELETE FROM trips_by_zone")
            raise KeyboardInterrupt  # not an Exception: a stopped task must roll back, too

    with pytest.raises(KeyboardInterrupt):
        replace()
    assert con.execute("SELECT num_trips FROM trips_by_zone").fetchall() == [(7,)]
    with warehouse.transaction(con):
        con.execute("INSERT INTO trips_by_zone VALUES ('green', '2023-02-01', 1, 8)")
    assert con.execute("SELECT count(*) FROM trips_by_zone").fetchone() == (2,)


@pytest.mark.parametrize(
    "failing",
    [
        "INSERT INTO trips_by_zone VALUES ('green', '2023-01-01', 'many', 1)",
        "INSERT INTO trips_by_zone VALUES (NULL, NULL, 1, 1)",
        "SELEC",
    ],
    ids=["a value that cannot be cast", "a constraint", "a syntax error"],
)
def test_an_error_of_duckdb_rolls_back_and_is_raised(con, failing):
    con.execute("INSERT INTO trips_by_zone VALUES ('green', '2023-01-01', 1, 7)")

    def replace():
        with warehouse.transaction(con):
            con.execute("DELETE FROM trips_by_zone")
            con.execute(failing)

    with pytest.raises(duckdb.Error):
        replace()
    assert con.execute("SELECT num_trips FROM trips_by_zone").fetchall() == [(7,)]


def test_a_process_killed_during_a_transaction_leaves_the_warehouse_unchanged(con, tmp_path, start_python):
    con.execute("INSERT INTO trips_by_zone VALUES ('green', '2023-01-01', 1, 7)")
    con.close()
    process = start_python(
        "import duckdb, sys\n"
        "from include.nyc_taxi import warehouse\n"
        "with warehouse.transaction(duckdb.connect(sys.argv[1])) as con:\n"
        "    con.execute('DELETE FROM trips_by_zone')\n"
        "    print(con.execute('SELECT count(*) FROM trips_by_zone').fetchone()[0], flush=True)\n"
        "    sys.stdin.read()\n",
        tmp_path / "warehouse.duckdb",
    )
    assert process.stdout.readline() == "0\n"
    process.kill()
    process.wait()
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as again:
        assert again.execute("SELECT num_trips FROM trips_by_zone").fetchall() == [(7,)]


@pytest.mark.parametrize("fleet", FLEETS)
def test_a_fleets_table_has_the_columns_of_the_catalogue_and_the_month(con, fleet):
    expected = [(column.name, column.type) for column in catalogue.fleet(fleet).columns] + [("partition_month", "DATE")]
    expected += [("is_reversed", "BOOLEAN")] if fleet in ("yellow", "green") else []  # the fleets with a total amount
    assert columns(con, f"{fleet}_trips") == expected


def test_tables_have_their_documented_columns(con):
    def names(table):
        return [name for name, _ in columns(con, table)]

    assert names("zones") == ["zone_id", "zone", "borough", "service_zone", "geometry"]
    assert names("trips_by_zone") == ["fleet", "partition_month", "zone_id", "num_trips"]
    assert ", ".join(names("loads")) == (
        "fleet, partition_month, source_url, etag, last_modified, bytes, rows_in_file, rows_loaded, quality, "
        "loaded_at, run_id, changes, unknown_columns, simulated"
    )


def test_the_view_trips_has_its_documented_columns_in_order(con):
    assert columns(con, "trips") == [("fleet", "VARCHAR"), ("partition_month", "DATE"), *catalogue.COMMON_COLUMNS]
    assert [name for name, _ in columns(con, "trips")] == TRIPS


def test_the_view_trips_shows_the_trips_of_every_fleet(con):
    for number, fleet in enumerate(FLEETS):
        amount, value = (", total_amount", ", 9.5") if has_amount(fleet) else ("", "")
        con.execute(
            f"INSERT INTO {fleet}_trips (partition_month, pickup_zone_id, dropoff_zone_id{amount}) "
            f"VALUES ('2023-01-01', {number + 1}, {number + 11}{value})"
        )
    shown = con.execute(
        "SELECT fleet, pickup_zone_id, dropoff_zone_id, total_amount FROM trips ORDER BY fleet"
    ).fetchall()
    assert shown == [
        (fleet, number + 1, number + 11, 9.5 if has_amount(fleet) else None) for number, fleet in enumerate(FLEETS)
    ]


def test_creating_tables_again_changes_nothing(con, contents):
    con.execute("INSERT INTO green_trips (partition_month, pickup_zone_id) VALUES ('2023-01-01', 7)")
    schema = con.execute("SELECT sql FROM duckdb_tables() ORDER BY ALL").fetchall()
    before = contents()
    warehouse.ensure_tables(con)
    assert contents() == before
    assert con.execute("SELECT sql FROM duckdb_tables() ORDER BY ALL").fetchall() == schema


def test_a_missing_column_in_a_table_of_an_older_version_is_added_with_nulls(con):
    con.execute("DROP VIEW trips")
    con.execute("DROP VIEW trips_clean")
    con.execute("INSERT INTO green_trips (partition_month, pickup_zone_id, total_amount) VALUES ('2023-01-01', 7, 9.5)")
    for column in ("cbd_congestion_fee", "passenger_count"):
        con.execute(f"ALTER TABLE green_trips DROP COLUMN {column}")
    warehouse.ensure_tables(con)
    assert set(columns(con, "green_trips")) >= {("cbd_congestion_fee", "DOUBLE"), ("passenger_count", "INTEGER")}
    kept = "SELECT pickup_zone_id, total_amount, cbd_congestion_fee, passenger_count FROM green_trips"
    assert con.execute(kept).fetchall() == [(7, 9.5, None, None)]
    assert con.execute("SELECT passenger_count FROM trips").fetchall() == [(None,)]


def test_columns_of_weeks_of_an_older_version_become_nullable(con):
    for name in ("total_amount", "trip_distance", "passenger_count"):
        con.execute(f"ALTER TABLE trips_by_week ALTER COLUMN {name} SET NOT NULL")
    warehouse.ensure_tables(con)
    con.execute("INSERT INTO trips_by_week (fleet, period, num_trips) VALUES ('fhv', '2023-01-02', 5)")
    with pytest.raises(duckdb.ConstraintException):
        con.execute("INSERT INTO trips_by_week (fleet, period, num_trips) VALUES ('fhv', '2023-01-02', NULL)")


@pytest.mark.parametrize(
    ("view", "more"),
    [
        ("trips", []),
        ("trips_flagged", ["fare_amount", "tip_amount", "flags", "is_clean"]),
        ("trips_clean", ["fare_amount", "tip_amount", "flags"]),
    ],
)
def test_a_dropped_view_is_created_again(con, view, more):
    con.execute(f"DROP VIEW {view}")
    warehouse.ensure_tables(con)
    assert [name for name, _ in columns(con, view)] == TRIPS + more


def test_an_analysts_table_with_the_name_of_a_view_is_named_in_the_error_and_kept(con):
    con.execute("DROP VIEW trips_clean")
    con.execute("CREATE TABLE trips_clean AS SELECT 1 AS mine")
    with pytest.raises(duckdb.CatalogException, match="trips_clean is of type Table"):
        warehouse.ensure_tables(con)
    assert con.execute("FROM trips_clean").fetchall() == [(1,)]


def comment(con):
    """The comment of the view `trips_clean`."""
    return con.execute("SELECT comment FROM duckdb_views() WHERE view_name = 'trips_clean'").fetchone()[0]


def test_trips_clean_excludes_only_rows_that_are_not_real_trips(con):
    good = {"pickup_datetime": "2023-01-05 12:00:00", "dropoff_datetime": "2023-01-05 12:30:00", "trip_distance": 3}
    trips = [
        good | {"vendor_id": 1},
        good | {"vendor_id": 2, "trip_distance": 1000.5},
        good | {"vendor_id": 3, "total_amount": -3.5},
        good | {"vendor_id": 4, "pickup_datetime": "2009-01-01", "dropoff_datetime": "2009-01-01"},
        good | {"vendor_id": 5, "dropoff_datetime": None, "trip_distance": None},  # no rule applies to it
        {"vendor_id": 6, "pickup_datetime": "2022-12-31 23:59:59", "passenger_count": 0},  # implausible, but possible
    ]
    for trip in trips:
        names = [*trip, "partition_month"]
        values = ", ".join("?" * len(names))
        con.execute(f"INSERT INTO green_trips ({', '.join(names)}) VALUES ({values})", [*trip.values(), "2023-01-01"])
    assert con.execute("SELECT vendor_id FROM trips_clean ORDER BY ALL").fetchall() == [(1,), (5,), (6,)]
    assert con.execute("SELECT count(*) FROM trips").fetchone() == (6,)


def test_the_comment_of_trips_clean_names_its_rules(con):
    not_clean = [rule for rule in rules.TRIP_RULES if not rule.is_clean]
    assert len(not_clean) >= 8
    for rule in not_clean:
        assert f"{rule.breaks} ({rule.name})" in comment(con)


def test_trips_clean_is_redefined_when_the_rules_change(con):
    con.execute("CREATE OR REPLACE VIEW trips_clean AS FROM trips")
    con.execute("COMMENT ON VIEW trips_clean IS 'as an older version had it'")
    warehouse.ensure_tables(con)
    assert "(over_1000_miles)" in comment(con)


def test_a_change_of_a_rules_sql_alone_redefines_the_views(con, monkeypatch):
    con.execute("INSERT INTO green_trips (partition_month, trip_distance) VALUES ('2023-01-01', 500)")
    assert con.execute("SELECT count(*) FROM trips_clean").fetchone() == (1,)
    stricter = [
        dataclasses.replace(rule, sql="trip_distance > 400") if rule.name == "over_1000_miles" else rule
        for rule in rules.TRIP_RULES
    ]
    monkeypatch.setattr(rules, "TRIP_RULES", stricter)
    warehouse.ensure_tables(con)
    assert con.execute("SELECT count(*) FROM trips_clean").fetchone() == (0,)


ADDED_LATER = [
    ("loads", "changes", "JSON"),
    ("loads", "unknown_columns", "JSON"),
    ("loads", "simulated", "BOOLEAN"),
    ("trips_by_week", "clean_trips", "BIGINT"),
    ("trips_by_week", "clean_total_amount", "DOUBLE"),
    ("trips_by_week", "clean_trip_distance", "DOUBLE"),
]


@pytest.mark.parametrize(("table", "name", "kind"), ADDED_LATER)
def test_a_table_of_an_older_version_gets_the_new_columns(con, table, name, kind):
    con.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
    warehouse.ensure_tables(con)
    assert (name, kind) in columns(con, table)
    if table == "loads":
        assert (name, kind) in columns(con, "latest_loads")


def test_a_dropped_table_is_created_again(con):
    con.execute("DROP TABLE green_trips")
    warehouse.ensure_tables(con)
    assert con.execute("SELECT count(*) FROM trips").fetchone() == (0,)


def test_tables_created_in_a_failed_transaction_do_not_remain():
    with duckdb.connect() as con:
        with pytest.raises(ZeroDivisionError), warehouse.transaction(con):
            warehouse.ensure_tables(con) or 1 / 0
        assert con.execute("SHOW TABLES").fetchall() == []


def schema(con):
    return con.execute(
        "SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns() WHERE NOT internal ORDER BY ALL"
    ).fetchall()


def read_everything(con, tmp_path):
    """Read everything that sensors, the status, the quality report and requested reports read without writing."""
    request = Request(
        name="week", fleet="green", borough="Manhattan", start_date=date(2023, 1, 1), end_date=date(2023, 1, 7)
    )
    with pytest.raises(RequestError, match="green 2023-01 is not loaded"):
        count_trips(con, request, tmp_path)
    return (
        zones.count_zones(con),
        loaded.loaded_months(con, "green"),
        by_week.counted_weeks(con, "green"),
        report.report(con, "green", Month("2023-01")),
        provenance.of_months(con, "green", [date(2023, 1, 1)]),
    )


def test_reading_a_new_warehouse_finds_and_creates_nothing(tmp_path):
    with duckdb.connect() as con:
        nothing = read_everything(con, tmp_path)
        assert nothing == (
            0,
            {},
            {},
            "green 2023-01 is not loaded, so no rule has been checked.",
            provenance.Provenance(),
        )
        assert schema(con) == []


def test_reading_a_warehouse_of_an_older_version_leaves_it_unchanged(con, tmp_path):
    con.execute(
        "INSERT INTO loads BY NAME SELECT 'green' AS fleet, DATE '2022-12-01' AS partition_month, 'http://tlc.test' AS "
        "source_url, 1 AS bytes, 1 AS rows_in_file, 1 AS rows_loaded, '{}' AS quality, now() AS loaded_at, '' AS run_id"
    )
    con.execute("INSERT INTO trips_by_week (fleet, period, num_trips) VALUES ('green', '2023-01-02', 5)")
    for view in ("trips_clean", "trips_flagged", "trips", "latest_loads"):
        con.execute(f"DROP VIEW {view}")
    for table, column, _ in ADDED_LATER:
        con.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    before = schema(con)
    _, months, weeks, _, _ = read_everything(con, tmp_path)
    assert list(months) == ["2022-12"]
    assert months[Month("2022-12")].unknown_columns == ()
    assert [(week.num_trips, week.clean_trips) for week in weeks.values()] == [(5, None)]
    assert schema(con) == before


def test_tables_and_views_match_the_registry(con):
    made = con.execute(
        "SELECT table_name, list(column_name ORDER BY column_index) FROM duckdb_columns() "
        "WHERE NOT internal GROUP BY ALL"
    )
    columns = {table.name: list(table.columns) for table in registry.tables()}
    found = dict(made.fetchall())
    assert {name: found[name] for name in columns} == columns
    assert found.keys() - columns.keys() == {view.name for view in registry.views()}
