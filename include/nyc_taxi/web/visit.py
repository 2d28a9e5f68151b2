"""One visit to the warehouse: from waiting for it to closing it. The hook keeps this record of each of its own.

A visit brings the snapshot up to date, whoever has changed the warehouse: this visit, or one that was killed before it
could write the snapshot. Every visit leaves a record of its costs. Neither ever fails the task whose work is done: what
goes wrong is logged as a warning.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from include.nyc_taxi.warehouse import lake
from include.nyc_taxi.web import contents, snapshot, uses

log = logging.getLogger(__name__)

Describe = Callable[[duckdb.DuckDBPyConnection], tuple[uses.User, snapshot.Place] | None]
"""Says who visits the warehouse, and what is known about it; None if the visit is not to be recorded."""


class Visit:
    """A visit that begins now, by waiting for the warehouse.

    Args:
        describe: called once the warehouse is open.
        file: the warehouse's file; None if the warehouse is not a file.
    """

    def __init__(self, describe: Describe, file: Path | None) -> None:
        self._describe, self._file = describe, file
        self._created, self._opened = time.monotonic(), 0.0
        self._at, self._state, self._begun = "", "", datetime.now(UTC)
        self._who: tuple[uses.User, snapshot.Place] | None = None
        self._wrote = False
        self._rows: int | None = None

    def begin(self, con: duckdb.DuckDBPyConnection) -> None:
        """Note that the warehouse is open, and which state it is in."""
        with _never_failing("the use of the warehouse is not recorded"):
            self._opened, self._at, self._begun = time.monotonic(), uses.now(), datetime.now(UTC)
            self._who = self._describe(con)
            if self._who:
                self._state = self._state_of(con)

    def end(self, con: duckdb.DuckDBPyConnection) -> None:
        """Bring the snapshot up to date. Call it after the last commit, while the warehouse is still open."""
        with _never_failing("the page of the warehouse stays old until the next task opens it"):
            if self._who is None:
                return
            user, place = self._who
            self._wrote = self._state_of(con) != self._state
            read = contents.write(con, place)
            # The months that this visit has loaded: another try of the run may have loaded some before.
            mine = [x.rows for x in read.values() if x.run_id == user.run_id and _moment(x.loaded_at) >= self._begun]
            self._rows = sum(mine) if self._wrote and user.run_id and mine else None

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Record the visit when the block has closed the warehouse, if it was open at all."""
        try:
            yield
        finally:
            if self._who:
                with _never_failing("the use of the warehouse is not recorded"):
                    self._record(self._who[0])

    def _record(self, user: uses.User) -> None:
        uses.record(
            uses.WarehouseUse(
                self._at,
                *(user.dag_id, user.run_id, user.task_id, os.getpid()),
                wait_seconds=round(self._opened - self._created, 3),
                hold_seconds=round(time.monotonic() - self._opened, 3),
                wrote=self._wrote,
                rows=self._rows,
            )
        )

    def _state_of(self, con: duckdb.DuckDBPyConnection) -> str:
        """A text that any commit changes. For a file, the sizes and times of it and its log, read without opening it.

        Opening the file a second time would be fatal: closing it again drops the lock that DuckDB has on it.
        For a lake, the last commit of this connection, because others commit meanwhile.
        """
        if self._file is not None:
            return str([_facts(self._file), _facts(self._file.with_name(f"{self._file.name}.wal"))])
        if lake.is_lake(con):
            return str(con.execute("FROM ducklake_last_committed_snapshot(current_database())").fetchall())
        return ""  # MotherDuck does not tell


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _facts(file: Path) -> tuple[int, int] | None:
    with contextlib.suppress(FileNotFoundError):
        facts = file.stat()
        return facts.st_size, facts.st_mtime_ns
    return None


@contextlib.contextmanager
def _never_failing(consequence: str) -> Iterator[None]:
    """Log an error of the block and go on. A time limit of Airflow is no such error, and still ends the task."""
    try:
        yield
    except Exception as error:  # of any kind: the task's work is done, and must not be repeated for this
        log.warning("%s: %s: %s", consequence, type(error).__name__, error)
