"""Slow imports are kept out of processes that do not need them."""

import importlib
import sys

import pandas
import pytest

from include.nyc_taxi.without_pandas import without_pandas

LOAD = """
import sys
from pathlib import Path
import duckdb
from include.nyc_taxi.months import Month
from include.nyc_taxi.trips import load
with duckdb.connect() as con:
    load.load_month(con, "green", Month("2023-02"), Path(sys.argv[1]), "run 1")
    print("pandas" in sys.modules)
    print(len(con.execute("SELECT * FROM green_trips").df()))
"""


def test_a_load_does_not_import_pandas_which_is_there_afterwards_for_who_wants_it(start_python, write_trips):
    process = start_python(LOAD, write_trips("green", "2023-02", rows=7))
    assert process.communicate()[0].split() == ["False", "7"]


def test_pandas_that_is_imported_already_stays():
    with without_pandas():
        assert sys.modules["pandas"] is pandas


def test_pandas_is_let_in_again_after_an_error_and_after_blocks_within_blocks(monkeypatch):
    monkeypatch.delitem(sys.modules, "pandas")
    with pytest.raises(ModuleNotFoundError, match="pandas"), without_pandas(), without_pandas():
        importlib.import_module("pandas")
    assert "pandas" not in sys.modules
