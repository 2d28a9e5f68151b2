"""Replace one month of a table of trips in one transaction, in a DuckDB file or in a lake.

    with replacement(con, table, month, of_old_rows) as new:
        new.stage(query, values)
        ...  # audit `new.rows`
        new.publish(record)

The published rows are committed at the latest when the block ends. If the block raises an exception, or ends
without publishing, the old rows stay.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Generic, Self, TypeVar

import duckdb

from include.nyc_taxi.months import Month
from include.nyc_taxi.warehouse import lake
from include.nyc_taxi.warehouse.lake import write
from include.nyc_taxi.warehouse.transactions import transaction

Old = TypeVar("Old")
T = TypeVar("T")


class Replacement(ABC, Generic[Old]):
    """The rows of a month that will replace those in a table of trips."""

    def __init__(
        self, con: duckdb.DuckDBPyConnection, table: str, month: Month, of_old_rows: Callable[[], Old]
    ) -> None:
        self.con, self.table, self.month, self.of_old_rows = con, table, month, of_old_rows
        self.block = contextlib.ExitStack()
        self._is_published = False

    def __enter__(self) -> Self:
        self.block.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None and not self._is_published:  # a block that forgets to publish must not commit
            forgotten = RuntimeError(f"{self.table}: {self.month} was not published; the old month stays")
            self.block.__exit__(RuntimeError, forgotten, None)
            raise forgotten
        self.block.__exit__(kind, error, traceback)

    @abstractmethod
    def stage(self, query: str, values: Mapping[str, object]) -> None:
        """Write the rows of a SELECT that names its columns like the table's; `values` are its bound values."""

    @property
    @abstractmethod
    def rows(self) -> str:
        """SQL for a FROM clause that reads only the staged rows."""

    @abstractmethod
    def publish(self, record: Callable[[Old], T]) -> T:
        """Replace the old rows by the staged rows and call `record`, in one transaction.

        Args:
            record: receives the result of `of_old_rows`. It is called again if another writer of a lake commits first.

        Returns:
            The result of `record`.
        """

    def _delete_old_rows(self) -> Old:
        old = self.of_old_rows()
        self.con.execute(f"DELETE FROM {self.table} WHERE partition_month = ?", [self.month.first_day])
        return old


class _InFile(Replacement[Old]):
    """A DuckDB file has one writer, so a long transaction is fine: it begins with the staging."""

    _old: Old

    def stage(self, query: str, values: Mapping[str, object]) -> None:
        self.block.enter_context(transaction(self.con))
        self._old = self._delete_old_rows()
        self.con.execute(f"INSERT INTO {self.table} BY NAME {query}", values)

    @property
    def rows(self) -> str:
        return f"(FROM {self.table} WHERE partition_month = DATE '{self.month.first_day}')"

    def publish(self, record: Callable[[Old], T]) -> T:
        result = record(self._old)
        self._is_published = True
        return result


class _InLake(Replacement[Old]):
    """The rows are staged in a file before the transaction, which is short because a lake may require repeating it."""

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

        result = write(self.con, replace)
        self._is_published = True
        return result


def replacement(
    con: duckdb.DuckDBPyConnection, table: str, month: Month, of_old_rows: Callable[[], Old]
) -> Replacement[Old]:
    """Prepare the replacement of a month of a table of trips, for use in a `with` block.

    Args:
        of_old_rows: reads what `record` needs to know about the old rows. It is called in the transaction that deletes
            them.
    """
    return (_InLake if lake.is_lake(con) else _InFile)(con, table, month, of_old_rows)
