"""Tables, the view `trips`, and transactions."""

import duckdb
import pytest

from include.nyc_taxi import tlc, warehouse

FLEETS = sorted(tlc.FLEETS)
TRIPS = ["fleet", "partition_month", "vendor_id", "pickup_zone_id", "dropoff_zone_id", "rate_code_id", "payment_type"]
TRIPS += ["pickup_datetime", "dropoff_datetime", "trip_distance", "passenger_count", "total_amount"]


def columns(con, table):
    """(name, type) of a table's or view's columns, in order."""
    return [(name, kind) for name, kind, *_ in con.execute(f"DESCRIBE {table}").fetchall()]


def test_a_transaction_is_committed_when_the_block_ends(con, tmp_path):
    with warehouse.transaction(con) as same:
        same.execute("INSERT INTO trips_by_zone VALUES ('green', '2023-01-01', 1, 1)")
    con.close()
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as again:
        assert again.execute("SELECT * FROM trips_by_zone").fetchall()


def test_a_transaction_that_raises_leaves_nothing_and_the_connection_goes_on(con):
    con.execute("INSERT INTO trips_by_zone VALUES ('green', '2023-01-01', 1, 7)")

    def replace():
        with warehouse.transaction(con):
            con.execute("DELETE FROM trips_by_zone")
            raise KeyboardInterrupt  # no Exception: a task that is stopped must roll back too

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
def test_an_error_of_duckdb_itself_rolls_back_and_comes_through(con, failing):
    con.execute("INSERT INTO trips_by_zone VALUES ('green', '2023-01-01', 1, 7)")

    def replace():
        with warehouse.transaction(con):
            con.execute("DELETE FROM trips_by_zone")
            con.execute(failing)

    with pytest.raises(duckdb.Error):
        replace()
    assert con.execute("SELECT num_trips FROM trips_by_zone").fetchall() == [(7,)]


def test_a_process_killed_within_a_transaction_leaves_the_warehouse_as_it_was(con, tmp_path, start_python):
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
def test_a_fleets_table_has_the_catalogues_columns_and_types_and_the_month(con, fleet):
    expected = [(column.name, column.type) for column in tlc.fleet(fleet).columns] + [("partition_month", "DATE")]
    assert columns(con, f"{fleet}_trips") == expected


def test_tables_of_the_design_have_its_columns(con):
    def names(table):
        return [name for name, _ in columns(con, table)]

    assert names("zones") == ["zone_id", "zone", "borough", "service_zone", "geometry"]
    assert names("trips_by_zone") == ["fleet", "partition_month", "zone_id", "num_trips"]
    assert ", ".join(names("loads")) == (
        "fleet, partition_month, source_url, etag, last_modified, bytes, rows_in_file, rows_loaded, quality, "
        "loaded_at, run_id"
    )


def test_the_view_trips_has_the_designs_columns_in_order(con):
    assert columns(con, "trips") == [("fleet", "VARCHAR"), ("partition_month", "DATE"), *tlc.COMMON_COLUMNS]
    assert [name for name, _ in columns(con, "trips")] == TRIPS


def test_the_view_trips_shows_the_trips_of_every_fleet(con):
    for number, fleet in enumerate(FLEETS):
        con.execute(
            f"INSERT INTO {fleet}_trips (partition_month, pickup_zone_id, dropoff_zone_id, total_amount) "
            f"VALUES ('2023-01-01', {number + 1}, {number + 11}, 9.5)"
        )
    shown = con.execute(
        "SELECT fleet, pickup_zone_id, dropoff_zone_id, total_amount FROM trips ORDER BY fleet"
    ).fetchall()
    assert shown == [(fleet, number + 1, number + 11, 9.5) for number, fleet in enumerate(FLEETS)]


def test_making_tables_again_changes_nothing(con, contents):
    con.execute("INSERT INTO green_trips (partition_month, pickup_zone_id) VALUES ('2023-01-01', 7)")
    schema = con.execute("SELECT sql FROM duckdb_tables() ORDER BY ALL").fetchall()
    before = contents()
    warehouse.ensure_tables(con)
    assert contents() == before
    assert con.execute("SELECT sql FROM duckdb_tables() ORDER BY ALL").fetchall() == schema


def test_a_column_that_a_table_of_an_older_version_lacks_is_added_as_null(con):
    con.execute("DROP VIEW trips")
    con.execute("INSERT INTO green_trips (partition_month, pickup_zone_id, total_amount) VALUES ('2023-01-01', 7, 9.5)")
    for column in ("cbd_congestion_fee", "passenger_count"):
        con.execute(f"ALTER TABLE green_trips DROP COLUMN {column}")
    warehouse.ensure_tables(con)
    assert set(columns(con, "green_trips")) >= {("cbd_congestion_fee", "DOUBLE"), ("passenger_count", "INTEGER")}
    kept = "SELECT pickup_zone_id, total_amount, cbd_congestion_fee, passenger_count FROM green_trips"
    assert con.execute(kept).fetchall() == [(7, 9.5, None, None)]
    assert con.execute("SELECT passenger_count FROM trips").fetchall() == [(None,)]


def test_a_view_that_someone_dropped_is_made_again(con):
    con.execute("DROP VIEW trips")
    warehouse.ensure_tables(con)
    assert [name for name, _ in columns(con, "trips")] == TRIPS


def test_a_table_that_someone_dropped_is_made_again(con):
    con.execute("DROP TABLE green_trips")
    warehouse.ensure_tables(con)
    assert con.execute("SELECT count(*) FROM trips").fetchone() == (0,)


def test_tables_made_in_a_transaction_that_fails_are_gone_with_it():
    with duckdb.connect() as con:
        with pytest.raises(ZeroDivisionError), warehouse.transaction(con):
            warehouse.ensure_tables(con) or 1 / 0
        assert con.execute("SHOW TABLES").fetchall() == []
