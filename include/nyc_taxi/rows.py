"""Insert rows of Python values into a table."""

import itertools
from collections.abc import Sequence

import duckdb


def insert(con: duckdb.DuckDBPyConnection, table: str, columns: str, rows: Sequence[Sequence[object]]) -> None:
    """Insert rows of Python values with a single statement, because each statement creates a file in a lake.

    Args:
        columns: the names of the columns to insert into, separated by commas. The table may have more columns.
    """
    if rows:
        row = f"({', '.join('?' * len(rows[0]))})"
        values = list(itertools.chain.from_iterable(rows))
        con.execute(f"INSERT INTO {table} ({columns}) VALUES {', '.join([row] * len(rows))}", values)
