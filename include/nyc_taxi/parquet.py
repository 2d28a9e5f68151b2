"""Look into a Parquet file without reading its rows."""

from dataclasses import dataclass
from pathlib import Path

import duckdb

from include.nyc_taxi.errors import DownloadError
from include.nyc_taxi.late import pandas_kept_out

MAGIC = b"PAR1"


@dataclass(frozen=True)
class Footer:
    """What a Parquet file's footer says: its number of rows and the names of its columns, in order."""

    rows: int
    columns: tuple[str, ...]


def read_footer(con: duckdb.DuckDBPyConnection, path: Path) -> Footer:
    """Read a file's footer, and nothing else of it.

    Raises:
        duckdb.Error: the file is not there, or no Parquet file.
    """
    (rows,) = con.execute("SELECT num_rows FROM parquet_file_metadata(?)", [str(path)]).fetchone() or (0,)
    # DESCRIBE binds the file's schema as a query would see it; parquet_schema() lists nested nodes too.
    described = con.execute("SELECT column_name FROM (DESCRIBE SELECT * FROM read_parquet(?))", [str(path)])
    return Footer(rows=rows, columns=tuple(name for (name,) in described.fetchall()))


@pandas_kept_out()
def verify_parquet(path: Path) -> None:
    """Check that `path` is a whole Parquet file: the magic bytes at both ends, and a footer that DuckDB can read.

    Raises:
        DownloadError: it is something else (an error page, say); the message shows how it begins.
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
    except duckdb.Error as error:
        raise DownloadError(f"{path.name}: expected a Parquet file, but its footer cannot be read: {error}") from error
