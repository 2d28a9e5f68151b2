"""What is different on a DuckLake: writers at the same time, files, maintenance, opening."""

from contextlib import nullcontext
from datetime import timedelta
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


class TestWritersAtTheSameTime:
    def test_a_writer_that_was_slower_begins_again_from_what_the_faster_left(self, con):
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
    def test_a_month_loaded_twice_at_once_is_there_once_and_its_trips_are_written_once(
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
        assert len(ran) == 3  # the slower's first try, the faster's, the slower's second
        assert con.execute("SELECT count(*) FROM green_trips").fetchone() == (50,)
        assert con.execute("SELECT count(*), any_value(run_id) FROM loads").fetchone() == (1, "the slower")
        assert len(files(tmp_path, "green_trips")) == 2 + loaded_before
        assert len(live(con, "green_trips")) == 1

    def test_it_gives_up_after_its_attempts(self, con, monkeypatch):
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

    def test_what_fails_for_another_reason_is_not_tried_again(self, con):
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
            # It may have been made: it is not repeated.
            ('Failed to execute query "COMMIT": server closed the connection unexpectedly', 1),
            ('Failed to execute query "COMMIT": FATAL:  Verbindung beendet\nserver closed the connection', 1),
            ("Binder Error: no such column", 1),
        ],
    )
    def test_what_the_catalogs_server_refuses_is_tried_again_in_any_language(self, monkeypatch, caplog, said, attempts):
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

    def test_two_that_find_a_new_lake_make_its_tables_once(self, tmp_path):
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
    def test_a_month_is_a_file_of_its_own_and_a_query_of_it_opens_no_other(self, con, write_trips, tmp_path):
        for month in ("2023-01", "2023-02", "2023-03"):
            load_month(con, "green", Month(month), write_trips("green", month, rows=9), "run")
        folders = [path.parent.name for path in files(tmp_path, "green_trips")]
        assert folders == [f"partition_month=2023-0{number}-01" for number in (1, 2, 3)]
        (_, plan) = con.execute(
            "EXPLAIN ANALYZE SELECT count(*) FROM green_trips WHERE partition_month = '2023-02-01'"
        ).fetchone()
        assert "Total Files Read: 1" in plan

    def test_a_load_that_fails_leaves_no_file(self, con, write_trips, tmp_path):
        path = write_trips("green", "2023-01", columns={"PULocationID": "999::BIGINT"})
        with pytest.raises(Exception, match="zone ID outside"):
            load_month(con, "green", Month("2023-01"), path, "run")
        assert files(tmp_path, "green_trips") == []

    def test_a_load_that_fails_as_its_commit_is_done_leaves_the_file_that_the_lake_then_has(
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
        load_month(con, "green", Month("2023-01"), write_trips("green", "2023-01", rows=31), "the next try")
        assert con.execute("SELECT count(*) FROM green_trips").fetchone() == (31,)


class TestMaintenance:
    def test_it_merges_small_files_and_removes_what_nobody_needs(self, con, zones, write_trips, contents, tmp_path):
        for month in ("2023-01", "2023-02", "2023-01", "2023-01"):
            load_month(con, "green", Month(month), write_trips("green", month, rows=30), "run")
            aggregate_month(con, "green", Month(month), tmp_path / "outputs")
        before = contents()
        abandoned = tmp_path / "lake" / "main" / "green_trips" / "partition_month=2023-01-01" / "left.parquet"
        abandoned.write_bytes(b"of a load that was killed")

        first = lake.maintain(con, keep=timedelta(0), abandoned_after=timedelta(days=1))
        assert first.merged > 0
        assert first.snapshots > 0
        assert abandoned.exists()  # it may be the file of a load that is still running
        second = lake.maintain(con, keep=timedelta(0), abandoned_after=timedelta(0))
        assert second.removed > 0
        assert second.abandoned > 0
        assert contents() == before
        assert len(files(tmp_path, "green_trips")) == len(live(con, "green_trips")) == 2
        load_month(con, "green", Month("2023-02"), write_trips("green", "2023-02", rows=31), "run")
        assert con.execute("SELECT count(*) FROM green_trips").fetchone() == (61,)

    def test_months_are_not_merged_with_each_other(self, con, write_trips):
        for month in ("2023-01", "2023-02"):
            load_month(con, "green", Month(month), write_trips("green", month), "run")
        lake.maintain(con, keep=timedelta(0), abandoned_after=timedelta(days=1))
        assert len(live(con, "green_trips")) == 2

    def test_what_is_to_be_kept_can_be_read_as_it_was(self, con):
        warehouse.write(con, lambda: con.execute(ADD_ONE))
        (version,) = con.execute("SELECT id FROM ducklake_current_snapshot('warehouse')").fetchone()
        warehouse.write(con, lambda: con.execute("DELETE FROM trips_by_zone"))
        lake.maintain(con, keep=timedelta(days=7), abandoned_after=timedelta(days=2))
        assert con.execute(f"SELECT count(*) FROM trips_by_zone AT (VERSION => {version})").fetchone() == (1,)
        assert con.execute("SELECT count(*) FROM trips_by_zone").fetchone() == (0,)

    def test_it_tidies_every_schema(self, con):
        con.execute("CREATE SCHEMA analysts")
        con.execute("CREATE TABLE analysts.zones (note VARCHAR)")  # a name that the main schema has too
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
    """Only what killed loads have left is removed, whatever the path of the lake looks like to DuckLake."""

    @pytest.fixture
    def another_lakes_file(self, tmp_path):
        """In a folder beside the lake's, which matches the patterns below."""
        file = tmp_path / "lake" / "main" / "green_trips" / "live.parquet"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"of another lake")
        return file

    @pytest.mark.parametrize(
        "data_path",
        ["{}//odd/", "{}/odd//x/", "{}/./odd/", "{}/x/../odd/", "{}/l*e/", "{}/l?ke/", "{}/l[a]ke/", "file://{}/odd/"],
    )
    def test_of_an_existing_lake_with_a_path_that_ducklake_reads_otherwise_are_left_alone_and_the_rest_is_tidied(
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

    def test_are_left_alone_where_one_is_in_use_by_another_name(self, con, write_trips, tmp_path):
        for month in ("2023-01", "2023-02"):
            load_month(con, "green", Month(month), write_trips("green", month, rows=30), "run")
        # As with a link, or a protocol of another name: the catalog's text is not what the folder is listed as.
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

    def test_are_left_alone_where_a_stranger_is_among_them(self, con, write_trips, tmp_path):
        load_month(con, "green", Month("2023-01"), write_trips("green", "2023-01", rows=30), "run")
        raw = tmp_path / "lake" / "raw" / "green_tripdata_2023-01.parquet"
        raw.parent.mkdir()
        raw.write_bytes(b"as the TLC published it")
        with pytest.raises(lake.LakeError, match=f"{raw} is not in any of the lake's folders"):
            lake.maintain(con, keep=timedelta(0), abandoned_after=timedelta(0))
        assert raw.exists()

    def test_are_left_alone_where_they_are_most_of_the_files_as_with_another_catalog(self, con, write_trips, tmp_path):
        for month in ("2023-01", "2023-02", "2023-03"):
            load_month(con, "green", Month(month), write_trips("green", month, rows=30), "run")
        before = everything_below(tmp_path / "lake")
        with duckdb.connect() as fresh:
            lake.attach(fresh, f"ducklake:{tmp_path}/fresh.ducklake", f"{tmp_path}/lake/")
            warehouse.make_ready(fresh)
            load_month(fresh, "green", Month("2023-01"), write_trips("green", "2023-01", rows=30), "run")
            with pytest.raises(lake.LakeError, match="6 files look abandoned; none of them has been removed"):
                lake.maintain(fresh, keep=timedelta(0), abandoned_after=timedelta(0))
        assert before <= everything_below(tmp_path / "lake")


class TestOtherColumns:
    """A table of trips may have what an analyst has given it: a load fills it as it would in a file."""

    def test_a_column_that_the_catalogue_does_not_know_gets_its_default(self, con, write_trips):
        con.execute("ALTER TABLE green_trips ADD COLUMN note VARCHAR")
        con.execute('ALTER TABLE green_trips ADD COLUMN "my score" DOUBLE DEFAULT 0.5')
        con.execute("ALTER TABLE green_trips ALTER COLUMN note SET DEFAULT 'new'")
        load_month(con, "green", Month("2023-01"), write_trips("green", "2023-01", rows=30), "run")
        assert con.execute('SELECT DISTINCT note, "my score" FROM green_trips').fetchall() == [("new", 0.5)]

    def test_a_column_of_another_type_or_name_takes_the_trips_too(self, con, write_trips):
        con.execute("ALTER TABLE green_trips ALTER COLUMN vendor_id TYPE BIGINT")
        con.execute("ALTER TABLE green_trips RENAME COLUMN ehail_fee TO e_hail")
        load_month(con, "green", Month("2023-01"), write_trips("green", "2023-01", rows=30), "run")
        found = "SELECT count(*), any_value(typeof(vendor_id)), count(e_hail), count(ehail_fee) FROM green_trips"
        assert con.execute(found).fetchone() == (30, "BIGINT", 0, 30)

    def test_a_column_that_takes_no_nulls_is_named_and_nothing_is_loaded(self, con, write_trips):
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
    def test_a_new_lake_is_not_made_at_a_path_that_ducklake_would_read_otherwise(self, tmp_path, data_path, said):
        (tmp_path / "catalog").mkdir()
        with duckdb.connect() as con, pytest.raises(lake.LakeError, match=f"data_path: expected .*{said}"):
            lake.attach(con, f"ducklake:{tmp_path}/catalog/c.ducklake", data_path.format(tmp_path))
        assert [path.name for path in tmp_path.iterdir()] == ["catalog"]

    @pytest.mark.parametrize("data_path", ["{}//lake", "{}/lake", "{}/lake//", "{}/./lake/.", "{}/lake/"])
    def test_a_path_of_many_spellings_gets_the_plain_one_and_any_of_them_opens_the_lake(self, tmp_path, data_path):
        for spelling in (data_path, "{}/lake/", "{}//lake//", data_path):
            with duckdb.connect() as con:
                lake.attach(con, f"ducklake:{tmp_path}/catalog.ducklake", spelling.format(tmp_path))
                found = con.execute("SELECT data_path FROM ducklake_settings('warehouse')").fetchone()
                assert found == (f"{tmp_path}/lake/",)

    def test_a_lake_of_an_older_version_opens_by_the_path_that_its_catalog_has_and_by_the_plain_one(
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

    def test_extensions_come_from_packages_of_duckdbs_own_version(self):
        with duckdb.connect(config={"autoinstall_known_extensions": False}) as con:
            for name in ("ducklake", "postgres_scanner", "httpfs"):
                lake.load_extension(con, name)
                assert con.execute("SELECT loaded FROM duckdb_extensions() WHERE extension_name = ?", [name]).fetchone()

    def test_an_extension_that_is_not_there_or_for_another_duckdb_is_named(self, monkeypatch):
        with duckdb.connect() as con:
            with pytest.raises(lake.LakeError, match="duckdb-extension-nothing is not installed"):
                lake.load_extension(con, "nothing")
            monkeypatch.setattr(duckdb, "__version__", "1.6.0")
            with pytest.raises(lake.LakeError, match=r"for DuckDB 1\.6\.0, found one for v1\.5\.5"):
                lake.load_extension(con, "ducklake")

    def test_a_catalog_that_does_not_answer_is_an_error_without_the_password(self, tmp_path):
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
    def test_a_password_in_the_connections_own_text_is_in_no_error(self, tmp_path, catalog):
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
    def test_a_password_that_is_not_written_as_it_must_be_is_in_no_error(self, tmp_path, catalog):
        with duckdb.connect() as con, pytest.raises(lake.LakeError, match="cannot be opened") as error:
            lake.attach(con, f"ducklake:postgres:{catalog}", f"{tmp_path}/lake/")
        assert "ame" not in str(error.value).casefold().replace("name", "")

    def test_passwords_are_found_in_a_connection_string_and_nothing_else_is(self):
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

    def test_a_data_path_that_is_not_the_lakes_is_an_error(self, con, tmp_path):
        con.close()
        with duckdb.connect() as again, pytest.raises(lake.LakeError, match="DATA_PATH"):
            lake.attach(again, f"ducklake:{tmp_path}/catalog.ducklake", f"{tmp_path}/elsewhere/")

    def test_the_data_path_may_be_left_out_once_the_lake_is_made(self, con, tmp_path):
        con.close()
        with duckdb.connect() as again:
            lake.attach(again, f"ducklake:{tmp_path}/catalog.ducklake")
            assert again.execute("SELECT count(*) FROM zones").fetchone() == (0,)
