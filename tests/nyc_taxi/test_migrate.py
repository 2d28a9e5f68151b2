"""Copying from a DuckDB file into a lake and back loses and duplicates nothing, and reports what is wrong."""

import duckdb
import pytest

from include.nyc_taxi import warehouse
from include.nyc_taxi.months import Month
from include.nyc_taxi.reports.by_zone import aggregate_month
from include.nyc_taxi.trips.load import load_month
from include.nyc_taxi.warehouse import lake
from include.nyc_taxi.warehouse.migrate import MigrateError, migrate


@pytest.fixture
def file(con, write_trips, zones, tmp_path):
    """The path of a closed warehouse with three months of two fleets."""
    for fleet, month in (("green", "2023-01"), ("green", "2023-02"), ("fhv", "2023-01")):
        load_month(con, fleet, Month(month), write_trips(fleet, month, rows=20), "run")
        aggregate_month(con, fleet, Month(month), tmp_path / "outputs" / fleet)
    con.close()
    return tmp_path / "warehouse.duckdb"


@pytest.fixture
def lake_con(tmp_path):
    with duckdb.connect() as connection:
        lake.attach(connection, f"ducklake:{tmp_path}/catalog.ducklake", f"{tmp_path}/lake/")
        warehouse.make_ready(connection)
        yield connection


def test_every_table_is_the_same_in_a_lake_and_back_in_a_file(file, lake_con, contents, tmp_path):
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


@pytest.mark.slow
def test_a_repeated_copy_copies_only_differences(file, lake_con, contents):
    migrate(lake_con, str(file), into_lake=True, say=print)
    lake_con.execute("DELETE FROM green_trips WHERE partition_month = '2023-02-01' AND rowid % 2 = 0")
    said = []
    migrate(lake_con, str(file), into_lake=True, say=said.append)
    assert said[:3] == ["green 2023-01: identical already", "green 2023-02: 20 trips", "fhv 2023-01: identical already"]


def test_a_target_that_has_other_months_is_left_alone(file, lake_con, write_trips):
    load_month(lake_con, "green", Month("2023-03"), write_trips("green", "2023-03"), "run")
    with pytest.raises(MigrateError, match="green: the target has months that the source lacks: 2023-03"):
        migrate(lake_con, str(file), into_lake=True, say=print)
    assert lake_con.execute("SELECT DISTINCT partition_month::VARCHAR FROM green_trips").fetchall() == [("2023-03-01",)]


@pytest.mark.slow
def test_a_difference_after_the_copy_is_an_error(file, lake_con, monkeypatch):
    monkeypatch.setattr("include.nyc_taxi.warehouse.migrate._Copy._copy_table", lambda *_: None)
    with pytest.raises(MigrateError, match=r"loads: expected 3 rows .* found 0"):
        migrate(lake_con, str(file), into_lake=True, say=print)


@pytest.mark.slow
class TestAdditionsByAnalysts:
    """Analysts' schemas, tables, columns and views are copied into a lake and back."""

    STATEMENTS = (
        "ALTER TABLE loads ADD COLUMN note VARCHAR DEFAULT 'it''s'",
        "ALTER TABLE trips_by_week ADD COLUMN tips DOUBLE",
        'ALTER TABLE green_trips ADD COLUMN "my score" INTEGER',
        'UPDATE green_trips SET "my score" = vendor_id + rowid',
        "INSERT INTO green_trips (vendor_id) VALUES (7)",  # without a month
        "ALTER TABLE fhv_trips ALTER COLUMN sr_flag TYPE VARCHAR",
        'CREATE SCHEMA "of analysts"',
        """CREATE TABLE "of analysts".zones (i INTEGER NOT NULL DEFAULT 5, "a ""b c" STRUCT(x DATE, y VARCHAR[]))""",
        """INSERT INTO "of analysts".zones VALUES (1, {'x': '2023-01-01', 'y': ['u', NULL]}), (2, NULL)""",
        "CREATE TABLE nothing (i INTEGER)",
        "CREATE VIEW later AS FROM nothing",
        "CREATE VIEW best (number) AS SELECT count(*) FROM later",
        'CREATE VIEW "of analysts".best AS SELECT i FROM zones',
        "COMMENT ON TABLE green_trips IS 'ours'",
        """COMMENT ON COLUMN "of analysts".zones.i IS 'it''s i'""",
        "COMMENT ON VIEW best IS 'the best'",
    )
    DESCRIBED = (
        "SELECT schema_name, table_name, comment FROM duckdb_tables()",
        "SELECT schema_name, view_name, comment FROM duckdb_views()",
        "SELECT schema_name, table_name, column_name, data_type, is_nullable, comment FROM duckdb_columns()",
    )

    def everything(self, con):
        """All definitions and rows, except of the view whose `*` was expanded before its table got more columns."""
        here = "WHERE database_name = current_database() AND NOT internal ORDER BY ALL"
        found = [con.execute(f"{query} {here}").fetchall() for query in self.DESCRIBED]
        described = [[row for row in rows if row[1] not in ("turns", "latest_loads")] for rows in found]
        rows = {}
        for schema, name, _ in described[0] + described[1]:
            rows[schema, name] = sorted(con.execute(f'FROM "{schema}"."{name}"').fetchall(), key=repr)
        return described, rows

    def test_are_the_same_in_a_lake_and_in_a_file_copied_from_it(self, file, lake_con, tmp_path):
        with duckdb.connect(str(file)) as con:
            for statement in self.STATEMENTS:
                con.execute(statement)
            before = self.everything(con)
        assert ("of analysts", "best") in before[1]
        migrate(lake_con, str(file), into_lake=True, say=print)
        assert self.everything(lake_con) == before
        migrate(lake_con, str(file), into_lake=True, say=print)  # again
        assert self.everything(lake_con) == before
        migrate(lake_con, str(tmp_path / "back.duckdb"), into_lake=False, say=print)
        with duckdb.connect(str(tmp_path / "back.duckdb")) as con:
            assert self.everything(con) == before
        lake_con.execute(
            "INSERT INTO loads (fleet, partition_month, source_url, bytes, rows_in_file, rows_loaded, quality, "
            "loaded_at, run_id) VALUES ('green', '2023-03-01', '', 1, 1, 1, '{}', now(), 'the next')"
        )
        assert lake_con.execute("SELECT note FROM loads WHERE run_id = 'the next'").fetchall() == [("it's",)]

    def test_that_a_lake_does_not_support_are_reported_and_their_values_copied(self, file, lake_con):
        with duckdb.connect(str(file)) as con:
            con.execute("CREATE TYPE mood AS ENUM ('good', 'bad')")
            con.execute("CREATE SEQUENCE numbers")
            con.execute(
                "CREATE TABLE moods (i INTEGER PRIMARY KEY DEFAULT nextval('numbers'), m mood, a INTEGER[2], "
                "u UNION(n INTEGER, t VARCHAR), twice INTEGER GENERATED ALWAYS AS (2 * i))"
            )
            con.execute("CREATE MACRO three() AS 3")
            con.execute("CREATE INDEX by_mood ON moods (m)")
            con.execute("INSERT INTO moods (m, a, u) VALUES ('good', [1, 2], 1), ('bad', NULL, 'x')")
            con.execute("CREATE VIEW broken AS FROM moods")
            con.execute("CREATE OR REPLACE VIEW broken AS SELECT absent FROM (SELECT 1 AS absent)")
            con.execute("CREATE TABLE gone (i INTEGER)")
            con.execute("CREATE VIEW without AS FROM gone")
            con.execute("DROP TABLE gone")
        said = []
        migrate(lake_con, str(file), into_lake=True, say=said.append)
        assert lake_con.execute("SELECT i, m, a, u, twice FROM moods ORDER BY i").fetchall() == [
            (1, "good", [1, 2], "1", 2),
            (2, "bad", None, "x", 4),
        ]
        for line in (
            """moods: the column is "m" VARCHAR instead of "m" ENUM('good', 'bad')""",
            "not copied: index by_mood",
            "not copied: macro three",
            "not copied: sequence numbers",
            "not copied: type mood",
            "not copied: constraint moods: PRIMARY KEY(i)",
            "view without: not copied, because it cannot be read in the source either",
        ):
            assert line in said

    def test_in_the_target_are_neither_lost_nor_mixed_with_those_of_the_source(self, file, lake_con):
        with duckdb.connect(str(file)) as con:
            con.execute("CREATE TABLE notes AS SELECT 1 AS i")
        migrate(lake_con, str(file), into_lake=True, say=print)
        lake_con.execute("INSERT INTO notes VALUES (2)")
        with pytest.raises(MigrateError, match=r"notes: the target has 1 rows that the source lacks"):
            migrate(lake_con, str(file), into_lake=True, say=print)
        lake_con.execute("DELETE FROM notes WHERE i = 2")
        lake_con.execute("CREATE TABLE others AS SELECT 1 AS i")
        with pytest.raises(MigrateError, match="the target has tables that the source lacks: others"):
            migrate(lake_con, str(file), into_lake=True, say=print)
        assert lake_con.execute("FROM others").fetchall() == [(1,)]

    def test_to_tables_of_trips_need_not_belong_to_a_month(self, file, lake_con, tmp_path):
        """A load replaces the rows of a month's first day, so rows of another day must not be copied in that way."""
        days = [None, "1999-12-01", "2023-01-15", "2023-01-16", "2023-02-01"]
        with duckdb.connect(str(file)) as con:
            con.executemany(
                "INSERT INTO green_trips (partition_month, vendor_id) VALUES (?, 7)", [[day] for day in days]
            )
            by_day = "SELECT partition_month::VARCHAR, count(*) FROM green_trips GROUP BY ALL ORDER BY ALL"
            before = con.execute(by_day).fetchall()
        assert before[:5] == [
            ("1999-12-01", 1),
            ("2023-01-01", 20),
            ("2023-01-15", 1),
            ("2023-01-16", 1),
            ("2023-02-01", 21),
        ]
        said = []
        for _ in range(2):  # the second copy finds everything
            migrate(lake_con, str(file), into_lake=True, say=said.append)
            assert lake_con.execute(by_day).fetchall() == before
        assert said.count("green 2023-01-15: 1 trips") == said.count("green 2023-01-15: identical already") == 1
        migrate(lake_con, str(tmp_path / "back.duckdb"), into_lake=False, say=said.append)
        with duckdb.connect(str(tmp_path / "back.duckdb")) as con:
            assert con.execute(by_day).fetchall() == before

    @pytest.mark.parametrize(("day", "label"), [(None, "without a month"), ("1999-12-01", "1999-12-01")])
    def test_of_no_month_in_the_target_alone_are_named(self, file, lake_con, day, label):
        lake_con.execute("INSERT INTO green_trips (partition_month, vendor_id) VALUES (?, 7)", [day])
        with pytest.raises(MigrateError, match=f"green: the target has months that the source lacks: {label}"):
            migrate(lake_con, str(file), into_lake=True, say=print)

    def test_with_the_name_of_the_lakes_own_table_are_refused_instead_of_left_out(self, file, lake_con):
        with duckdb.connect(str(file)) as con:
            con.execute("CREATE TABLE turns AS SELECT 'left' AS direction")
        with pytest.raises(MigrateError, match=r"turns: expected no table of this name in the file.* rename the table"):
            migrate(lake_con, str(file), into_lake=True, say=print)

    def test_that_prevent_the_copy_are_named_in_an_error(self, file, lake_con):
        lake_con.execute("ALTER TABLE zones ADD COLUMN note VARCHAR")
        lake_con.execute("INSERT INTO zones VALUES (1, 'Newark Airport', 'EWR', 'EWR', NULL, 'far away')")
        lake_con.execute("ALTER TABLE zones ALTER COLUMN note SET NOT NULL")
        with pytest.raises(MigrateError, match=r"the copy is incomplete: .*NOT NULL.*note.* run this again"):
            migrate(lake_con, str(file), into_lake=True, say=print)


def test_an_error_does_not_contain_a_password_of_the_connection(file, lake_con, monkeypatch):
    def lose_the_catalog(*_):
        raise duckdb.IOException(
            'Unable to connect to Postgres at "host=127.0.0.1 password=ses4ame user=lake": refused'
        )

    monkeypatch.setattr("include.nyc_taxi.warehouse.migrate._Copy.run", lose_the_catalog)
    with pytest.raises(MigrateError, match=r"the copy is incomplete: .*Unable to connect to Postgres") as error:
        migrate(lake_con, str(file), into_lake=True, say=print)
    assert "ses4ame" not in str(error.value)
    assert error.value.__cause__ is None


def test_a_file_that_another_process_has_open_is_named(file, lake_con, hold_open):
    hold_open(file)
    with pytest.raises(MigrateError, match=r"warehouse\.duckdb cannot be opened; is a task or a shell using it"):
        migrate(lake_con, str(file), into_lake=True, say=print)
