"""Rows of Python values for a table."""

import itertools
from collections.abc import Sequence

import duckdb


def insert(con: duckdb.DuckDBPyConnection, table: str, columns: str, rows: Sequence[Sequence[object]]) -> None:
    """Insert rows of Python values with one statement: on a lake each statement makes a file.

    Args:
        columns: the names of the values' columns, as SQL lists them. The table may have more.
    """
    if rows:
        row = f"({', '.join('?' * len(rows[0]))})"
        values = list(itertools.chain.from_iterable(rows))
        con.execute(f"INSERT INTO {table} ({columns}) VALUES {', '.join([row] * len(rows))}", values)
