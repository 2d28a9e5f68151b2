"""The hook for the warehouse: the official DuckDB hook, plus what tasks that share one file need.

`include` is imported where it is used: Airflow loads plugins also in processes without the DAG bundle on their path.
"""

from __future__ import annotations

import contextlib
import re
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException
from airflow.providers.duckdb.hooks.duckdb import DuckDBHook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.providers.common.compat.sdk import Connection
    from duckdb import DuckDBPyConnection

LOCK_TIMEOUT_SECONDS = 600.0
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 5.0
MEMORY_LIMIT = "1GB"


class WarehouseLockedError(AirflowException):
    """Another process held the warehouse's file for longer than the hook may wait."""


class WarehouseHook(DuckDBHook):
    """Opens the warehouse.

    Where no connection `warehouse` is defined, it is the file `warehouse.duckdb` in the data directory; its folder is
    made when it is missing. DuckDB lets one process at a time have a file open, readers included: the hook waits for
    its turn, with growing pauses, and gives up after `lock_timeout` seconds.

    Args:
        lock_timeout: seconds to wait for another process; else the connection's extra `lock_timeout`, else 600.

    All arguments of DuckDBHook are there too; `memory_limit` is 1GB unless the connection's extra says otherwise.
    """

    default_conn_name = "warehouse"
    hook_name = "NYC taxi warehouse"

    def __init__(self, *args: Any, lock_timeout: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lock_timeout = lock_timeout

    @property
    def lock_timeout(self) -> float:
        """Seconds to wait for another process."""
        return float(self.resolve_parameter("lock_timeout", self._lock_timeout, LOCK_TIMEOUT_SECONDS))

    @property
    def memory_limit(self) -> str | None:
        """What DuckDB may use before it spills to disk."""
        return self.resolve_parameter("memory_limit", self._memory_limit, MEMORY_LIMIT)

    @cached_property
    def airflow_connection(self) -> Connection | None:
        """The connection, or None where the default one is not defined. Looked up when the hook is first used."""
        try:
            return self.get_connection(self.get_conn_id())
        except AirflowNotFoundException:
            if self.get_conn_id() != self.default_conn_name:
                raise
            return None

    def get_database(self) -> str:
        """What to open: the connection's database, or the default file where there is no connection.

        The official hook falls back to memory, where a task's work would vanish without a word.

        Raises:
            ValueError: the connection is defined, but says no database.
        """
        from include.nyc_taxi import settings

        connection = self.airflow_connection
        if connection is None and not self.database:
            return str(settings.warehouse_path())
        database = super().get_database()
        if database != ":memory:":
            return database
        if connection and not connection.host and connection.schema:
            return f"/{connection.schema.lstrip('/')}"  # Airflow reads the path in `duckdb:///path` as a schema
        raise ValueError(
            f"the connection {self.get_conn_id()!r} names no file: expected a path in its field `host`, for example "
            """AIRFLOW_CONN_WAREHOUSE='{"conn_type": "duckdb", "host": "/srv/nyc_taxi/warehouse.duckdb"}'"""
        )

    def exists(self) -> bool:
        """Whether there is a warehouse, as far as can be told without opening it: False where its file is missing."""
        database = self.get_database()
        return not _is_file(database) or Path(database).exists()

    def get_conn(self) -> DuckDBPyConnection:
        """Open the warehouse, waiting while another process has it open.

        Raises:
            WarehouseLockedError: it is still held after `lock_timeout` seconds; names the file and the holder's pid.
        """
        database = self.get_database()
        if _is_file(database):
            Path(database).absolute().parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + self.lock_timeout
        wait = FIRST_WAIT_SECONDS
        while True:
            try:
                return super().get_conn()
            except duckdb.IOException as error:
                if "Could not set lock" not in str(error):
                    raise
                left = deadline - time.monotonic()
                if left <= 0:
                    raise WarehouseLockedError(_locked_message(database, self.lock_timeout, error)) from error
                self.log.info("%s is open in process %s; waiting", database, _holder(error) or "unknown")
                time.sleep(min(wait, left))
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[DuckDBPyConnection]:
        """Open the warehouse and run the block in one transaction: all of it is committed, or none.

        The connection is closed, and the file free for others, when the block has ended.
        """
        from include.nyc_taxi import warehouse

        with contextlib.closing(self.get_conn()) as con, warehouse.transaction(con):
            yield con

    def test_connection(self) -> tuple[bool, str]:
        """For the UI's "Test" button: DuckDB's version, the path and the size of the warehouse."""
        try:
            with contextlib.closing(self.get_conn()) as con:
                (version,) = con.execute("SELECT version()").fetchone() or ("?",)
        except Exception as error:  # whatever is wrong is the answer
            return False, str(error)
        path = Path(self.get_database())
        size = path.stat().st_size if path.exists() else 0
        return True, f"DuckDB {version}, {self._redact_database(str(path))}, {size:,} bytes"


def _is_file(database: str) -> bool:
    return not re.match(r"[a-z]+:", database)  # as md: or ducklake:


def _holder(error: duckdb.IOException) -> str | None:
    """The pid that DuckDB's message names, if it does."""
    found = re.search(r"PID (\d+)", str(error))
    return found.group(1) if found else None


def _locked_message(database: str, waited: float, error: duckdb.IOException) -> str:
    return (
        f"{database} was open in another process (pid {_holder(error) or 'unknown'}) for all of the {waited:g} seconds "
        "that this task may wait. Close that process (a DuckDB shell or notebook?), or if it is a task of ours, "
        "check that the pool `warehouse` has one slot; then clear this task"
    )
