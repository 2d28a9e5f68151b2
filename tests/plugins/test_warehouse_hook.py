"""The warehouse hook, with real files and real processes."""

import json
import threading
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import duckdb
import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException, AirflowTaskTimeout, redact

import warehouse_hook
from include.nyc_taxi import machine, warehouse
from include.nyc_taxi.warehouse import checkpoints
from include.nyc_taxi.warehouse.lake import LakeError
from include.nyc_taxi.web import snapshot, uses
from include.orchestration import pool
from warehouse_hook import WarehouseHook, WarehouseLockedError

SIXTY_SECONDS = 60.0  # far more than any of this takes: a limit, not a duration

ADD_ROWS = """
import sys
from warehouse_hook import WarehouseHook
print("ready", flush=True)
sys.stdin.readline()
for number in range(3):
    with WarehouseHook(database=sys.argv[1], lock_timeout=60).transaction() as con:
        con.execute(f"INSERT INTO t VALUES ('{sys.argv[2]}', {number})")
"""


@pytest.fixture
def database(tmp_path):
    """A warehouse file with an empty table `t`, which no process has open."""
    path = tmp_path / "shared.duckdb"
    with duckdb.connect(str(path)) as con:
        con.execute("CREATE TABLE t (who VARCHAR, number INTEGER)")
    return path


@pytest.fixture
def define(monkeypatch):
    """Define the connection `warehouse` by the environment, as an operator does."""

    def define_connection(value=None, **fields):
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", value or json.dumps({"conn_type": "duckdb"} | fields))

    return define_connection


def opened(hook):
    """The file that the hook opens, as DuckDB itself says."""
    with closing(hook.get_conn()) as con:
        return con.execute("SELECT path FROM duckdb_databases() WHERE NOT internal").fetchone()[0]


class TestWhichFile:
    def test_without_a_connection_it_is_in_the_data_directory_which_is_created(self, data_dir):
        assert not data_dir.exists()
        assert opened(WarehouseHook()) == str(data_dir / "warehouse.duckdb")
        assert (data_dir / "warehouse.duckdb").stat().st_size > 0

    def test_it_is_the_connections_host_whose_folder_is_created(self, define, tmp_path):
        define(host=str(tmp_path / "not" / "there" / "w.duckdb"))
        assert opened(WarehouseHook()) == str(tmp_path / "not" / "there" / "w.duckdb")

    def test_it_is_the_database_in_the_connections_extra(self, define, tmp_path):
        define(extra={"database": str(tmp_path / "extra.duckdb")})
        assert opened(WarehouseHook()) == str(tmp_path / "extra.duckdb")

    @pytest.mark.parametrize("slashes", ["duckdb://", "duckdb:///"])
    def test_it_is_the_path_of_the_connections_uri_with_three_slashes_or_four(self, define, tmp_path, slashes):
        define(f"{slashes}{tmp_path}/uri.duckdb")
        assert opened(WarehouseHook()) == str(tmp_path / "uri.duckdb")

    def test_it_is_the_one_that_the_caller_names_even_if_a_connection_is_defined(self, define, tmp_path):
        assert opened(WarehouseHook(database=str(tmp_path / "mine.duckdb"))) == str(tmp_path / "mine.duckdb")
        define(host=str(tmp_path / "other.duckdb"))
        assert opened(WarehouseHook(database=str(tmp_path / "mine.duckdb"))) == str(tmp_path / "mine.duckdb")

    def test_a_changed_connection_is_used_by_the_next_hook_without_a_restart(self, define, tmp_path, data_dir):
        before = WarehouseHook()
        define(host=str(tmp_path / "one.duckdb"))
        assert opened(before) == str(tmp_path / "one.duckdb"), "it was looked up before it was needed"
        define(host=str(tmp_path / "two.duckdb"))
        assert opened(WarehouseHook()) == str(tmp_path / "two.duckdb")

    def test_a_connection_without_a_path_is_an_error_that_shows_one(self, define):
        define()
        with pytest.raises(ValueError, match=r"the connection 'warehouse' names no file: .*AIRFLOW_CONN_WAREHOUSE="):
            WarehouseHook().get_conn()

    def test_another_connection_id_that_is_not_defined_raises(self):
        with pytest.raises(AirflowNotFoundException, match="elsewhere"):
            WarehouseHook(duckdb_conn_id="elsewhere").get_conn()


class TestMemoryAndThreads:
    @pytest.fixture
    def on(self, monkeypatch):
        """Pretend to be on a machine with so many processors, and so many megabytes for this process."""

        def pretend(processors, megabytes, executor="LocalExecutor", at_once=32):
            monkeypatch.setattr(machine, "processors", lambda: processors)
            monkeypatch.setattr(machine, "memory", lambda: megabytes * machine.MB)
            monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
            for name in ("CORE__PARALLELISM", "CELERY__WORKER_CONCURRENCY"):
                monkeypatch.setenv(f"AIRFLOW__{name}", str(at_once))

        return pretend

    @pytest.mark.parametrize(
        ("processors", "megabytes", "limit", "threads"),
        [
            (2, 16_000, "1000MB", 2),
            (64, 256_000, "16000MB", 64),
            (64, 4000, "2000MB", 16),
            (8, 512, "256MB", 2),
            (1, 64, "125MB", 1),
        ],
    )
    def test_depend_on_the_machine(self, on, database, processors, megabytes, limit, threads):
        on(processors, megabytes)
        hook = WarehouseHook(database=str(database))
        assert (hook.memory_limit, hook.threads) == (limit, threads)

    @pytest.mark.parametrize(
        ("executor", "at_once", "limit"),
        [
            ("LocalExecutor", 4, "1000MB"),
            ("LocalExecutor", 32, "500MB"),  # no more than the 16 writers at once
            ("CeleryExecutor", 8, "1000MB"),
            ("CeleryExecutor", 10, "800MB"),
            ("KubernetesExecutor", 32, "1000MB"),
        ],
    )
    def test_memory_of_a_lake_is_shared_by_the_tasks_of_the_machine(self, on, executor, at_once, limit):
        on(4, 16_000, executor, at_once)
        hook = WarehouseHook(database="ducklake:postgres:")
        assert (hook.memory_limit, hook.threads) == (limit, 4)

    def test_are_what_the_connection_says_on_any_machine(self, define, on, database):
        on(64, 512)
        define(host=str(database), extra={"memory_limit": "2GiB", "threads": 3})
        with closing(WarehouseHook().get_conn()) as con:
            found = con.execute("SELECT current_setting('memory_limit'), current_setting('threads')").fetchone()
        assert found == ("2.0 GiB", 3)
        define(host=str(database), extra={"threads": 8})
        on(2, 256_000)
        assert (WarehouseHook().memory_limit, WarehouseHook().threads) == ("2000MB", 8)
        define(host=str(database), extra={"memory_limit": "2GiB"})
        assert WarehouseHook().threads == 2

    def test_the_page_says_why(self, on):
        on(2, 16_000)
        with WarehouseHook().opened():
            pass
        settings = {setting.name: (setting.value, setting.origin) for setting in snapshot.read().at.settings}
        assert settings["memory_limit"] == ("953.6 MiB", "default: of 16.0 GB for 1 task at once")
        assert settings["threads"] == ("2", "default: of 2 processors")


class TestRecords:
    """The snapshot for the web UI, and the record of each use."""

    def test_a_change_leaves_a_snapshot_and_a_read_leaves_it_alone(self):
        with WarehouseHook().opened() as con:
            warehouse.make_ready(con)
        first = snapshot.read()
        assert first.at.kind == "file"
        snapshot.path().touch()
        before = snapshot.path().stat().st_mtime_ns
        with WarehouseHook().transaction() as con:
            con.execute("FROM zones").fetchall()
        assert snapshot.path().stat().st_mtime_ns == before
        with WarehouseHook().transaction() as con:
            con.execute("CREATE TABLE t (i INTEGER)")  # the snapshot says nothing about it
        assert replace(snapshot.read(), written_at=first.written_at) == first
        with WarehouseHook().transaction() as con:
            con.execute("INSERT INTO zones VALUES (1, 'Zone 1', 'Queens', 'Yellow Zone', NULL)")
        assert snapshot.read().zones == {1: "Zone 1"}
        assert [use.wrote for use in uses.warehouse_uses()] == [True, False, True, True]

    def test_a_change_of_a_large_file_is_noticed_in_its_log(self, monkeypatch):
        monkeypatch.setattr(checkpoints, "LARGE_FILE_BYTES", 1)
        for sql in ("CREATE TABLE t (i INTEGER)", "INSERT INTO t VALUES (1)", "FROM t"):
            with WarehouseHook().transaction() as con:
                con.execute(sql)
        assert [use.wrote for use in uses.warehouse_uses()] == [True, True, False]

    def test_a_block_that_fails_after_a_commit_leaves_a_snapshot_too(self):
        def commit_and_fail():
            with WarehouseHook().opened() as con:
                con.execute("CREATE TABLE t (i INTEGER)")
                raise ValueError("the audit has refused it")

        with pytest.raises(ValueError, match="the audit has refused it"):
            commit_and_fail()
        assert snapshot.read() is not None
        assert [use.wrote for use in uses.warehouse_uses()] == [True]

    def test_the_wait_for_another_process_is_not_part_of_the_hold(self, data_dir, hold_open):
        data_dir.mkdir()
        process = hold_open(data_dir / "warehouse.duckdb")
        threading.Timer(0.5, process.kill).start()
        with WarehouseHook(lock_timeout=SIXTY_SECONDS).opened():
            pass
        (use,) = uses.warehouse_uses()
        assert use.wait_seconds > 0.4

    def test_of_another_database_nothing_is_recorded(self, database):
        with WarehouseHook(database=str(database)).transaction() as con:
            con.execute("INSERT INTO t VALUES ('one', 1)")
        assert (snapshot.read(), uses.warehouse_uses()) == (None, [])

    def test_a_lake_leaves_the_same_and_no_password(self, define, tmp_path):
        define(
            host=f"ducklake:{tmp_path}/lake.ducklake",
            extra={"data_path": f"{tmp_path}/files", "settings": {"http_proxy_password": "hunter2"}},
        )
        with WarehouseHook().opened() as con:
            warehouse.write(
                con, lambda: con.execute("INSERT INTO zones VALUES (4, 'Alphabet City', 'Manhattan', 'Y', '')")
            )
        assert snapshot.read().at.kind == "lake"
        assert snapshot.read().zones == {4: "Alphabet City"}
        with WarehouseHook().transaction() as con:
            con.execute("FROM zones").fetchall()
        assert [use.wrote for use in uses.warehouse_uses()] == [True, False]
        assert all("hunter2" not in file.read_text() for file in snapshot.status_dir().iterdir())

    def test_says_where_each_setting_comes_from(self, define, database):
        define(host=str(database), extra={"memory_limit": "2GiB"})
        with WarehouseHook().opened():
            pass
        settings = {setting.name: (setting.value, setting.origin) for setting in snapshot.read().at.settings}
        assert settings["memory_limit"] == ("2.0 GiB", "the connection 'warehouse', extra")
        assert settings["writers"] == ("1", "default")
        assert settings["database"] == (str(database), "the connection 'warehouse'")


class TestLargeFile:
    """Changes stay in a log beside it, so that a task does not read metadata of the whole file."""

    @pytest.fixture
    def large(self, database, monkeypatch):
        monkeypatch.setattr(checkpoints, "LARGE_FILE_BYTES", database.stat().st_size)
        return database

    @staticmethod
    def log(database):
        return database.with_name(f"{database.name}.wal")

    def test_is_not_written_when_it_is_closed_but_all_readers_see_what_was_committed(self, large):
        before = large.read_bytes()
        for number in range(3):
            with WarehouseHook(database=str(large)).transaction() as con:
                con.execute("DELETE FROM t WHERE number = ?", [number - 1])
                con.execute("INSERT INTO t VALUES ('one', ?)", [number])
        assert large.read_bytes() == before
        assert self.log(large).exists()
        for read_only in (True, False):
            with closing(WarehouseHook(database=str(large), read_only=read_only).get_conn()) as con:
                assert con.execute("FROM t").fetchall() == [("one", 2)]
        with duckdb.connect(str(large)) as con:
            assert con.execute("FROM t").fetchall() == [("one", 2)]
        assert not self.log(large).exists(), "without the hook, closing it leaves one file"

    def test_merges_the_log_before_it_grows_too_long(self, large):
        most = 0
        for _ in range(6):
            with WarehouseHook(database=str(large)).transaction() as con:
                con.execute("INSERT INTO t SELECT md5(i::VARCHAR), i FROM range(100000) AS r(i)")
            most = max(most, self.log(large).stat().st_size if self.log(large).exists() else 0)
        assert 2**20 < most < 2**25
        with closing(WarehouseHook(database=str(large)).get_conn()) as con:
            assert con.execute("SELECT count(*), count(DISTINCT who) FROM t").fetchone() == (600_000, 100_000)

    def test_says_in_the_log_of_the_task_that_pays_for_a_checkpoint_what_it_costs_and_what_to_do(
        self, large, monkeypatch, caplog, capsys
    ):
        caplog.set_level("INFO")

        def logged(*statements):
            caplog.clear()
            capsys.readouterr()
            with WarehouseHook(database=str(large)).opened() as con:
                for statement in statements:
                    con.execute(statement)
            text = caplog.text + capsys.readouterr().out  # Airflow 2 logs with `logging`, Airflow 3 to stdout
            return "make migrate" in text and WarehouseHook(database=str(large)).advice in text

        insert = "INSERT INTO t VALUES ('one', 1)"
        assert not logged(insert, "CHECKPOINT"), "it is not worth a word in a file of this size"
        monkeypatch.setattr(checkpoints, "LAKE_ADVISED_BYTES", 1)
        assert not logged(insert)
        assert not logged("FROM t")
        assert logged("CHECKPOINT")

    def test_a_smaller_file_has_no_log_beside_it(self, database):
        with WarehouseHook(database=str(database)).transaction() as con:
            con.execute("INSERT INTO t VALUES ('one', 1)")
        assert not self.log(database).exists()


class TestLock:
    def test_of_another_process_is_waited_for_with_growing_pauses_until_it_ends(self, database, hold_open, monkeypatch):
        holder, pauses = hold_open(database), []

        def pause(seconds):
            pauses.append(seconds)
            if len(pauses) == 8:
                holder.communicate()  # it closes the file and ends

        monkeypatch.setattr(warehouse_hook, "time", SimpleNamespace(sleep=pause))
        assert opened(WarehouseHook(database=str(database), lock_timeout=SIXTY_SECONDS)) == str(database)
        assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]

    def test_of_another_process_ends_in_an_error_with_the_file_and_the_holders_pid(self, database, hold_open):
        holder = hold_open(database)
        with pytest.raises(WarehouseLockedError) as error:
            WarehouseHook(database=str(database), lock_timeout=0.3).get_conn()
        assert str(database) in str(error.value)
        assert f"pid {holder.pid})" in str(error.value)
        assert "0.3 seconds" in str(error.value)

    def test_may_be_waited_for_as_long_as_the_connection_says(self, define, database, hold_open):
        hold_open(database)
        define(host=str(database), extra={"lock_timeout": 0.2})
        assert WarehouseHook().lock_timeout == 0.2
        with pytest.raises(WarehouseLockedError, match=r"0\.2 seconds"):
            WarehouseHook().get_conn()

    def test_is_waited_for_ten_minutes_by_default_and_as_long_as_the_caller_says(self, define, database):
        assert WarehouseHook(database=str(database)).lock_timeout == 600
        define(host=str(database), extra={"lock_timeout": 7})
        assert WarehouseHook(lock_timeout=0).lock_timeout == 0

    def test_of_a_process_that_was_killed_is_no_lock(self, database, hold_open):
        holder = hold_open(database)
        holder.kill()
        holder.wait()
        assert opened(WarehouseHook(database=str(database), lock_timeout=0)) == str(database)

    @pytest.mark.parametrize("damaged_at", [0, 4196], ids=["header", "a block"])
    def test_is_not_waited_for_when_the_file_is_damaged(self, database, damaged_at):
        content = bytearray(database.read_bytes())
        content[damaged_at : damaged_at + 64] = b"\xff" * 64
        database.write_bytes(content)
        with pytest.raises(duckdb.IOException) as error:
            WarehouseHook(database=str(database), lock_timeout=0).get_conn()
        assert str(database) in str(error.value) or "Corrupt database file" in str(error.value)

    def test_is_not_waited_for_if_a_path_that_contains_lock_cannot_be_opened(self, tmp_path):
        (tmp_path / "blocks.duckdb").mkdir()
        with pytest.raises(duckdb.IOException):
            WarehouseHook(database=str(tmp_path / "blocks.duckdb"), lock_timeout=0).get_conn()

    def test_is_taken_in_turn_by_concurrent_writers_and_no_row_is_lost(self, database, start_python):
        writers = [start_python(ADD_ROWS, database, who) for who in ("one", "two")]
        for writer in writers:
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            writer.stdin.write("go\n")
            writer.stdin.flush()
        for writer in writers:
            writer.communicate()
        assert [writer.returncode for writer in writers] == [0, 0]
        with duckdb.connect(str(database)) as con:
            rows = con.execute("SELECT * FROM t ORDER BY ALL").fetchall()
        assert rows == [(who, number) for who in ("one", "two") for number in range(3)]


class TestCatalogThatDoesNotAnswer:
    """A lake's Postgres that is restarting is waited for, but not as long as a lock is."""

    @pytest.fixture
    def hook(self, define, tmp_path):
        define(host="ducklake:postgres:host=127.0.0.1 port=1", extra={"data_path": f"{tmp_path}/lake/"})
        return WarehouseHook()

    def test_is_waited_for_and_the_log_and_an_interruption_name_it(self, hook, monkeypatch, logged):
        pauses = []

        def pause(seconds):
            pauses.append(seconds)
            if len(pauses) == 3:
                raise AirflowTaskTimeout("Timeout, PID: 7")

        monkeypatch.setattr(warehouse_hook, "time", SimpleNamespace(sleep=pause))
        with pytest.raises(AirflowTaskTimeout) as error:
            hook.get_conn()
        assert pauses == [0.1, 0.2, 0.4]
        assert error.value.__notes__ == [f"waiting for {hook.place}, which does not answer"]
        assert f"{hook.place} does not answer; waiting" in logged()

    @pytest.mark.parametrize("limit", ["lock_timeout", "CATALOG_TIMEOUT_SECONDS"])
    def test_is_given_up_on_at_the_lesser_of_both_limits(self, hook, define, monkeypatch, limit):
        if limit == "lock_timeout":
            hook = WarehouseHook(lock_timeout=0)
        else:
            monkeypatch.setattr(warehouse_hook, limit, 0)
        monkeypatch.setattr(warehouse_hook, "time", None)  # a pause would fail
        with pytest.raises(LakeError, match="Unable to connect to Postgres"):
            hook.get_conn()


def test_a_lake_whose_catalog_is_a_file_that_another_process_has_open_is_locked(define, tmp_path, hold_open):
    holder = hold_open(tmp_path / "catalog.ducklake")
    define(host=f"ducklake:{tmp_path}/catalog.ducklake", extra={"data_path": f"{tmp_path}/lake/"})
    with pytest.raises(WarehouseLockedError, match=rf"catalog.ducklake, files in .*\(pid {holder.pid}\)"):
        WarehouseHook(lock_timeout=0.2).get_conn()


class TestWriters:
    """How many tasks may have the warehouse open: the slots of its pool."""

    @pytest.fixture
    def slots(self, monkeypatch):
        """Set up the pool as `make` does; the slots that Airflow is asked for."""
        asked = []
        monkeypatch.setattr(pool.Pool, "create_or_update_pool", lambda _, slots, **__: asked.append(slots))

        def set_up():
            assert pool.set_up() == asked[-1]
            return asked[-1]

        return set_up

    @pytest.mark.parametrize(
        "fields",
        [
            {"host": "/srv/w.duckdb"},
            {"schema": "srv/w.duckdb"},
            {"host": "/srv/ducklake/md.duckdb"},
            {"extra": {"database": "/srv/w.duckdb"}},
            {"host": "ducklake:/srv/catalog.ducklake", "extra": {"data_path": "/srv/lake/"}},
            {"host": "ducklake:duckdb:/srv/catalog.duckdb", "extra": {"data_path": "/srv/lake/"}},
            {"host": "ducklake:sqlite:/srv/catalog.sqlite", "extra": {"data_path": "/srv/lake/"}},
        ],
        ids=str,
    )
    def test_a_file_has_one_whatever_the_extra_says(self, define, slots, fields):
        define(**(fields | {"extra": fields.get("extra", {}) | {"writers": 16, "threads": 8}}))
        assert slots() == 1

    def test_the_default_file_has_one(self, slots):
        assert slots() == 1

    @pytest.mark.parametrize("host", ["ducklake:postgres:host=lake", "ducklake:mysql:host=lake", "md:taxi"])
    def test_a_server_has_as_many_as_the_extra_says(self, define, slots, host):
        define(host=host, extra={"writers": 3})
        assert slots() == 3
        define(host=host)
        assert slots() == warehouse_hook.WRITERS


class TestTransaction:
    def test_is_committed_and_frees_the_file_for_others(self, database, hold_open):
        with WarehouseHook(database=str(database)).transaction() as con:
            con.execute("INSERT INTO t VALUES ('one', 1)")
        hold_open(database).communicate()
        with duckdb.connect(str(database)) as con:
            assert con.execute("SELECT * FROM t").fetchall() == [("one", 1)]

    def test_that_raises_is_rolled_back_and_frees_the_file_for_others(self, database, hold_open):
        def write_and_fail():
            with WarehouseHook(database=str(database)).transaction() as con:
                con.execute("CREATE TABLE new (i INTEGER)")
                con.execute("INSERT INTO t VALUES ('one', 1)")
                con.execute("INSERT INTO t VALUES ('two', 'many')")

        with pytest.raises(duckdb.ConversionException, match="many"):
            write_and_fail()
        hold_open(database).communicate()
        with duckdb.connect(str(database)) as con:
            assert con.execute("SELECT * FROM t").fetchall() == []
            assert con.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall() == [("held",), ("t",)]

    def test_keeps_other_processes_out_until_it_ends(self, database, start_python):
        with WarehouseHook(database=str(database)).transaction():
            process = start_python("import duckdb, sys\nduckdb.connect(sys.argv[1])", database)
            process.communicate()
        assert process.returncode == 1


def test_a_password_in_a_lakes_connection_string_is_in_no_message_or_log(monkeypatch):
    text = "ducklake:postgres:host=127.0.0.1 port=1 user=me password='s3 same' sslpassword=s3other"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": text}))
    hook = WarehouseHook(lock_timeout=0)
    assert hook.place == "ducklake:postgres:host=127.0.0.1 port=1 user=me password=*** sslpassword=***"
    with pytest.raises(LakeError) as error:
        hook.get_conn()
    assert "s3" not in str(error.value)
    assert "s3" not in str(redact("DuckDB said: s3 same and s3other"))


class TestTestConnection:
    """The "Test" button of the web UI."""

    def test_says_version_path_and_size(self, define, database):
        define(host=str(database))
        size = database.stat().st_size
        assert WarehouseHook().test_connection() == (
            True,
            f"DuckDB v{duckdb.__version__}, {database}, {size:,} bytes",
        )

    def test_says_who_holds_the_file(self, define, database, hold_open):
        define(host=str(database), extra={"lock_timeout": 0})
        holder = hold_open(database)
        works, message = WarehouseHook().test_connection()
        assert not works
        assert f"pid {holder.pid})" in message

    def test_says_that_the_connection_names_no_file(self, define):
        define()
        works, message = WarehouseHook().test_connection()
        assert not works
        assert "names no file" in message

    def test_says_that_the_file_is_no_database(self, define, tmp_path):
        (tmp_path / "w.duckdb").write_text("hello " * 5000)
        define(host=str(tmp_path / "w.duckdb"))
        works, message = WarehouseHook().test_connection()
        assert not works
        assert "not a valid DuckDB database file" in message


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
def test_times_are_converted_to_the_citys_zone_whatever_the_workers_zone_is(data_dir, start_python, zone):
    process = start_python(
        "from warehouse_hook import WarehouseHook\n"
        "with WarehouseHook().opened() as con:\n"
        "    found = con.execute(\"SELECT CAST('2023-02-05 19:24:00+00'::TIMESTAMPTZ AS TIMESTAMP)\").fetchone()\n"
        "    print(found[0])\n",
        TZ=zone,
        NYC_TAXI_DATA_DIR=str(data_dir),
    )
    assert "2023-02-05 14:24:00" in process.stdout.read().splitlines()


@pytest.mark.parametrize("host", ["{}/w.duckdb", "ducklake:{}/catalog.ducklake"])
def test_pandas_is_not_imported_for_the_values_of_a_statement(tmp_path, start_python, host):
    process = start_python(
        "import sys\n"
        "from warehouse_hook import WarehouseHook\n"
        "with WarehouseHook().opened() as con:\n"
        "    con.execute('SELECT ?', [1])\n"
        "print('imported' if 'pandas' in sys.modules else 'not imported')\n",
        AIRFLOW_CONN_WAREHOUSE=json.dumps(
            {"conn_type": "duckdb", "host": host.format(tmp_path), "extra": {"data_path": f"{tmp_path}/lake/"}}
        ),
    )
    assert process.communicate()[0].splitlines()[-1] == "not imported"
