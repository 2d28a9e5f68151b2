"""What a command cannot do is one sentence and an exit status; a fault of the program itself is not hidden."""

import json

import duckdb
import pytest
from sqlalchemy.exc import OperationalError

from include.local import pool
from include.local.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["backfill", "--from", "2023-01", "--to", "2023-01"], "make backfill: Missing option FLEET=."),
        (
            ["demo", "--fleet", "green", "--from", "2023-01", "--to", "2023-01", "--reprocess", "all"],
            "make demo: Invalid value for REPROCESS=: 'all' is not one of 'completed', 'failed', 'none'.",
        ),
        (["standalone", "--port", "80"], "make standalone: expected PORT= and a number from 1024 to 65535, found '80'"),
        (["quality", "--fleet", "pink", "--month", "2023-01"], "make quality: no fleet 'pink' in the catalogue"),
        (["fly"], "make fly: No such command 'fly'."),
    ],
)
def test_a_wrong_argument_is_named_as_make_knows_it(capsys, arguments, sentence):
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(sentence)


def test_a_wrong_setting_is_named(capsys, monkeypatch):
    monkeypatch.setenv("NYC_TAXI_FIRST_MONTH", "soon")
    assert main(["pool"]) == 2
    assert capsys.readouterr().err.startswith("make pool: NYC_TAXI_FIRST_MONTH: 'soon' is not a month")


def failing(monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setattr(pool.pool, "set_up", fail)
    return main(["pool"])


def test_a_metadata_database_that_does_not_answer_is_one_sentence(capsys, monkeypatch):
    assert failing(monkeypatch, OperationalError("SELECT 1", {}, Exception("database is locked"))) == 1
    assert capsys.readouterr().err.splitlines() == [
        "make pool: Airflow's metadata database does not answer: database is locked. Run the same command again."
    ]


def test_ctrl_c_needs_no_sentence(capsys, monkeypatch):
    assert failing(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err.strip() == ""


def test_a_fault_of_the_program_is_not_hidden(monkeypatch):
    with pytest.raises(ZeroDivisionError):
        failing(monkeypatch, ZeroDivisionError())


def test_a_warehouse_that_stays_locked_is_one_sentence(data_dir, tmp_path, hold_open, capsys, monkeypatch):
    data_dir.mkdir()
    database = data_dir / "warehouse.duckdb"
    with duckdb.connect(str(database)) as con:
        con.execute("CREATE TABLE t AS SELECT 1 AS x")
    holder = hold_open(database)
    locked = {"conn_type": "duckdb", "host": str(database), "extra": {"lock_timeout": 0}}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(locked))
    assert main(["compact"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("make compact: ")
    assert f"pid {holder.pid}" in line
