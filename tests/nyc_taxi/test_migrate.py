"""From a DuckDB file into a lake and back: nothing lost, nothing doubled, and what is wrong is said."""

import duckdb
import pytest

from include.nyc_taxi import lake, warehouse
from include.nyc_taxi.aggregate import aggregate_month
from include.nyc_taxi.load import load_month
from include.nyc_taxi.migrate import MigrateError, migrate


@pytest.fixture
def file(con, write_trips, zones, tmp_path):
    """A warehouse in a file, of two fleets and three months, closed."""
    for fleet, month in (("green", "2023-01"), ("green", "2023-02"), ("fhv", "2023-01")):
        load_month(con, fleet, month, write_trips(fleet, month, rows=20), "run")
        aggregate_month(con, fleet, month, tmp_path / "outputs" / fleet)
    con.close()
    return tmp_path / "warehouse.duckdb"


@pytest.fixture
def lake_con(tmp_path):
    with duckdb.connect() as connection:
        lake.attach(connection, f"ducklake:{tmp_path}/catalog.ducklake", f"{tmp_path}/lake/")
        warehouse.make_ready(connection)
        yield connection


def test_into_a_lake_and_back_every_table_is_the_same(file, lake_con, contents, tmp_path):
    with duckdb.connect(str(file)) as con:
        before = contents(connection=con)
    said = []
    assert migrate(lake_con, str(file), into_lake=True, say=said.append) == sum(
        rows for rows, _ in before.values()
    ) + len(lake_con.execute("FROM zones").fetchall()) + len(lake_con.execute("FROM quality_checks").fetchall())
    assert contents(connection=lake_con) == before
    assert "green 2023-01: 20 trips" in said

    migrate(lake_con, str(tmp_path / "back.duckdb"), into_lake=False, say=said.append)
    with duckdb.connect(str(tmp_path / "back.duckdb")) as con:
        assert contents(connection=con) == before
        assert con.execute("SELECT count(*) FROM trips").fetchone() == (60,)


def test_again_it_copies_only_what_differs(file, lake_con, contents):
    migrate(lake_con, str(file), into_lake=True, say=print)
    lake_con.execute("DELETE FROM green_trips WHERE partition_month = '2023-02-01' AND rowid % 2 = 0")
    said = []
    migrate(lake_con, str(file), into_lake=True, say=said.append)
    assert said[:3] == ["green 2023-01: the same already", "green 2023-02: 20 trips", "fhv 2023-01: the same already"]


def test_a_copy_that_has_other_months_is_left_alone(file, lake_con, write_trips):
    load_month(lake_con, "green", "2023-03", write_trips("green", "2023-03"), "run")
    with pytest.raises(MigrateError, match="green: the copy's side has months that are not to be copied: 2023-03"):
        migrate(lake_con, str(file), into_lake=True, say=print)
    assert lake_con.execute("SELECT DISTINCT partition_month::VARCHAR FROM green_trips").fetchall() == [("2023-03-01",)]


def test_a_difference_in_the_end_is_an_error(file, lake_con, monkeypatch):
    monkeypatch.setattr("include.nyc_taxi.migrate._copy_tables", lambda *_: None)
    with pytest.raises(MigrateError, match=r"zones: expected 6 rows .* found 0"):
        migrate(lake_con, str(file), into_lake=True, say=print)


def test_a_file_that_another_process_has_open_is_named(file, lake_con, hold_open):
    hold_open(file)
    with pytest.raises(MigrateError, match=r"warehouse\.duckdb cannot be opened; is a task or a shell at it"):
        migrate(lake_con, str(file), into_lake=True, say=print)
