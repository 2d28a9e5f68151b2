"""Inspect and verify Parquet files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from include.nyc_taxi.errors import DownloadError, LayoutError
from include.nyc_taxi.without_pandas import without_pandas

MAGIC = b"PAR1"
FOOTER_BYTES = 16_000_000
"""The largest footer that is read, because DuckDB needs 17 times its size in memory. The TLC's have about 10 kB."""
NOT_THE_FILES_FAULT = (duckdb.OutOfMemoryException, duckdb.InterruptException)
"""Errors that can occur while a file is read but do not mean that it is damaged."""
SIMULATED = "nyc_taxi_simulated"
"""The metadata key that marks a file of simulated trips. Pictures drawn from such trips must be marked too."""


@dataclass(frozen=True)
class Footer:
    """The contents of a Parquet file's footer.

    Attributes:
        rows: the number of rows.
        types: each column's DuckDB type, by the column's name, in the file's order.
        simulated: whether the file is marked as containing simulated trips, as our simulator marks its files.
        ranges: the least and the largest value of each column of numbers, by the column's name. Columns are absent if
            the footer does not give both for each part of the file. NaN is not counted as a value.
    """

    rows: int
    types: Mapping[str, str]
    simulated: bool
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """The column names, in the file's order."""
        return tuple(self.types)


def read_footer(con: duckdb.DuckDBPyConnection, path: Path) -> Footer:
    """Read a file's footer, but none of its rows.

    Raises:
        duckdb.Error: the file is not a Parquet file.
        LayoutError: the footer is far larger than a month of trips needs.
        OSError: the file does not exist.
    """
    _check_footer_size(path)
    (rows,) = con.execute("SELECT num_rows FROM parquet_file_metadata(?)", [str(path)]).fetchone() or (0,)
    # DESCRIBE shows the columns as a query sees them; parquet_schema() would also list nested fields.
    described = con.execute(
        "SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet(?))", [str(path)]
    )
    types = dict(described.fetchall())
    (marks,) = con.execute(
        "SELECT count(*) FROM parquet_kv_metadata(?) WHERE key = ?", [str(path), SIMULATED.encode()]
    ).fetchone() or (0,)
    return Footer(rows=rows, types=types, simulated=bool(marks), ranges=_ranges(con, path))


def _ranges(con: duckdb.DuckDBPyConnection, path: Path) -> dict[str, tuple[float, float]]:
    found = con.execute(
        """
        SELECT
            path_in_schema,
            min(TRY_CAST(stats_min_value AS DOUBLE)) AS least,
            max(TRY_CAST(stats_max_value AS DOUBLE)) AS largest
        FROM parquet_metadata(?)
        WHERE type IN ('INT32', 'INT64', 'FLOAT', 'DOUBLE')
        GROUP BY path_in_schema
        HAVING bool_and(
            TRY_CAST(stats_min_value AS DOUBLE) IS NOT NULL AND TRY_CAST(stats_max_value AS DOUBLE) IS NOT NULL
        )
        """,
        [str(path)],
    )
    return {name: (least, largest) for name, least, largest in found.fetchall()}


def _check_footer_size(path: Path) -> None:
    size = path.stat().st_size
    if size < len(MAGIC) + 8:
        return  # not a Parquet file; DuckDB explains what is wrong with it
    with path.open("rb") as file:
        file.seek(size - len(MAGIC) - 4)
        footer = int.from_bytes(file.read(4), "little")
    if FOOTER_BYTES < footer <= size:  # a larger number means that the file is damaged
        raise LayoutError(
            f"{path.name}: expected a footer of at most {FOOTER_BYTES:,} bytes, found {footer:,} bytes: the file has "
            "thousands of row groups or columns. Write it with fewer, larger row groups"
        )


@without_pandas()
def is_readable(path: Path) -> bool:
    """Whether every page of the file can be read. This reads the whole file.

    A damaged page that can still be decoded goes unnoticed: DuckDB ignores checksums, and the TLC's files have none.

    Raises:
        duckdb.Error: the answer is unknown, for example because there is not enough memory.
    """
    try:
        with duckdb.connect() as con:
            con.execute("SELECT bit_xor(hash(trip)) FROM read_parquet(?) AS trip", [str(path)]).fetchall()
    except NOT_THE_FILES_FAULT:
        raise
    except duckdb.Error:
        return False
    return True


@without_pandas()
def verify_parquet(path: Path) -> None:
    """Check that `path` is a complete Parquet file, with magic bytes at both ends and a footer that DuckDB can read.

    Raises:
        DownloadError: the file is something else, such as an error page; the message shows how it begins.
        LayoutError: the footer is too large; see `read_footer`.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(120)
        file.seek(max(0, size - len(MAGIC)))
        tail = file.read()
    if head[:4] != MAGIC or tail != MAGIC or size <= 2 * len(MAGIC):
        raise DownloadError(
            f"{path.name}: expected a Parquet file ({MAGIC!r} at both ends), found {size:,} bytes "
            f"beginning with {head[:60]!r} and ending with {tail!r}; did the server send an error page?"
        )
    try:
        with duckdb.connect() as con:
            read_footer(con, path)
    except NOT_THE_FILES_FAULT:
        raise
    except duckdb.Error as error:
        raise DownloadError(f"{path.name}: expected a Parquet file, but its footer cannot be read: {error}") from error
