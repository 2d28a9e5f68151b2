"""Fixtures that replace the DuckDB file by a lake."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

OPENING = """
import duckdb
from include.nyc_taxi import warehouse
from include.nyc_taxi.warehouse import lake

def connect(folder):
    con = duckdb.connect()
    lake.attach(con, f"ducklake:{folder}/catalog.ducklake", f"{folder}/lake/")
    warehouse.make_ready(con)
    return con
"""


@pytest.fixture
def opening() -> str:
    """Override the fixture of the parent folder."""
    return OPENING


@pytest.fixture
def con(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to a new lake that has all tables.

    Its catalog is a DuckDB file, so that it needs no server. Tests with Postgres and concurrent writers are in
    tests/integration.
    """
    names: dict[str, Any] = {}
    exec(OPENING, names)
    with names["connect"](tmp_path) as connection:
        yield connection
