"""`make compact`: what it says, on a warehouse, without one, and on one that another process has open."""

import signal

import duckdb
import pytest

from include.local.__main__ import main
from include.nyc_taxi import warehouse
from include.nyc_taxi.warehouse import checkpoints
from include.nyc_taxi.warehouse import compact as compacting
from warehouse_hook import WarehouseHook


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(compacting, "GRACE_SECONDS", 0)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process is not ours to configure


@pytest.fixture
def database(data_dir):
    """A warehouse that has a row."""
    data_dir.mkdir()
    with duckdb.connect(str(data_dir / "warehouse.duckdb")) as con:
        warehouse.ensure_tables(con)
        con.execute("INSERT INTO trips_by_zone VALUES ('green', '2023-01-01', 1, 7)")
    return data_dir / "warehouse.duckdb"


def test_says_what_it_has_done(database, capsys):
    before = database.stat().st_ino
    assert main(["compact"]) == 0
    assert database.stat().st_ino != before
    assert "1 rows, " in capsys.readouterr().out.splitlines()[-1]
    with WarehouseHook().transaction() as con:
        assert con.execute("FROM trips_by_zone").fetchall()[0][-1] == 7


def test_takes_in_what_a_killed_process_left(database, start_python):
    start_python(
        "import duckdb, os, sys\n"
        "con = duckdb.connect(sys.argv[1])\n"
        "con.execute(\"INSERT INTO trips_by_zone VALUES ('green', '2023-01-01', 2, 8)\")\n"
        "os.kill(os.getpid(), 9)\n",
        database,
    ).wait()
    assert database.with_name("warehouse.duckdb.wal").exists()
    assert main(["compact"]) == 0
    with WarehouseHook().transaction() as con:
        assert con.execute("SELECT sum(num_trips) FROM trips_by_zone").fetchone() == (15,)


def test_takes_in_what_stays_beside_a_large_file(database, monkeypatch):
    monkeypatch.setattr(checkpoints, "LARGE_FILE_BYTES", 0)
    with WarehouseHook().transaction() as con:
        con.execute("INSERT INTO trips_by_zone VALUES ('green', '2023-01-01', 2, 8)")
    assert database.with_name("warehouse.duckdb.wal").exists()
    assert main(["compact"]) == 0
    with WarehouseHook().transaction() as con:
        assert con.execute("SELECT sum(num_trips) FROM trips_by_zone").fetchone() == (15,)


def test_without_a_warehouse_nothing_is_made(data_dir, capsys):
    assert main(["compact"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert not data_dir.exists()


def test_says_who_has_it_open(database, hold_open, capsys, monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW_CONN_WAREHOUSE", f'{{"conn_type": "duckdb", "host": "{database}", "extra": {{"lock_timeout": 0}}}}'
    )
    process = hold_open(database)
    assert main(["compact"]) == 1
    assert f"pid {process.pid}" in capsys.readouterr().err
