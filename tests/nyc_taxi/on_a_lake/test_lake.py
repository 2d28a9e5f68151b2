"""The features of a DuckLake: concurrent writers, files, maintenance and opening."""

from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path

import duckdb
import pytest

from include.nyc_taxi import warehouse
from include.nyc_taxi.errors import LoadError
from include.nyc_taxi.months import Month
from include.nyc_taxi.reports.by_zone import aggregate_month
from include.nyc_taxi.trips import load
from include.nyc_taxi.trips.load import load_month
from include.nyc_taxi.warehouse import lake, months

ADD_ONE = "INSERT INTO trips_by_zone VALUES ('green', '2023-01-01', 1, 1)"


def files(folder: Path, table: str) -> list[Path]:
    return sorted((folder / "lake" / "main" / table).rglob("*.parquet"))


def live(con: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    return [
        file for (file,) in con.execute(f"SELECT data_file FROM ducklake_list_files('warehouse', '{table}')").fetchall()
    ]


class TestConcurrentWriters:
    def test_the_slower_writer_repeats_its_work_on_the_faster_writers_result(self, con):
        other = con.cursor()
        other.execute("USE warehouse")
        seen = []

        def count_and_add():
            (count,) = con.execute("SELECT count(*) FROM trips_by_zone").fetchone()
            seen.append(count)
            if len(seen) == 1:
                warehouse.write(other, lambda: other.execute(ADD_ONE))
            con.execute(ADD_ONE)

        warehouse.write(con, count_and_add)
        assert seen == [0, 1]
        assert con.execute("SELECT count(*), (SELECT turn FROM turns) FROM trips_by_zone").fetchone() == (2, 2)

    @pytest.mark.parametrize("loaded_before", [False, True])
    def test_two_concurrent_loads_of_a_month_leave_one_copy_and_write_each_file_once(
        self, con, write_trips, tmp_path, monkeypatch, loaded_before
    ):
        path = write_trips("green", "2023-01", rows=50)
        if loaded_before:
            load_month(con, "green", Month("2023-01"), path, "run 0")
        other = con.cursor()
        other.execute("USE warehouse")
        record, ran = load._record, []

        def record_and_let_another_load(*values):
            ran.append(True)
            if len(ran) == 1:
                load_month(other, "green", Month("2023-01"), path, "the faster")
            return record(*values)

        monkeypatch.setattr(load, "_record", record_and_let_another_load)
        load_month(con, "green", Month("2023-01"), path, "the slower")
        assert len(ran) == 3  # the slower's first attempt, the faster's attempt, and the slower's second
        assert con.execute("SELECT count(*) FROM green_trips").fetchone() == (50,)
        assert con.execute("SELECT count(*), any_value(run_id) FROM loads").fetchone() == (1, "the slower")
        assert len(files(tmp_path, "green_trips")) == 2 + loaded_before
        assert len(live(con, "green_trips")) == 1

    def test_a_writer_gives_up_after_its_last_attempt(self, con, monkeypatch):
        monkeypatch.setattr(lake, "ATTEMPTS", 3)
        monkeypatch.setattr(lake, "FIRST_WAIT_SECONDS", 0.001)
        other = con.cursor()
        other.execute("USE warehouse")
        tries = []

        def always_slower():
            tries.append(True)
            warehouse.write(other, lambda: other.execute(ADD_ONE))

        with pytest.raises(duckdb.TransactionException, match="conflict"):
            warehouse.write(con, always_slower)
        assert len(tries) == 3

    def test_a_transaction_that_fails_for_another_reason_is_not_repeated(self, con):
        tries = []

        def failing():
            tries.append(True)
            con.execute("SELECT error('no')")

        with pytest.raises(duckdb.Error, match="no"):
            warehouse.write(con, failing)
        assert len(tries) == 1

    @pytest.mark.parametrize(
        ("said", "attempts"),
        [
            ('Failed to execute query "COMMIT": FEHLER:  konnte Zugriff nicht serialisieren', 12),
            ('Failed to execute query "UPDATE t": ОШИБКА:  не удалось сериализовать доступ', 12),
            ('Failed to execute query "COMMIT": could not serialize access due to concurrent update', 100),
            # The commit may have succeeded, so it is not repeated.
            ('Failed to execute query "COMMIT": server closed the connection unexpectedly', 1),
            ('Failed to execute query "COMMIT": FATAL:  Verbindung beendet\nserver closed the connection', 1),
            ("Binder Error: no such column", 1),
        ],
    )
    def test_refusals_of_the_catalogs_server_are_repeated_in_any_language(self, monkeypatch, caplog, said, attempts):
        caplog.set_level("INFO")
        monkeypatch.setattr(lake, "FIRST_WAIT_SECONDS", 0.0001)
        monkeypatch.setattr(lake, "LONGEST_WAIT_SECONDS", 0.0001)
        tries = []

        def refused():
            tries.append(True)
            raise duckdb.IOException(f"{said} (dbname=lake password=ses4ame)")

        with pytest.raises(duckdb.IOException):
            lake.retried(refused)
        assert len(tries) == attempts
        assert "ses4ame" not in caplog.text
        assert caplog.text.count("refused attempt") == attempts - 1

    def test_two_processes_that_find_a_new_lake_create_its_tables_once(self, tmp_path):
        with duckdb.connect() as one:
            lake.attach(one, f"ducklake:{tmp_path}/new.ducklake", f"{tmp_path}/new/")
            two = one.cursor()
            two.execute("USE warehouse")
            one.execute("BEGIN")
            warehouse.ensure_tables(one)
            warehouse.make_ready(two)
            with pytest.raises(duckdb.TransactionException, match="conflict"):
                one.execute("COMMIT")
            warehouse.make_ready(one)
            assert one.execute("SELECT count(*) FROM turns").fetchone() == (1,)

    def test_a_reader_sees_one_state_and_cannot_write(self, con):
        other = con.cursor()
        other.execute("USE warehouse")
        with warehouse.reading(con):
            before = con.execute("SELECT count(*) FROM trips_by_zone").fetchone()
            warehouse.write(other, lambda: other.execute(ADD_ONE))
            assert con.execute("SELECT count(*) FROM trips_by_zone").fetchone() == before == (0,)
            with pytest.raises(duckdb.Error, match="read-only"):
                con.execute(ADD_ONE)
        assert con.execute("SELECT count(*) FROM trips_by_zone").fetchone() == (1,)


class TestFiles:
    def test_each_month_has_its_own_file_and_a_query_of_a_month_opens_no_other(self, con, write_trips, tmp_path):
        for month in ("2023-01", "2023-02", "2023-03"):
            load_month(con, "green", Month(month), write_trips("green", month, rows=9), "run")
        folders = [path.parent.name for path in files(tmp_path, "green_trips")]
        assert folders == [f"partition_month=2023-0{number}-01" for number in (1, 2, 3)]
        (_, plan) = con.execute(
            "EXPLAIN ANALYZE SELECT count(*) FROM green_trips WHERE partition_month = '2023-02-01'"
        ).fetchone()
        assert "Total Files Read: 1" in plan

    def test_a_failed_load_leaves_no_file(self, con, write_trips, tmp_path):
        path = write_trips("green", "2023-01", columns={"PULocationID": "999::BIGINT"})
        with pytest.raises(Exception, match="zone ID outside"):
            load_month(con, "green", Month("2023-01"), path, "run")
        assert files(tmp_path, "green_trips") == []

    def test_a_load_whose_commit_succeeds_without_confirmation_keeps_the_file(
        self, con, write_trips, tmp_path, monkeypatch
    ):
        write = months.write

        def write_and_lose_the_connection(*values):
            write(*values)
            raise ConnectionError("the catalog went away before it could confirm the commit")

        monkeypatch.setattr(months, "write", write_and_lose_the_connection)
        with pytest.raises(ConnectionError):
            load_month(con, "green", Month("2023-01"), write_trips("green", "2023-01", rows=30), "run")
        monkeypatch.undo()
        assert [str(path) for path in files(tmp_path, "green_trips")] == live(con, "green_trips") != []
        load_month(con, "green", Month("2023-01"), write_trips("green", "2023-01", rows=31), "the retry")
        assert con.execute("SELECT count(*) FROM green_trips").fetchone() == (31,)


class TestMaintenance:
    def test_it_merges_small_files_and_deletes_unreferenced_ones(self, con, zones, write_trips, contents, tmp_path):
        for month in ("2023-01", "2023-02", "2023-01", "2023-01"):
            load_month(con, "green", Month(month), write_trips("green", month, rows=30), "run")
            aggregate_month(con, "green", Month(month), tmp_path / "outputs")
        before = contents()
        abandoned = tmp_path / "lake" / "main" / "green_trips" / "partition_month=2023-01-01" / "left.parquet"
        abandoned.write_bytes(b"left by a killed load")

        first = lake.maintain(con, keep=timedelta(0), abandoned_after=timedelta(days=1))
        assert first.merged > 0
        assert first.snapshots > 0
        assert abandoned.exists()  # it may belong to a running load
        second = lake.maintain(con, keep=timedelta(0), abandoned_after=timedelta(0))
        assert second.removed > 0
        assert second.abandoned > 0
        assert contents() == before
        assert len(files(tmp_path, "green_trips")) == len(live(con, "green_trips")) == 2
        load_month(con, "green", Month("2023-02"), write_trips("green", "2023-02", rows=31), "run")
        assert con.execute("SELECT count(*) FROM green_trips").fetchone() == (61,)

    def test_files_of_different_months_are_not_merged(self, con, write_trips):
        for month in ("2023-01", "2023-02"):
            load_month(con, "green", Month(month), write_trips("green", month), "run")
        lake.maintain(con, keep=timedelta(0), abandoned_after=timedelta(days=1))
        assert len(live(con, "green_trips")) == 2

    def test_past_states_within_the_limit_can_be_read(self, con):
        warehouse.write(con, lambda: con.execute(ADD_ONE))
        (version,) = con.execute("SELECT id FROM ducklake_current_snapshot('warehouse')").fetchone()
        warehouse.write(con, lambda: con.execute("DELETE FROM trips_by_zone"))
        lake.maintain(con, keep=timedelta(days=7), abandoned_after=timedelta(days=2))
        assert con.execute(f"SELECT count(*) FROM trips_by_zone AT (VERSION => {version})").fetchone() == (1,)
        assert con.execute("SELECT count(*) FROM trips_by_zone").fetchone() == (0,)

    @pytest.mark.parametrize("rows", [8, 100], ids=["in the catalog", "in files"])  # DuckLake inlines up to 10 rows
    def test_a_concurrent_writer_neither_loses_rows_nor_restores_replaced_ones(self, con, rows):
        other = con.cursor()
        other.execute("USE warehouse")
        attempts = []

        def add(month, ids):
            con.execute("INSERT INTO green_trips (partition_month, vendor_id) SELECT ?, unnest(?)", [month, [*ids]])

        def replace_while_maintenance_runs():
            attempts.append(True)
            con.execute("DELETE FROM green_trips WHERE partition_month = '2023-01-01'")
            add("2023-01-01", range(500, 500 + rows))
            con.execute("DELETE FROM trips_by_zone WHERE zone_id = 7")  # a single row of a file: deleted in the catalog
            con.execute("INSERT INTO trips_by_zone VALUES ('green', '2023-01-01', 7, 2)")
            if len(attempts) == 1:
                lake.maintain(other, keep=timedelta(0), abandoned_after=timedelta(days=1))

        for part in range(4):
            zones = "INSERT INTO trips_by_zone SELECT 'green', '2023-01-01', zone_id, 1 FROM range(?, ?) AS z(zone_id)"
            warehouse.write(con, partial(con.execute, zones, [50 * part, 50 * (part + 1)]))
            for month in ("2023-01-01", "2023-02-01"):
                warehouse.write(con, partial(add, month, range(rows)))
        warehouse.write(con, lambda: con.execute("DELETE FROM green_trips WHERE vendor_id > 2"))
        warehouse.write(con, replace_while_maintenance_runs)
        found = con.execute("SELECT month(partition_month), count(*), max(vendor_id) FROM green_trips GROUP BY ALL")
        assert sorted(found.fetchall()) == [(1, rows, 499 + rows), (2, 12, 2)]
        assert con.execute("SELECT count(*), sum(num_trips) FROM trips_by_zone").fetchone() == (200, 201)
        assert len(attempts) == 2

    def test_a_lake_of_an_older_version_keeps_all_rows_in_files_from_now_on(self, tmp_path):
        place = f"ducklake:{tmp_path}/catalog.ducklake", f"{tmp_path}/lake/"
        with duckdb.connect() as con:
            lake.attach(con, *place)
            with warehouse.transaction(con):
                warehouse.ensure_tables(con)
            con.execute(ADD_ONE)
            assert files(tmp_path, "trips_by_zone") == []
            warehouse.make_ready(con)
        with duckdb.connect() as con:
            lake.attach(con, *place)
            warehouse.write(con, lambda: con.execute(ADD_ONE))
            assert len(files(tmp_path, "trips_by_zone")) == 1
            assert files(tmp_path, "turns") == []  # this table would otherwise get a file with every transaction
            lake.maintain(con, keep=timedelta(days=7), abandoned_after=timedelta(days=1))
            assert con.execute("SELECT count(*) FROM trips_by_zone").fetchone() == (2,)

    def test_it_includes_every_schema(self, con):
        con.execute("CREATE SCHEMA analysts")
        con.execute("CREATE TABLE analysts.zones (note VARCHAR)")  # the main schema has a table of the same name
        con.execute("CREATE TABLE analysts.\"my 'own' table\" (note VARCHAR)")
        for table in ("analysts.zones", "analysts.\"my 'own' table\""):
            con.execute(f"INSERT INTO {table} VALUES ('kept')")
        lake.maintain(con, keep=timedelta(0), abandoned_after=timedelta(0))
        inlined = con.execute("SELECT table_name FROM __ducklake_metadata_warehouse.ducklake_inlined_data_tables")
        for (name,) in inlined.fetchall():
            rows = con.execute(f"FROM __ducklake_metadata_warehouse.{name} WHERE end_snapshot IS NULL").fetchall()
            assert len(rows) <= 1  # `turns` has one
        for table in ("analysts.zones", "analysts.\"my 'own' table\""):
            assert con.execute(f"FROM {table}").fetchall() == [("kept",)]


BEFORE_ANY_CHECK = """
import sys, duckdb
from include.nyc_taxi import warehouse
from include.nyc_taxi.warehouse import lake
with duckdb.connect() as con:
    lake.load_extension(con, "ducklake")
    con.execute(f"ATTACH 'ducklake:{sys.argv[1]}/catalog.ducklake' AS warehouse (DATA_PATH '{sys.argv[2]}')")
    con.execute("USE warehouse")
    warehouse.make_ready(con)
"""


def everything_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and "catalog" not in path.name}


class TestAbandonedFiles:
    """Only files of killed loads are deleted, however DuckLake interprets the lake's path."""

    @pytest.fixture
    def another_lakes_file(self, tmp_path):
        """A file beside the lake's folder that matches the patterns below."""
        file = tmp_path / "lake" / "main" / "green_trips" / "live.parquet"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"of another lake")
        return file

    @pytest.mark.parametrize(
        "data_path",
        ["{}//odd/", "{}/odd//x/", "{}/./odd/", "{}/x/../odd/", "{}/l*e/", "{}/l?ke/", "{}/l[a]ke/", "file://{}/odd/"],
    )
    def test_are_kept_if_ducklake_misinterprets_an_existing_lakes_path_and_the_rest_is_maintained(
        self, another_lakes_file, tmp_path, start_python, write_trips, data_path
    ):
        data_path = data_path.format(tmp_path)
        (tmp_path / "x").mkdir()
        Path(data_path.removeprefix("file://")).mkdir(parents=True, exist_ok=True)
        (tmp_path / "lake" / "green.parquet").write_bytes(b"of another lake")
        assert start_python(BEFORE_ANY_CHECK, tmp_path, data_path).wait() == 0
        with duckdb.connect() as con:
            lake.attach(con, f"ducklake:{tmp_path}/catalog.ducklake", data_path)
            con.execute("CALL warehouse.set_option('data_inlining_row_limit', 0)")
            for _ in range(2):
                if not data_path.startswith("file:"):
                    load_month(con, "green", Month("2023-01"), write_trips("green", "2023-01", rows=30), "run")
                warehouse.write(con, lambda: con.execute(ADD_ONE))
            before = everything_below(tmp_path)
            listing = "FROM ducklake_delete_orphaned_files('warehouse', dry_run => true, cleanup_all => true)"
            listed = con.execute(listing).fetchall()
            refused = pytest.raises(lake.LakeError, match="look abandoned; none of them has been removed")
            with refused if listed else nullcontext():
                lake.maintain(con, keep=timedelta(days=7), abandoned_after=timedelta(0))
            assert before <= everything_below(tmp_path)
            assert con.execute("SELECT sum(num_trips) FROM trips_by_zone").fetchone() == (2,)

    def test_are_kept_if_one_of_them_is_in_use_under_another_path(self, con, write_trips, tmp_path):
        for month in ("2023-01", "2023-02"):
            load_month(con, "green", Month(month), write_trips("green", month, rows=30), "run")
        # As with a link or another protocol, the catalog's path differs from the path in the folder's listing.
        file = live(con, "green_trips")[0]
        other = tmp_path / "link"
        other.symlink_to(tmp_path / "lake")
        con.execute(
            "UPDATE __ducklake_metadata_warehouse.ducklake_data_file SET path = ?, path_is_relative = false "
            "WHERE ends_with(?, path)",
            [file.replace(str(tmp_path / "lake"), str(other)), file],
        )
        before = everything_below(tmp_path)
        with pytest.raises(lake.LakeError, match=f"the lake needs {file}"):
            lake.maintain(con, keep=timedelta(0), abandoned_after=timedelta(0))
        assert before <= everything_below(tmp_path)

    def test_are_kept_if_another_programs_file_is_among_them(self, con, write_trips, tmp_path):
        load_month(con, "green", Month("2023-01"), write_trips("green", "2023-01", rows=30), "run")
        raw = tmp_path / "lake" / "raw" / "green_tripdata_2023-01.parquet"
        raw.parent.mkdir()
        raw.write_bytes(b"as the TLC published it")
        with pytest.raises(lake.LakeError, match=f"{raw} is not in any of the lake's folders"):
            lake.maintain(con, keep=timedelta(0), abandoned_after=timedelta(0))
        assert raw.exists()

    def test_are_kept_if_they_are_most_of_the_files_as_with_a_second_catalog(self, con, write_trips, tmp_path):
        for month in ("2023-01", "2023-02", "2023-03"):
            load_month(con, "green", Month(month), write_trips("green", month, rows=30), "run")
        before = everything_below(tmp_path / "lake")
        with duckdb.connect() as fresh:
            lake.attach(fresh, f"ducklake:{tmp_path}/fresh.ducklake", f"{tmp_path}/lake/")
            warehouse.make_ready(fresh)
            load_month(fresh, "green", Month("2023-01"), write_trips("green", "2023-01", rows=30), "run")
            with pytest.raises(lake.LakeError, match="9 files look abandoned; none of them has been removed"):
                lake.maintain(fresh, keep=timedelta(0), abandoned_after=timedelta(0))
        assert before <= everything_below(tmp_path / "lake")


class TestOtherColumns:
    """Analysts may alter a table of trips; a load then fills it as it would in a DuckDB file."""

    def test_a_column_that_is_not_in_the_catalogue_gets_its_default(self, con, write_trips):
        con.execute("ALTER TABLE green_trips ADD COLUMN note VARCHAR")
        con.execute('ALTER TABLE green_trips ADD COLUMN "my score" DOUBLE DEFAULT 0.5')
        con.execute("ALTER TABLE green_trips ALTER COLUMN note SET DEFAULT 'new'")
        load_month(con, "green", Month("2023-01"), write_trips("green", "2023-01", rows=30), "run")
        assert con.execute('SELECT DISTINCT note, "my score" FROM green_trips').fetchall() == [("new", 0.5)]

    def test_columns_with_another_type_or_name_are_possible(self, con, write_trips):
        con.execute("ALTER TABLE green_trips ALTER COLUMN vendor_id TYPE BIGINT")
        con.execute("ALTER TABLE green_trips RENAME COLUMN ehail_fee TO e_hail")
        load_month(con, "green", Month("2023-01"), write_trips("green", "2023-01", rows=30), "run")
        found = "SELECT count(*), any_value(typeof(vendor_id)), count(e_hail), count(ehail_fee) FROM green_trips"
        assert con.execute(found).fetchone() == (30, "BIGINT", 0, 30)

    def test_the_error_for_a_column_without_nulls_names_it_and_nothing_is_loaded(self, con, write_trips):
        con.execute("ALTER TABLE green_trips ADD COLUMN note VARCHAR")
        con.execute("INSERT INTO green_trips (partition_month, note) VALUES ('2022-12-01', 'there')")
        con.execute("ALTER TABLE green_trips ALTER COLUMN note SET NOT NULL")
        with pytest.raises(LoadError, match="note"):
            load_month(con, "green", Month("2023-01"), write_trips("green", "2023-01"), "run")
        assert con.execute("SELECT count(*) FROM green_trips").fetchone() == (1,)


class TestOpening:
    @pytest.mark.parametrize(
        ("data_path", "said"),
        [
            ("{}/l*ke/", r"without \*, which"),
            ("{}/l?ke", r"without \?, which"),
            ("{}/l[a]ke/", r"without \[ \], which"),
            ("{}/x/../lake/", r"without \.\."),
            ("lake/", "an absolute path"),
            ("", "an absolute path"),
            ("file://{}/lake/", "without file://"),
            ("{}/lake/ ", "without spaces at either end"),
            ("/", "a folder for the lake alone"),
            ("s3://", "a bucket"),
            ("s3://bucket/l%61ke/", "without %, which"),
        ],
    )
    def test_a_new_lake_is_not_created_at_a_path_that_ducklake_would_misinterpret(self, tmp_path, data_path, said):
        (tmp_path / "catalog").mkdir()
        with duckdb.connect() as con, pytest.raises(lake.LakeError, match=f"data_path: expected .*{said}"):
            lake.attach(con, f"ducklake:{tmp_path}/catalog/c.ducklake", data_path.format(tmp_path))
        assert [path.name for path in tmp_path.iterdir()] == ["catalog"]

    @pytest.mark.parametrize("data_path", ["{}//lake", "{}/lake", "{}/lake//", "{}/./lake/.", "{}/lake/"])
    def test_a_new_lake_gets_the_plain_spelling_of_its_path_and_any_spelling_opens_it(self, tmp_path, data_path):
        for spelling in (data_path, "{}/lake/", "{}//lake//", data_path):
            with duckdb.connect() as con:
                lake.attach(con, f"ducklake:{tmp_path}/catalog.ducklake", spelling.format(tmp_path))
                found = con.execute("SELECT data_path FROM ducklake_settings('warehouse')").fetchone()
                assert found == (f"{tmp_path}/lake/",)

    def test_a_lake_of_an_older_version_opens_with_its_catalogs_path_and_with_the_plain_one(
        self, tmp_path, start_python
    ):
        (tmp_path / "x").mkdir()
        assert start_python(BEFORE_ANY_CHECK, tmp_path, f"{tmp_path}//x/../lake/").wait() == 0
        for spelling in (f"{tmp_path}//x/../lake/", f"{tmp_path}/lake"):
            with duckdb.connect() as con:
                lake.attach(con, f"ducklake:{tmp_path}/catalog.ducklake", spelling)
                assert con.execute("SELECT count(*) FROM zones").fetchone() == (0,)
        with duckdb.connect() as con, pytest.raises(lake.LakeError, match=r"data_path: expected .*, found"):
            lake.attach(con, f"ducklake:{tmp_path}/catalog.ducklake", f"{tmp_path}/x/../elsewhere/")

    def test_extensions_come_from_packages_for_this_version_of_duckdb(self):
        with duckdb.connect(config={"autoinstall_known_extensions": False}) as con:
            for name in ("ducklake", "postgres_scanner", "httpfs"):
                lake.load_extension(con, name)
                assert con.execute("SELECT loaded FROM duckdb_extensions() WHERE extension_name = ?", [name]).fetchone()

    def test_the_error_for_a_missing_extension_or_one_for_another_duckdb_names_it(self, monkeypatch):
        with duckdb.connect() as con:
            with pytest.raises(lake.LakeError, match="duckdb-extension-nothing is not installed"):
                lake.load_extension(con, "nothing")
            monkeypatch.setattr(duckdb, "__version__", "1.6.0")
            with pytest.raises(lake.LakeError, match=r"for DuckDB 1\.6\.0, found one for v1\.5\.5"):
                lake.load_extension(con, "ducklake")

    def test_the_error_for_a_catalog_that_does_not_answer_does_not_contain_the_password(self, tmp_path):
        secret = lake.Secret("postgres", {"host": "127.0.0.1", "port": 1, "user": "lake", "password": "ses'ame"})
        with duckdb.connect() as con, pytest.raises(lake.LakeError, match="Unable to connect to Postgres") as error:
            lake.attach(con, "ducklake:postgres:", f"{tmp_path}/lake/", catalog=secret)
        assert "ame" not in str(error.value)
        assert error.value.__cause__ is None

    @pytest.mark.parametrize(
        "catalog",
        [
            "dbname=lake host=127.0.0.1 port=1 user=lake password=ses4ame",
            "dbname=lake host=127.0.0.1 port=1 password = 'ses ame' user=lake",
            "postgresql://lake:ses4ame@127.0.0.1:1/lake",
            "postgresql://127.0.0.1:1/lake?user=lake&password=ses4ame",
            "postgresql://127.0.0.1:1/lake?user=lake&sslpassword=ses4ame&password=ses4ame&connect_timeout=9",
            "dbname=lake host=127.0.0.1 port=1 user=lake sslpassword=ses4ame PASSWORD=ses5ame",
            'dbname=lake host=127.0.0.1 port=1 user=lake password=ses&ame"ame',
            r"dbname=lake host=127.0.0.1 port=1 user=lake password=ses\ ame",
            r"dbname=lake host=127.0.0.1 port=1 user=lake password='ses\' ame'",
            "postgresql://lake:s@ses@ame@127.0.0.1:1/lake",
        ],
    )
    def test_no_error_contains_a_password_from_the_connection_string(self, tmp_path, catalog):
        with duckdb.connect() as con, pytest.raises(lake.LakeError, match="Unable to connect to Postgres") as error:
            lake.attach(con, f"ducklake:postgres:{catalog}", f"{tmp_path}/lake/")
        assert "ame" not in str(error.value).casefold().replace("name", "")
        assert "***" in str(error.value)

    @pytest.mark.parametrize(
        "catalog",
        [
            "dbname=lake host=127.0.0.1 port=1 password=ses ame user=lake",
            "dbname=lake host=127.0.0.1 port=1 user=lake password=ses ame",
            "dbname=lake host=127.0.0.1 port=1 user=lake password='ses ame",
            "postgresql://lake:ses/ame@127.0.0.1:1/lake",
            "postgresql://lake:ses?ame@127.0.0.1:1/lake",
            "postgresql://lake:%zzame@127.0.0.1:1/lake",
            "postgresql://lake:ses@ame@127.0.0.1:1/lake?sslpassword=ame@ame",
        ],
    )
    def test_no_error_contains_an_incorrectly_quoted_password(self, tmp_path, catalog):
        with duckdb.connect() as con, pytest.raises(lake.LakeError, match="cannot be opened") as error:
            lake.attach(con, f"ducklake:postgres:{catalog}", f"{tmp_path}/lake/")
        assert "ame" not in str(error.value).casefold().replace("name", "")

    def test_only_passwords_are_found_in_a_connection_string(self):
        assert lake.passwords_in("ducklake:postgres:host=a password='b c' sslpassword=d user=e") == ["b c", "d"]
        assert lake.passwords_in("ducklake:postgres:postgresql://a:b@c@d:1/e?sslpassword=f&x=g") == ["f", "b@c"]
        assert lake.passwords_in("ducklake:mysql:host=a passwd=b") == ["b"]
        for harmless in (
            "ducklake:postgres:host=a user=b",
            "ducklake:/srv/lake.ducklake",
            "/srv/a@b.duckdb",
            "md:taxi",
        ):
            assert lake.passwords_in(harmless) == []
            assert lake.without_passwords(harmless) == harmless

    def test_another_data_path_than_the_lakes_is_an_error(self, con, tmp_path):
        con.close()
        with duckdb.connect() as again, pytest.raises(lake.LakeError, match="DATA_PATH"):
            lake.attach(again, f"ducklake:{tmp_path}/catalog.ducklake", f"{tmp_path}/elsewhere/")

    def test_the_data_path_is_optional_once_the_lake_exists(self, con, tmp_path):
        con.close()
        with duckdb.connect() as again:
            lake.attach(again, f"ducklake:{tmp_path}/catalog.ducklake")
            assert again.execute("SELECT count(*) FROM zones").fetchone() == (0,)
