"""Replacing one month of a table of trips, in a file and in a lake."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import duckdb

from include.nyc_taxi.warehouse import lake


class Incoming(Protocol):
    """A month's rows that are to take the place of those in a table.

    Attributes:
        staged: SQL to read them before they are in the table, as a FROM clause has it; None where that cannot be.
    """

    @property
    def staged(self) -> str | None: ...

    def put(self) -> str:
        """Replace the month's rows in the table; returns SQL to read the new ones. Call it in a transaction."""
        ...


@dataclass(frozen=True)
class _ToTable:
    """Inserted as they are read: in a file that is one process's alone, a transaction may take its time."""

    con: duckdb.DuckDBPyConnection
    table: str
    start: date
    query: str
    bound: Mapping[str, object]
    staged: str | None = None

    def put(self) -> str:
        _delete_month(self.con, self.table, self.start)
        self.con.execute(f"INSERT INTO {self.table} BY NAME {self.query}", self.bound)
        return _month_of(self.table, self.start)


@dataclass(frozen=True)
class _ToLake:
    """Written as a file first: a transaction that may be refused at its end, and be repeated, is to be short."""

    con: duckdb.DuckDBPyConnection
    start: date
    file: lake.Staged

    @property
    def staged(self) -> str:
        return self.file.relation

    def put(self) -> str:
        _delete_month(self.con, self.file.table, self.start)
        self.file.register(self.con)
        return self.staged


@contextlib.contextmanager
def incoming(
    con: duckdb.DuckDBPyConnection, table: str, start: date, query: str, bound: Mapping[str, object]
) -> Iterator[Incoming]:
    """Yield the rows that `query` gives, to be put into a table of trips as those of the month that begins at `start`.

    Args:
        query: a SELECT with the table's columns and types, by name; `bound` are its bound values.
    """
    if lake.is_lake(con):
        with lake.staged(con, table, start, query, bound) as file:
            yield _ToLake(con, start, file)
    else:
        yield _ToTable(con, table, start, query, bound)


def _delete_month(con: duckdb.DuckDBPyConnection, table: str, start: date) -> None:
    con.execute(f"DELETE FROM {table} WHERE partition_month = ?", [start])


def _month_of(table: str, start: date) -> str:
    return f"(FROM {table} WHERE partition_month = DATE '{start}')"
