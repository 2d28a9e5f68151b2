"""Fixtures that replace the DuckDB file by a lake."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

HERE = Path(__file__).parent

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the repeated tests keep those that use a fixture of this file; the others would be the same tests again."""
    same = [
        item
        for item in items
        if isinstance(item, pytest.Function)
        and item.path.is_relative_to(HERE)
        and not item.function.__module__.startswith(__package__)
        and {"con", "opening"}.isdisjoint(item.fixturenames)
    ]
    config.hook.pytest_deselected(items=same)
    left_out = {id(item) for item in same}
    items[:] = [item for item in items if id(item) not in left_out]


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
