"""Give the disk back what replaced months have left behind in the warehouse's file.

DuckDB uses that space again, so the file does not grow for ever; but it does not shrink either, and rows that are
deleted stay in row groups that others still fill (docs/explanation/performance.md has the measurements).
"""

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb

from include.nyc_taxi.errors import NycTaxiError
from include.nyc_taxi.files import locked

GRACE_SECONDS = 1.0
"""For so long the replaced file stays locked: see `compact`."""

_DEFINITIONS = (
    "SELECT schema_name, comment FROM duckdb_schemas() WHERE database_name = ?",
    "SELECT schema_name, table_name, sql, comment FROM duckdb_tables() WHERE database_name = ?",
    "SELECT schema_name, view_name, sql, comment FROM duckdb_views() WHERE database_name = ? AND NOT internal",
    "SELECT schema_name, table_name, column_name, comment FROM duckdb_columns() WHERE database_name = ?",
    "SELECT schema_name, index_name, sql FROM duckdb_indexes() WHERE database_name = ?",
    "SELECT schema_name, sequence_name, sql FROM duckdb_sequences() WHERE database_name = ?",
    "SELECT schema_name, function_name, macro_definition FROM duckdb_functions() WHERE database_name = ?",
    "SELECT schema_name, type_name FROM duckdb_types() WHERE database_name = ? AND NOT internal",
)


class CompactError(NycTaxiError, permanent=True):
    """The warehouse cannot be compacted; its file is as it was."""


@dataclass(frozen=True)
class Compaction:
    """What a compaction did.

    Attributes:
        before, after: size of the file in bytes.
        rows: of all tables together.
    """

    before: int
    after: int
    rows: int


def compact(connect: Callable[[], duckdb.DuckDBPyConnection], path: Path) -> Compaction:
    """Copy the warehouse into a new file, compare the two, and put the new one in the old one's place.

    The file at `path` is the old or the new one at any moment, whole. While it is copied nobody can write: the
    read-only connection keeps writers out, and a lock of its own a second compaction. A process that waits for its
    turn opens the file by name and locks it a moment later; lest it lock the file that has just lost its name, and
    write where nobody will read, that one stays locked for `GRACE_SECONDS` more.

    Args:
        connect: opens the warehouse read-only; waits for its turn.
        path: the warehouse's file.

    Raises:
        CompactError: changes are left beside the file that only a writer can take in; the disk has too little room;
            or the copy differs.
    """
    path = path.resolve()  # a link stays a link
    copy = path.with_name(f".{path.name}.compacted")
    with locked(path.with_name(f".{path.name}.compact.lock")):
        try:
            with contextlib.closing(connect()) as con:
                return _replace_by_copy(con, path, copy)
        finally:
            _remove(copy)


def _replace_by_copy(con: duckdb.DuckDBPyConnection, path: Path, copy: Path) -> Compaction:
    if _log_of(path).exists():
        raise CompactError(
            f"{_log_of(path).name} has changes that are not in {path.name} yet, of a task that was faster or was "
            "killed: run make compact again, or open the file once for writing"
        )
    _remove(copy)  # of a compaction that was killed
    before = path.stat().st_size
    _check_room(con, path)
    (old,) = con.execute("SELECT current_database()").fetchone() or ("",)
    con.execute(f"ATTACH {_quoted(str(copy), chr(39))} AS compacted (READ_WRITE)")
    try:
        con.execute(f"COPY FROM DATABASE {_quoted(old)} TO compacted")
    except duckdb.ConstraintException as error:  # it copies tables in no order that foreign keys would ask for
        raise CompactError(f"DuckDB cannot copy {path}: {error}") from error
    rows = _compare(con, old)
    con.execute("CHECKPOINT compacted")  # a connection to a large file leaves that to DuckDB's log
    con.execute("DETACH compacted")
    if _log_of(copy).exists():
        raise CompactError(f"{_log_of(copy)} is still there: the copy is not whole")
    shutil.copymode(path, copy)
    with copy.open("rb") as file:
        os.fsync(file.fileno())
    copy.replace(path)
    time.sleep(GRACE_SECONDS)
    return Compaction(before=before, after=path.stat().st_size, rows=rows)


def _check_room(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    (needed,) = con.execute(
        "SELECT used_blocks * block_size FROM pragma_database_size() WHERE database_name = current_database()"
    ).fetchone() or (0,)
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise CompactError(
            f"{path.parent} has {free / 1e6:,.0f} MB free, and the copy takes up to {needed / 1e6:,.0f} MB "
            "beside the warehouse: free some space first"
        )


def _compare(con: duckdb.DuckDBPyConnection, old: str) -> int:
    """Compare definitions, comments, rows and checksums with the warehouse's; returns the number of all rows."""
    for query in _DEFINITIONS:
        ours, copied = (con.execute(f"{query} ORDER BY ALL", [name]).fetchall() for name in (old, "compacted"))
        if ours != copied:
            raise CompactError("the copy's tables and views differ from the warehouse's; it is not used")
    total = 0
    tables = con.execute("SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = ?", [old])
    for names in tables.fetchall():
        table = ".".join(map(_quoted, names))
        (rows, checksum), found = (
            con.execute(f"SELECT count(*), sum(hash(t)::HUGEINT) FROM {_quoted(at)}.{table} AS t").fetchone() or (0, 0)
            for at in (old, "compacted")
        )
        if found != (rows, checksum):
            raise CompactError(
                f"{table}: expected {rows:,} rows in the copy, found {found[0]:,}, or other values "
                f"(checksums {checksum} and {found[1]}); it is not used"
            )
        total += rows
    return total


def _log_of(path: Path) -> Path:
    """Where DuckDB keeps what is not yet in the file."""
    return path.with_name(f"{path.name}.wal")


def _remove(copy: Path) -> None:
    copy.unlink(missing_ok=True)
    _log_of(copy).unlink(missing_ok=True)


def _quoted(text: str, quote: str = '"') -> str:
    return quote + text.replace(quote, 2 * quote) + quote
