"""What is different on a DuckLake: writers at the same time, files, maintenance, opening."""

from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from include.nyc_taxi import lake, load, warehouse
from include.nyc_taxi.aggregate import aggregate_month
from include.nyc_taxi.load import load_month

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
            load_month(con, "green", "2023-01", path, "run 0")
        other = con.cursor()
        other.execute("USE warehouse")
        record, ran = load._record, []

        def record_and_let_another_load(*values):
            ran.append(True)
            if len(ran) == 1:
                load_month(other, "green", "2023-01", path, "the faster")
            return record(*values)

        monkeypatch.setattr(load, "_record", record_and_let_another_load)
        load_month(con, "green", "2023-01", path, "the slower")
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
            load_month(con, "green", month, write_trips("green", month, rows=9), "run")
        folders = [path.parent.name for path in files(tmp_path, "green_trips")]
        assert folders == [f"partition_month=2023-0{number}-01" for number in (1, 2, 3)]
        (_, plan) = con.execute(
            "EXPLAIN ANALYZE SELECT count(*) FROM green_trips WHERE partition_month = '2023-02-01'"
        ).fetchone()
        assert "Total Files Read: 1" in plan

    def test_a_load_that_fails_leaves_no_file(self, con, write_trips, tmp_path):
        path = write_trips("green", "2023-01", columns={"PULocationID": "999::BIGINT"})
        with pytest.raises(Exception, match="zone id outside"):
            load_month(con, "green", "2023-01", path, "run")
        assert files(tmp_path, "green_trips") == []

    def test_a_load_that_fails_as_its_commit_is_done_leaves_the_file_that_the_lake_then_has(
        self, con, write_trips, tmp_path, monkeypatch
    ):
        write = warehouse.write

        def write_and_hear_of_a_failure(*values):
            write(*values)
            if live(con, "green_trips"):
                raise ConnectionError("the catalog went away before it could say that it has committed")

        monkeypatch.setattr(warehouse, "write", write_and_hear_of_a_failure)
        with pytest.raises(ConnectionError):
            load_month(con, "green", "2023-01", write_trips("green", "2023-01", rows=30), "run")
        monkeypatch.undo()
        assert [str(path) for path in files(tmp_path, "green_trips")] == live(con, "green_trips") != []
        load_month(con, "green", "2023-01", write_trips("green", "2023-01", rows=31), "the next try")
        assert con.execute("SELECT count(*) FROM green_trips").fetchone() == (31,)


class TestMaintenance:
    def test_it_merges_small_files_and_removes_what_nobody_needs(self, con, zones, write_trips, contents, tmp_path):
        for month in ("2023-01", "2023-02", "2023-01", "2023-01"):
            load_month(con, "green", month, write_trips("green", month, rows=30), "run")
            aggregate_month(con, "green", month, tmp_path / "outputs")
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
        load_month(con, "green", "2023-02", write_trips("green", "2023-02", rows=31), "run")
        assert con.execute("SELECT count(*) FROM green_trips").fetchone() == (61,)

    def test_months_are_not_merged_with_each_other(self, con, write_trips):
        for month in ("2023-01", "2023-02"):
            load_month(con, "green", month, write_trips("green", month), "run")
        lake.maintain(con, keep=timedelta(0), abandoned_after=timedelta(days=1))
        assert len(live(con, "green_trips")) == 2

    def test_what_is_to_be_kept_can_be_read_as_it_was(self, con):
        warehouse.write(con, lambda: con.execute(ADD_ONE))
        (version,) = con.execute("SELECT id FROM ducklake_current_snapshot('warehouse')").fetchone()
        warehouse.write(con, lambda: con.execute("DELETE FROM trips_by_zone"))
        lake.maintain(con, keep=timedelta(days=7), abandoned_after=timedelta(days=2))
        assert con.execute(f"SELECT count(*) FROM trips_by_zone AT (VERSION => {version})").fetchone() == (1,)
        assert con.execute("SELECT count(*) FROM trips_by_zone").fetchone() == (0,)


class TestOpening:
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
            with pytest.raises(lake.LakeError, match=r"for DuckDB 1\.6\.0, found that for v1\.5\.5"):
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
