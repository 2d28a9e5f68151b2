"""Reclaim the disk space that replaced months have left behind in the warehouse's file.

DuckDB reuses this space, so the file does not grow forever, but it does not shrink either, and deleted rows remain in
row groups that also contain other rows (docs/explanation/performance.md has the measurements).
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
from include.nyc_taxi.warehouse.sql_text import literal, quoted

GRACE_SECONDS = 1.0
"""How long the replaced file stays locked (see `compact`)."""

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
    """The warehouse cannot be compacted; its file is unchanged."""


@dataclass(frozen=True)
class Compaction:
    """The result of a compaction.

    Attributes:
        before, after: the file's size in bytes.
        rows: number of rows in all tables.
    """

    before: int
    after: int
    rows: int


def compact(connect: Callable[[], duckdb.DuckDBPyConnection], path: Path) -> Compaction:
    """Copy the warehouse to a new file, compare the two files, and replace the old file by the new one.

    At any moment, the file at `path` is either the complete old file or the complete new one. Nobody can write during
    the copy: the read-only connection excludes writers, and a separate lock excludes other compactions. A waiting
    process opens the file by its name and locks it a moment later, so the replaced file stays locked for another
    `GRACE_SECONDS`. Otherwise that process could lock the replaced file, and its changes would be lost.

    Args:
        connect: opens the warehouse read-only, and waits until no other process is writing.
        path: the warehouse's file.

    Raises:
        CompactError: DuckDB's log has changes that are not in the file yet, the disk has too little space, DuckDB
            cannot copy the warehouse, or the copy differs.
    """
    path = path.resolve()  # so that a link is not replaced by a file
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
            f"{_log_of(path).name} has changes that are not in {path.name} yet, made by a task that wrote first or "
            "was killed: run make compact again, or open the file once for writing"
        )
    _remove(copy)  # left by a killed compaction
    before = path.stat().st_size
    _check_room(con, path)
    (old,) = con.execute("SELECT current_database()").fetchone() or ("",)
    con.execute(f"ATTACH {literal(str(copy))} AS compacted (READ_WRITE)")
    try:
        con.execute(f"COPY FROM DATABASE {quoted(old)} TO compacted")
    except duckdb.Error as error:  # for example, because COPY FROM DATABASE does not order tables by their foreign keys
        raise CompactError(f"DuckDB cannot copy {path}, which is unchanged: {error}") from error
    rows = _compare(con, old)
    con.execute("CHECKPOINT compacted")  # otherwise DuckDB may leave changes of a large file in its log
    con.execute("DETACH compacted")
    if _log_of(copy).exists():
        raise CompactError(f"{_log_of(copy)} still exists, so the copy is incomplete; the warehouse is unchanged")
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
            f"{path.parent}: expected {needed / 1e6:,.0f} MB of free space for the copy, found {free / 1e6:,.0f} MB; "
            "free some space first"
        )


def _compare(con: duckdb.DuckDBPyConnection, old: str) -> int:
    """Compare the copy's definitions, comments, row counts and checksums; return the number of rows in all tables."""
    for query in _DEFINITIONS:
        wanted, copied = (con.execute(f"{query} ORDER BY ALL", [name]).fetchall() for name in (old, "compacted"))
        if wanted != copied:
            raise CompactError("the copy's tables and views differ from the warehouse's, so the copy is not used")
    total = 0
    tables = con.execute("SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = ?", [old])
    for names in tables.fetchall():
        (rows, checksum), found = (
            con.execute(f"SELECT count(*), sum(hash(t)::HUGEINT) FROM {quoted(at, *names)} AS t").fetchone() or (0, 0)
            for at in (old, "compacted")
        )
        if found != (rows, checksum):
            raise CompactError(
                f"{quoted(*names)}: expected {rows:,} rows with the checksum {checksum} in the copy, found "
                f"{found[0]:,} with {found[1]}; the copy is not used"
            )
        total += rows
    return total


def _log_of(path: Path) -> Path:
    """The log in which DuckDB keeps changes that are not in the file yet."""
    return path.with_name(f"{path.name}.wal")


def _remove(copy: Path) -> None:
    copy.unlink(missing_ok=True)
    _log_of(copy).unlink(missing_ok=True)
