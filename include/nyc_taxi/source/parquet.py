"""Look into a Parquet file without reading its rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from include.nyc_taxi.errors import DownloadError, LayoutError
from include.nyc_taxi.without_pandas import without_pandas

MAGIC = b"PAR1"
FOOTER_BYTES = 16_000_000
"""No larger footer is read: DuckDB takes 17 times its size in memory for it. Those of the TLC have some 10 kB."""
NOT_THE_FILES_FAULT = (duckdb.OutOfMemoryException, duckdb.InterruptException)
"""What reading a file can also raise, and says nothing of the file."""
SIMULATED = "nyc_taxi_simulated"
"""The key in a file's metadata which says that its trips are made up: what is drawn from them must say so too."""


@dataclass(frozen=True)
class Footer:
    """What a Parquet file's footer says.

    Attributes:
        rows: the number of rows.
        types: DuckDB's type of each column, by the column's name, in the file's order.
        simulated: whether the file says that its trips are made up, as those of our simulator do.
    """

    rows: int
    types: Mapping[str, str]
    simulated: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in the file's order."""
        return tuple(self.types)


def read_footer(con: duckdb.DuckDBPyConnection, path: Path) -> Footer:
    """Read a file's footer, and nothing else of it.

    Raises:
        duckdb.Error: the file is no Parquet file.
        LayoutError: the footer is far larger than a month of trips needs.
        OSError: the file is not there.
    """
    _check_footer_size(path)
    (rows,) = con.execute("SELECT num_rows FROM parquet_file_metadata(?)", [str(path)]).fetchone() or (0,)
    # DESCRIBE binds the file's schema as a query would see it; parquet_schema() lists nested nodes too.
    described = con.execute(
        "SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet(?))", [str(path)]
    )
    types = dict(described.fetchall())
    (marks,) = con.execute(
        "SELECT count(*) FROM parquet_kv_metadata(?) WHERE key = ?", [str(path), SIMULATED.encode()]
    ).fetchone() or (0,)
    return Footer(rows=rows, types=types, simulated=bool(marks))


def _check_footer_size(path: Path) -> None:
    size = path.stat().st_size
    if size < len(MAGIC) + 8:
        return  # no Parquet file: DuckDB says what is wrong with it
    with path.open("rb") as file:
        file.seek(size - len(MAGIC) - 4)
        footer = int.from_bytes(file.read(4), "little")
    if FOOTER_BYTES < footer <= size:  # one that is larger than the file is damaged
        raise LayoutError(
            f"{path.name}: expected a footer of at most {FOOTER_BYTES:,} bytes, found one of {footer:,}: the file has "
            "thousands of row groups or columns. Write it with fewer and larger row groups"
        )


@without_pandas()
def is_readable(path: Path) -> bool:
    """Whether every page of the file can be read; reads all of it.

    A page that decodes to other values than were written passes, also where it carries a checksum: DuckDB does not
    compare that, and the TLC's files have none.

    Raises:
        duckdb.Error: it cannot be told, for want of memory, say.
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
    """Check that `path` is a whole Parquet file: the magic bytes at both ends, and a footer that DuckDB can read.

    Raises:
        DownloadError: it is something else (an error page, say); the message shows how it begins.
        LayoutError: its footer is too large; see `read_footer`.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(120)
        file.seek(max(0, size - len(MAGIC)))
        tail = file.read()
    if head[:4] != MAGIC or tail != MAGIC or size <= 2 * len(MAGIC):
        raise DownloadError(
            f"{path.name}: expected a Parquet file ({MAGIC!r} at both ends), found {size:,} bytes "
            f"beginning {head[:60]!r} and ending {tail!r}; is the server answering with an error page?"
        )
    try:
        with duckdb.connect() as con:
            read_footer(con, path)
    except NOT_THE_FILES_FAULT:
        raise
    except duckdb.Error as error:
        raise DownloadError(f"{path.name}: expected a Parquet file, but its footer cannot be read: {error}") from error
