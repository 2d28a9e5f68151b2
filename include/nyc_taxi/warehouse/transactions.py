"""Transactions on a DuckDB connection: everything in a block is committed, or nothing."""

import contextlib
from collections.abc import Iterator

import duckdb


@contextlib.contextmanager
def transaction(con: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """Run the block between BEGIN and COMMIT; any exception rolls everything back and is raised again."""
    con.execute("BEGIN TRANSACTION")
    try:
        yield con
    except BaseException:
        con.interrupt()  # a query that a signal has ended goes on in DuckDB's threads, and ROLLBACK would wait for it
        # After some errors DuckDB has ended the transaction itself, so there is nothing to roll back.
        with contextlib.suppress(duckdb.TransactionException):
            con.execute("ROLLBACK")
        raise
    con.execute("COMMIT")


@contextlib.contextmanager
def reading(con: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """Run the block on one state of the warehouse, whatever other connections commit meanwhile."""
    con.execute("BEGIN TRANSACTION READ ONLY")
    try:
        yield con
    except BaseException:
        con.interrupt()  # as in `transaction`
        raise
    finally:
        con.execute("ROLLBACK")
