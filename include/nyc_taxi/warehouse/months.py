"""Replacing one month of a table of trips in one transaction, in a DuckDB file and in a lake.

    with replacement(con, table, month) as month_rows:
        month_rows.stage(query, values)
        ...  # look at `month_rows.rows`
        month_rows.publish(record)

What is published is committed when the block is left. A block that raises leaves the old month as it was.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Generic, Self, TypeVar

import duckdb

from include.nyc_taxi.months import Month
from include.nyc_taxi.warehouse import lake
from include.nyc_taxi.warehouse.transactions import transaction, write

Old = TypeVar("Old")
T = TypeVar("T")


class Replacement(ABC, Generic[Old]):
    """A month's rows that are to take the place of those in a table of trips."""

    def __init__(
        self, con: duckdb.DuckDBPyConnection, table: str, month: Month, of_old_rows: Callable[[], Old]
    ) -> None:
        self.con, self.table, self.month, self.of_old_rows = con, table, month, of_old_rows
        self.block = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.block.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.block.__exit__(kind, error, traceback)

    @abstractmethod
    def stage(self, query: str, values: Mapping[str, object]) -> None:
        """Write the rows of a SELECT, which gives the table's columns by name; `values` are its bound values."""

    @property
    @abstractmethod
    def rows(self) -> str:
        """SQL for a FROM clause that reads the staged rows, and no others."""

    @abstractmethod
    def publish(self, record: Callable[[Old], T]) -> T:
        """Put the staged rows in the place of the old ones, and `record` it, in one transaction.

        Args:
            record: is called with what `of_old_rows` returned. It may be called again where another writer of a lake
                was faster.

        Returns:
            What `record` returned.
        """

    def _delete_old_rows(self) -> Old:
        old = self.of_old_rows()
        self.con.execute(f"DELETE FROM {self.table} WHERE partition_month = ?", [self.month.first_day])
        return old


class _InFile(Replacement[Old]):
    """One process has the file to itself, so the transaction may take its time: it begins with the staging."""

    _old: Old

    def stage(self, query: str, values: Mapping[str, object]) -> None:
        self.block.enter_context(transaction(self.con))
        self._old = self._delete_old_rows()
        self.con.execute(f"INSERT INTO {self.table} BY NAME {query}", values)

    @property
    def rows(self) -> str:
        return f"(FROM {self.table} WHERE partition_month = DATE '{self.month.first_day}')"

    def publish(self, record: Callable[[Old], T]) -> T:
        return record(self._old)


class _InLake(Replacement[Old]):
    """The rows are in a file before the transaction, so it is short: a lake may refuse it, and it is then repeated."""

    _file: lake.Staged

    def stage(self, query: str, values: Mapping[str, object]) -> None:
        self._file = self.block.enter_context(lake.staged(self.con, self.table, self.month, query, values))

    @property
    def rows(self) -> str:
        return self._file.relation

    def publish(self, record: Callable[[Old], T]) -> T:
        def replace() -> T:
            old = self._delete_old_rows()
            self._file.register(self.con)
            return record(old)

        return write(self.con, replace)


def replacement(
    con: duckdb.DuckDBPyConnection, table: str, month: Month, of_old_rows: Callable[[], Old]
) -> Replacement[Old]:
    """Prepare to replace a month of a table of trips; use it in a `with` block.

    Args:
        of_old_rows: reads what `record` has to know of the old rows. It is called in the transaction that deletes them.
    """
    return (_InLake if lake.is_lake(con) else _InFile)(con, table, month, of_old_rows)
