"""DuckDB does not import pandas for the values bound to statements; everything else may import it."""

import importlib
import subprocess
import sys

import duckdb
import pandas
import pytest

from include.nyc_taxi.without_pandas import binding_without_pandas, without_pandas

LOAD = """
import sys
from pathlib import Path
import duckdb
from include.nyc_taxi.months import Month
from include.nyc_taxi.trips import load
from include.nyc_taxi.without_pandas import binding_without_pandas
with binding_without_pandas(duckdb.connect()) as con:
    load.load_month(con, "green", Month("2023-02"), Path(sys.argv[1]), "run 1")
    print("pandas" in sys.modules)
    print(len(con.execute("SELECT * FROM green_trips").df()))
"""

BIND = """
import sys, duckdb
from include.nyc_taxi.without_pandas import binding_without_pandas
con = binding_without_pandas(duckdb.connect())
con.execute("CREATE TABLE t AS SELECT ? AS i", [1])
con.executemany("INSERT INTO t VALUES ($i)", [{"i": 2}, {"i": None}])
print("pandas" in sys.modules)
print(con.execute("SELECT * FROM t ORDER BY ALL").df().isna().i.tolist())
"""


def test_a_load_does_not_import_pandas_which_can_be_imported_afterwards(start_python, write_trips):
    process = start_python(LOAD, write_trips("green", "2023-02", rows=7))
    assert process.communicate()[0].split() == ["False", "7"]


def test_no_way_to_bind_values_imports_pandas_and_data_frames_are_as_usual(start_python):
    assert start_python(BIND).communicate()[0].split(maxsplit=1) == ["False", "[False, False, True]\n"]


def test_duckdb_still_imports_pandas_by_itself():
    """When this fails, DuckDB has mended it: without_pandas.py and all its uses can go."""
    code = "import duckdb, sys; duckdb.execute('SELECT ?', [1]); print('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True\n"


def test_pandas_nulls_are_null_and_frames_are_tables_where_pandas_is_used():
    with binding_without_pandas(duckdb.connect()) as con:
        assert con.execute("SELECT ?, ?", [pandas.NaT, pandas.NA]).fetchall() == [(None, None)]
        con.register("frame", pandas.DataFrame({"i": [1, 2]}))
        assert con.execute("SELECT sum(i) FROM frame WHERE i > ?", [1]).fetchall() == [(2,)]


def test_the_connection_is_closed_after_its_block(tmp_path):
    with binding_without_pandas(duckdb.connect(str(tmp_path / "w.duckdb"))) as con:
        con.execute("SELECT 1")
    with pytest.raises(duckdb.ConnectionException):
        con.execute("SELECT 1")


def test_pandas_that_is_imported_already_stays():
    with without_pandas():
        assert sys.modules["pandas"] is pandas


def test_pandas_is_let_in_again_after_an_error_and_after_blocks_within_blocks(monkeypatch):
    monkeypatch.delitem(sys.modules, "pandas")
    with pytest.raises(ModuleNotFoundError, match="pandas"), without_pandas(), without_pandas():
        importlib.import_module("pandas")
    assert "pandas" not in sys.modules
