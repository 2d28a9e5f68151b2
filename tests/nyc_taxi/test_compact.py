"""Compacting keeps everything, reclaims space, and loses nothing if it is killed or another process interferes."""

import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from include.nyc_taxi import catalogue, warehouse
from include.nyc_taxi.warehouse import compact as compacting
from include.nyc_taxi.warehouse.compact import CompactError, Compaction

StartPython = Callable[..., "subprocess.Popen[str]"]
ROWS = 150_000
COMPACT = """
import os, signal, sys
from pathlib import Path
import duckdb
from include.nyc_taxi.warehouse import compact
path = Path(sys.argv[1])
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
{}
compact.compact(lambda: duckdb.connect(str(path), read_only=True), path)
"""


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compacting, "GRACE_SECONDS", 0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with two months of trips; deleted rows have left a third of its file unused."""
    path = tmp_path_factory.mktemp("made") / "warehouse.duckdb"
    with duckdb.connect(str(path)) as con:
        warehouse.ensure_tables(con)
        con.execute("COMMENT ON COLUMN loads.etag IS 'as the server''s header'")
        con.execute("CREATE TABLE others (id INTEGER PRIMARY KEY, added DATE DEFAULT DATE '2023-01-01' NOT NULL)")
        con.execute("INSERT INTO others (id) VALUES (1)")
        con.execute("CREATE VIEW a_view_of_a_view AS SELECT * FROM trips")
        for month in range(3):
            con.execute(
                "INSERT INTO fhv_trips BY NAME SELECT DATE '2023-01-01' + to_months($month) AS partition_month, "
                "hash(i)::VARCHAR AS dispatching_base_num FROM range($rows) AS r(i)",
                {"month": month, "rows": ROWS},
            )
    with duckdb.connect(str(path)) as con:
        con.execute("DELETE FROM fhv_trips WHERE partition_month = DATE '2023-01-01'")
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    """A copy of that warehouse, which a test may change."""
    return Path(shutil.copy(made, tmp_path))


def compact(path: Path) -> Compaction:
    return compacting.compact(lambda: duckdb.connect(str(path), read_only=True), path)


def all_of(path: Path) -> dict[str, object]:
    """All definitions, comments and constraints, and the number and checksum of every table's rows."""
    with duckdb.connect(str(path), read_only=True) as con:
        tables = [name for (name,) in con.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall()]
        found: dict[str, object] = {
            table: con.execute(f"SELECT count(*), sum(hash(t)::HUGEINT) FROM {table} AS t").fetchone()
            for table in tables
        }
        for what, columns in {
            "duckdb_tables()": "table_name, sql, comment",
            "duckdb_views()": "view_name, sql, comment",
            "duckdb_columns()": "table_name, column_name, column_default, is_nullable, data_type, comment",
            "duckdb_constraints()": "table_name, constraint_text",
        }.items():
            found[what] = con.execute(
                f"SELECT {columns} FROM {what} WHERE database_name = current_database() ORDER BY ALL"
            ).fetchall()
    return found


def leftovers(path: Path) -> set[str]:
    """The files beside the warehouse, except locks."""
    return {file.name for file in path.parent.iterdir() if not file.name.endswith(".lock")} - {path.name}


def test_keeps_everything_and_reclaims_space(path: Path) -> None:
    path.chmod(0o640)
    before, size = all_of(path), path.stat().st_size
    assert before["duckdb_views()"]
    assert before["fhv_trips"][0] == 2 * ROWS  # type: ignore[index]
    done = compact(path)
    assert all_of(path) == before
    assert (done.before, done.after) == (size, path.stat().st_size)
    assert done.after < 0.8 * size
    assert done.rows == 2 * ROWS + 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert leftovers(path) == set()


def test_tables_accept_the_same_rows_as_before(path: Path) -> None:
    compact(path)
    with duckdb.connect(str(path)) as con:
        warehouse.ensure_tables(con)
        con.execute("INSERT INTO others (id) VALUES (2)")
        with pytest.raises(duckdb.ConstraintException):
            con.execute("INSERT INTO others (id) VALUES (2)")
        assert con.execute("SELECT count(*) FROM a_view_of_a_view").fetchone() == (2 * ROWS,)
        assert con.execute("SELECT * FROM others WHERE id = 2 AND added = DATE '2023-01-01'").fetchall()


def test_months_keep_to_their_own_row_groups(path: Path) -> None:
    """Otherwise a month's tasks would read rows of other months."""
    compact(path)
    with duckdb.connect(str(path), read_only=True) as con:
        (mixed,) = con.execute(
            "SELECT count(*) FROM (SELECT rowid // 122880 FROM fhv_trips GROUP BY ALL "
            "HAVING count(DISTINCT partition_month) > 1)"
        ).fetchone() or (None,)
    assert mixed <= 1  # the row group that the two months share


def test_a_link_still_leads_to_the_warehouse(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "linked.duckdb"
    link.parent.mkdir()
    link.symlink_to(path)
    before = all_of(path)
    compact(link)
    assert link.is_symlink()
    assert all_of(path) == before


@pytest.mark.parametrize(
    "moment",
    [
        "compact._check_room = die",  # before the copy
        "compact._compare = die",  # the copy is written, but still open
        "compact.shutil.copymode = die",  # the copy is complete
        "compact.os.fsync = die",
        "compact.Path.replace = die",
        "compact.time.sleep = die",  # the copy has replaced the warehouse
    ],
)
def test_a_kill_loses_nothing(path: Path, start_python: StartPython, moment: str) -> None:
    before = all_of(path)
    process = start_python(COMPACT.format(moment), path)
    assert process.wait() == -signal.SIGKILL
    assert all_of(path) == before
    compact(path)  # removes what the killed compaction left
    assert all_of(path) == before
    assert leftovers(path) == set()


@pytest.mark.parametrize("delay", [0.02, 0.05, 0.1, 0.2, 0.3])
def test_a_kill_in_the_middle_of_copying_loses_nothing(path: Path, start_python: StartPython, delay: float) -> None:
    before = all_of(path)
    slowly = "connect = duckdb.connect\nprint('begin', flush=True)"
    process = start_python(COMPACT.format(slowly), path)
    assert process.stdout is not None
    assert process.stdout.readline() == "begin\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(delay)
    process.kill()
    process.wait()
    assert all_of(path) == before


def test_nobody_can_write_during_the_copy(
    path: Path, start_python: StartPython, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = compacting._compare

    def write_meanwhile(con: duckdb.DuckDBPyConnection, old: str) -> int:
        attempts.append(open_for_writing(start_python, path))
        return compare(con, old)

    attempts: list[str] = []
    monkeypatch.setattr(compacting, "_compare", write_meanwhile)
    compact(path)
    assert attempts == ["locked"]
    assert open_for_writing(start_python, path) == "open"


def test_a_process_that_has_opened_the_old_file_cannot_lock_it(
    path: Path, tmp_path: Path, start_python: StartPython, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A waiting process may have opened the file just before it was replaced."""
    old = tmp_path / "old.duckdb"
    os.link(path, old)

    def write_meanwhile(seconds: float) -> None:
        attempts.extend((seconds, open_for_writing(start_python, old), open_for_writing(start_python, path)))

    attempts: list[object] = []
    monkeypatch.setattr(compacting, "GRACE_SECONDS", 1.0)
    monkeypatch.setattr(compacting.time, "sleep", write_meanwhile)
    compact(path)
    assert attempts == [1.0, "locked", "open"]


def open_for_writing(start_python: StartPython, path: Path) -> str:
    """Let another process open a DuckDB file for writing, and return the outcome."""
    process = start_python(
        "import duckdb, sys\n"
        "try:\n    duckdb.connect(sys.argv[1]).close()\n"
        "except duckdb.IOException as error:\n"
        "    print('locked' if 'Could not set lock' in str(error) else error)\n"
        "else:\n    print('open')\n",
        path,
    )
    return process.communicate()[0].strip()


def test_two_compactions_at_once_run_one_after_the_other(path: Path, start_python: StartPython) -> None:
    before = all_of(path)
    processes = [start_python(COMPACT.format(""), path) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert all_of(path) == before
    assert leftovers(path) == set()


def test_changes_in_the_log_are_not_lost(path: Path, start_python: StartPython) -> None:
    process = start_python(
        "import duckdb, os, signal, sys\n"
        "con = duckdb.connect(sys.argv[1])\n"
        "con.execute('INSERT INTO others (id) VALUES (7)')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n",
        path,
    )
    process.wait()
    with pytest.raises(CompactError, match=r"warehouse\.duckdb\.wal has changes"):
        compact(path)
    with duckdb.connect(str(path)) as con:
        assert con.execute("SELECT id FROM others ORDER BY id").fetchall() == [(1,), (7,)]
    compact(path)


def test_refuses_if_the_disk_lacks_space(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, size = all_of(path), path.stat().st_size
    monkeypatch.setattr(compacting.shutil, "disk_usage", lambda _: SimpleNamespace(free=size // 2))
    with pytest.raises(CompactError, match=r"expected [\d,]+ MB of free space for the copy, found [\d,]+ MB"):
        compact(path)
    assert all_of(path) == before
    assert leftovers(path) == set()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("DELETE FROM compacted.others", r'"others": expected 1 rows .* in the copy, found 0'),
        ("DROP VIEW compacted.a_view_of_a_view", "tables and views differ"),
        ("COMMENT ON COLUMN compacted.loads.etag IS NULL", "tables and views differ"),
    ],
)
def test_a_copy_that_differs_is_not_used(
    path: Path, monkeypatch: pytest.MonkeyPatch, change: str, message: str
) -> None:
    compare = compacting._compare

    def spoil(con: duckdb.DuckDBPyConnection, old: str) -> int:
        con.execute(change)
        return compare(con, old)

    before = all_of(path)
    monkeypatch.setattr(compacting, "_compare", spoil)
    with pytest.raises(CompactError, match=message):
        compact(path)
    assert all_of(path) == before
    assert leftovers(path) == set()


def test_every_fleet_is_copied(path: Path) -> None:
    compact(path)
    assert {fleet.table for fleet in catalogue.FLEETS.values()} <= all_of(path).keys()
