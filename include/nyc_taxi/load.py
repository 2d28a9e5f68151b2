"""Load a month's file into its fleet's table: the month is replaced as a whole, or not at all."""

import json
import logging
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb

from include.nyc_taxi import quality, tlc, warehouse, weeks
from include.nyc_taxi.download import Edition, read_edition
from include.nyc_taxi.errors import LoadError
from include.nyc_taxi.late import pandas_kept_out
from include.nyc_taxi.months import first_day, month_of, next_first_day
from include.nyc_taxi.parquet import Footer, read_footer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Load:
    """What a load did.

    Attributes:
        rows_in_file: rows as the file's footer says.
        rows_loaded: rows inserted; equal to `rows_in_file`, or the load would have failed.
        bytes: the file's size.
        etag, last_modified: the edition loaded.
        quality: numbers of odd rows by kind (see `quality.COUNTS`).
        unknown_columns: columns of the file that the catalogue does not know and that were left out.
        weeks: Mondays of weeks that had been counted before, and that the month has trips in: counted again.
    """

    rows_in_file: int
    rows_loaded: int
    bytes: int
    etag: str | None
    last_modified: str | None
    quality: dict[str, int]
    unknown_columns: tuple[str, ...]
    weeks: tuple[date, ...]


@pandas_kept_out()
def load_month(con: duckdb.DuckDBPyConnection, fleet_name: str, month: str, path: Path, run_id: str) -> Load:
    """Replace a month of a fleet by the rows of the file at `path`, and record it in `loads`.

    Call it inside a transaction: whatever it raises must roll back, so that the warehouse stays as it was.
    Rows are kept as published, also those whose pickup lies outside the month; `loads.quality` counts them.
    Weeks that `trips_by_week` has already are counted again where the month has, or had, trips in them.

    Raises:
        LoadError: the file is missing or no Parquet file, a value does not fit its column's type, the file is empty,
            not all rows arrived, or a zone id is not one of the TLC's.
        LayoutError: the file's columns are not this fleet's.
    """
    fleet = tlc.fleet(fleet_name)
    footer = _footer(con, path)
    match = tlc.match_columns(fleet_name, footer.columns, path.name)
    if match.unknown:
        log.warning(
            "%s: columns not known yet are left out: %s; to load them, add them to include/nyc_taxi/tlc.py",
            path.name,
            ", ".join(match.unknown),
        )
    if footer.rows == 0:
        raise LoadError(f"{path.name}: expected trips, found a file without rows; {month} stays as it was")

    warehouse.ensure_tables(con)
    start, end = first_day(month), next_first_day(month)
    counted = weeks.counted_weeks(con, fleet_name).keys()
    touched = weeks.weeks_in_month_file(con, fleet_name, start) if counted else set()
    con.execute(f"DELETE FROM {fleet.table} WHERE partition_month = ?", [start])
    rows = _insert(con, fleet, match, start, path)
    if rows != footer.rows:
        raise LoadError(f"{path.name}: expected {footer.rows:,} rows (footer), inserted {rows:,}; rolled back")
    found = quality.profile(con, fleet, start, end)
    if found.unknown_zones:
        raise LoadError(
            f"{path.name}: {found.unknown_zones:,} rows have a zone id outside 1 to {tlc.ZONES}; rolled back. "
            "Is it a trip file of another source, or has the TLC added zones?"
        )
    if counted:
        touched |= weeks.weeks_in_month_file(con, fleet_name, start)
        weeks.replace_weeks(con, fleet_name, sorted(touched & counted))
    edition = read_edition(path) or Edition(url=str(path), etag=None, last_modified=None, bytes=path.stat().st_size)
    _record(con, fleet_name, start, edition, footer.rows, rows, found.counts, run_id)
    return Load(
        rows_in_file=footer.rows,
        rows_loaded=rows,
        bytes=edition.bytes,
        etag=edition.etag,
        last_modified=edition.last_modified,
        quality=found.counts,
        unknown_columns=match.unknown,
        weeks=tuple(sorted(touched & counted)),
    )


@dataclass(frozen=True)
class LoadedMonth:
    """The latest load of a month, as recorded in `loads`.

    Attributes:
        source_url, etag, last_modified, bytes: the edition loaded, as in `download.Edition`.
        loaded_at: when (UTC).
        run_id: the run that loaded it.
    """

    rows_in_file: int
    rows_loaded: int
    source_url: str
    etag: str | None
    last_modified: str | None
    bytes: int
    loaded_at: datetime
    run_id: str

    @property
    def edition(self) -> Edition:
        return Edition(self.source_url, self.etag, self.last_modified, self.bytes)


@pandas_kept_out()
def loaded_months(con: duckdb.DuckDBPyConnection, fleet_name: str) -> dict[str, LoadedMonth]:
    """What is loaded of a fleet, by month: each month's latest load."""
    warehouse.ensure_tables(con)
    rows = con.execute(
        "SELECT partition_month, rows_in_file, rows_loaded, source_url, etag, last_modified, bytes, loaded_at, run_id "
        "FROM loads WHERE fleet = ? "
        "QUALIFY row_number() OVER (PARTITION BY partition_month ORDER BY loaded_at DESC) = 1 ORDER BY partition_month",
        [fleet_name],
    ).fetchall()
    return {
        month_of(start): LoadedMonth(*[*facts, loaded_at.replace(tzinfo=UTC), run_id])
        for start, *facts, loaded_at, run_id in rows
    }


def _footer(con: duckdb.DuckDBPyConnection, path: Path) -> Footer:
    if not path.exists():
        raise LoadError(f"{path}: the file is not there; clear the task `download` of this run to fetch it again")
    try:
        return read_footer(con, path)
    except duckdb.Error as error:
        raise LoadError(
            f"{path}: expected a Parquet file, found something else: {error}. "
            "Remove it and clear the task `download` of this run"
        ) from error


def _insert(con: duckdb.DuckDBPyConnection, fleet: tlc.Fleet, match: tlc.Match, start: date, path: Path) -> int:
    """Insert the file's rows, each column cast to ours; returns how many."""
    # The file's spelling of a name is quoted; that it is one of the catalogue's was checked by match_columns.
    casts = [
        f'CAST("{published}" AS {column.type}) AS {column.name}'
        if published
        else f"CAST(NULL AS {column.type}) AS {column.name}"
        for column, published in match.columns
    ]
    try:
        inserted = con.execute(
            f"INSERT INTO {fleet.table} BY NAME "
            f"SELECT {', '.join(casts)}, CAST($month AS DATE) AS partition_month FROM read_parquet($path)",
            {"month": start, "path": str(path)},
        ).fetchone()
    except duckdb.Error as error:
        raise LoadError(f"{path.name}: cannot be loaded into {fleet.table}, rolled back: {error}") from error
    return int(inserted[0]) if inserted else 0


def _record(
    con: duckdb.DuckDBPyConnection,
    fleet_name: str,
    start: date,
    edition: Edition,
    rows_in_file: int,
    rows_loaded: int,
    counts: dict[str, int],
    run_id: str,
) -> None:
    """Write the month's row in `loads`. Loading an edition again replaces its row; other editions' rows stay."""
    con.execute(
        "DELETE FROM loads WHERE fleet = ? AND partition_month = ? AND bytes = ? "
        "AND etag IS NOT DISTINCT FROM ? AND last_modified IS NOT DISTINCT FROM ?",
        [fleet_name, start, edition.bytes, edition.etag, edition.last_modified],
    )
    con.execute(
        "INSERT INTO loads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            fleet_name,
            start,
            edition.url,
            edition.etag,
            edition.last_modified,
            edition.bytes,
            rows_in_file,
            rows_loaded,
            json.dumps(counts),
            datetime.now(UTC).replace(tzinfo=None),
            run_id,
        ],
    )
