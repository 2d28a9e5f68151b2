"""Transactions on a DuckDB connection: all of a block is committed, or none of it."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import duckdb

from include.nyc_taxi.warehouse import lake

T = TypeVar("T")


@contextlib.contextmanager
def transaction(con: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """Run the block between BEGIN and COMMIT; whatever it raises rolls everything back and is raised on."""
    con.execute("BEGIN TRANSACTION")
    try:
        yield con
    except BaseException:
        con.interrupt()  # a query that a signal has ended goes on in DuckDB's threads, and ROLLBACK would wait for it
        # DuckDB has ended the transaction itself after some errors, and then has nothing to roll back.
        with contextlib.suppress(duckdb.TransactionException):
            con.execute("ROLLBACK")
        raise
    con.execute("COMMIT")


@contextlib.contextmanager
def reading(con: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """Run the block on one state of the warehouse, whatever others commit meanwhile."""
    con.execute("BEGIN TRANSACTION READ ONLY")
    try:
        yield con
    except BaseException:
        con.interrupt()  # as in `transaction`
        raise
    finally:
        con.execute("ROLLBACK")


def write(con: duckdb.DuckDBPyConnection, work: Callable[[], T]) -> T:
    """Run `work` in one transaction and return what it returns: all it does is committed, or nothing.

    On a lake it is run again where another writer was faster: it must begin from what it then finds.
    """
    if not lake.is_lake(con):
        with transaction(con):
            return work()

    def attempt() -> T:
        with transaction(con):
            lake.conflict_with_other_writers(con)
            return work()

    return lake.retried(attempt)
