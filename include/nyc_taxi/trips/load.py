"""Load a month's file into its fleet's table: the month is replaced as a whole, or not at all."""

import contextlib
import errno
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb

from include.nyc_taxi import catalogue, warehouse
from include.nyc_taxi.audit import engine, report, rules
from include.nyc_taxi.audit.engine import Audit, Check
from include.nyc_taxi.errors import DamagedFileError, LoadError, QualityError, UnloadableFileError
from include.nyc_taxi.months import first_day
from include.nyc_taxi.reports import by_week
from include.nyc_taxi.source.download import Edition, forget_edition, read_edition
from include.nyc_taxi.source.parquet import NOT_THE_FILES_FAULT, Footer, is_readable, read_footer
from include.nyc_taxi.trips import row_mapping
from include.nyc_taxi.urls import without_login

log = logging.getLogger(__name__)


Changes = dict[str, tuple[int | str | None, int | str | None]]
"""What one edition of a month has changed against another: name to (old, new)."""


@dataclass(frozen=True)
class Load:
    """What a load did.

    Attributes:
        rows_in_file: rows as the file's footer says.
        rows_loaded: rows inserted; equal to `rows_in_file`, or the load would have failed.
        bytes: the file's size.
        etag, last_modified: the edition loaded.
        quality: numbers of odd rows by kind (see `quality.Audit.counts`).
        checks: what each rule found.
        changes: what is different from the edition loaded before, name to (old, new); None for a month's first.
        unknown_columns: columns of the file that the catalogue does not know and that were left out.
        simulated: whether the file says that its trips are made up.
        weeks: Mondays of weeks that had been counted before, and that the month has trips in: counted again.
    """

    rows_in_file: int
    rows_loaded: int
    bytes: int
    etag: str | None
    last_modified: str | None
    quality: dict[str, int]
    checks: tuple[Check, ...]
    changes: Changes | None
    unknown_columns: tuple[str, ...]
    simulated: bool
    weeks: tuple[date, ...]


def load_month(
    con: duckdb.DuckDBPyConnection, fleet_name: str, month: str, path: Path, run_id: str, *, accept: bool = False
) -> Load:
    """Replace a month of a fleet by the rows of the file at `path`, audit them, and record it in `loads`.

    All of it is one transaction: whatever is raised, the warehouse stays as it was.
    Rows are kept as published, also those that cannot be true; `loads.quality` counts them and `quality_checks` judges.
    Weeks that `trips_by_week` has already are counted again where the month has, or had, trips in them.

    Args:
        accept: somebody has looked at the file and wants it published, though it breaks rules that can be accepted.

    Raises:
        DamagedFileError: the file cannot be read. Its edition is forgotten, so that `download` fetches it anew.
        UnloadableFileError: the file has no rows, or the table cannot hold its values.
        LoadError: the file is missing, or a disk is full.
        QualityError: a rule of severity ERROR is broken.
        LayoutError: the file's columns are not this fleet's.
        ZonesError: the file has coordinates, and there are no zones to look them up in.
    """
    fleet = catalogue.fleet(fleet_name)
    footer = _footer(con, path)
    match = catalogue.match_columns(fleet_name, footer.columns, path.name)
    if footer.rows == 0:
        raise UnloadableFileError(
            f"{path.name}: expected trips, found a file without rows; {month} stays as it was. When the TLC has "
            "published the month again, clear the task `download` of this run"
        )
    start = first_day(month)
    edition = read_edition(path) or Edition(url=str(path), etag=None, last_modified=None, bytes=path.stat().st_size)

    def audit(rows: str) -> Audit:
        with _named(path, fleet.table):
            in_file = row_mapping.count_lost(con, match, footer, path, rows)
        found = engine.audit(con, fleet, month, rows, in_file)
        if refused := found.errors(accepted=accept):
            raise QualityError(
                f"{path.name}: not published, {month} stays as it was: {_sentences(refused)}. "
                f"{_how_to_accept(fleet_name, month, refused)}",
                found.checks,
            )
        return found

    def publish(incoming: warehouse.Incoming, audited: Audit | None) -> Load:
        counted = by_week.counted_weeks(con, fleet_name).keys()
        touched = by_week.weeks_in_month_file(con, fleet_name, start) if counted else set()
        with _named(path, fleet.table):
            rows = incoming.put()
        done = audited or audit(rows)
        if done.warnings:
            accepted = ", accepted by hand" if done.errors() else ""
            log.warning("%s: published%s, but %s", path.name, accepted, _sentences(done.warnings))
        report.record(con, fleet_name, month, done.checks, run_id, published=True)
        if counted:
            touched |= by_week.weeks_in_month_file(con, fleet_name, start)
            by_week.replace_weeks(con, fleet_name, sorted(touched & counted))
        # The rules have made sure that as many rows are there as the footer says.
        changes = _record(con, fleet_name, start, edition, footer, footer.rows, done.counts, match.unknown, run_id)
        return Load(
            rows_in_file=footer.rows,
            rows_loaded=footer.rows,
            bytes=edition.bytes,
            etag=edition.etag,
            last_modified=edition.last_modified,
            quality=done.counts,
            checks=done.checks,
            changes=changes,
            unknown_columns=match.unknown,
            simulated=footer.simulated,
            weeks=tuple(sorted(touched & counted)),
        )

    with _full_disk_explained(path), contextlib.ExitStack() as stack:
        warehouse.write(con, lambda: warehouse.ensure_tables(con))
        with _named(path, fleet.table):
            query, bound = row_mapping.select(con, match, footer, start, path)
            incoming = stack.enter_context(warehouse.incoming(con, fleet.table, start, query, bound))
        audited = audit(incoming.staged) if incoming.staged else None
        return warehouse.write(con, lambda: publish(incoming, audited))


_OF_THE_VALUES = (duckdb.DataError, duckdb.IntegrityError, duckdb.ProgrammingError, duckdb.NotSupportedError)
"""What DuckDB raises over what it is given to do; the rest is about the machine, or the moment."""


@contextlib.contextmanager
def _named(path: Path, table: str) -> Iterator[None]:
    """Say which file it is that cannot be read or does not fit."""
    try:
        yield
    except duckdb.TransactionException:
        raise  # of a lake: another writer was faster
    except duckdb.Error as error:
        if _is_disk_full(error):
            raise
        if not isinstance(error, NOT_THE_FILES_FAULT) and not is_readable(path):
            raise _damaged(path, f"cannot be read to its end, rolled back: {error}") from error
        kind = UnloadableFileError if isinstance(error, _OF_THE_VALUES) else LoadError
        raise kind(f"{path.name}: cannot be loaded into {table}, rolled back: {error}") from error


@contextlib.contextmanager
def _full_disk_explained(path: Path) -> Iterator[None]:
    """Say what to do where a disk is full, wherever in a load that was."""
    try:
        yield
    except (duckdb.Error, OSError) as error:
        if not _is_disk_full(error):
            raise
        said = str(error).splitlines()[0]
        raise LoadError(
            f"{path.name}: no space left while loading it, rolled back: {said}. Free some space, or move the warehouse "
            "(NYC_TAXI_DATA_DIR, or the connection `warehouse`) to a larger disk, then clear this task"
        ) from error


def _is_disk_full(error: BaseException) -> bool:
    """Whether a write failed for want of space: of the warehouse, or of what DuckDB spills to disk."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    text = str(error).lower()
    return any(words in text for words in ("no space left", "disk quota exceeded", "max_temp_directory_size"))


def _damaged(path: Path, what: str) -> DamagedFileError:
    """Forget which edition the file is: the server would say "not modified" of it for ever."""
    forget_edition(path)
    return DamagedFileError(f"{path.name}: {what}. Clear the task `download` of this run: it fetches the file anew")


def _how_to_accept(fleet_name: str, month: str, refused: Sequence[Check]) -> str:
    look = "Is it a file of another fleet, month or source?"
    if any(check.rule not in rules.ACCEPTABLE for check in refused):
        return f"{look} The rule has no exception: clear the task `download` of this run to fetch the file anew"
    conf = json.dumps({"month": month, "accept": True})
    return (
        f"{look} If the TLC's own file is so, load it all the same: trigger taxi_trips_{fleet_name} with "
        f"\"Accept this edition\" in the form, or `airflow dags trigger taxi_trips_{fleet_name} --conf '{conf}'`"
    )


def record_refusal(
    con: duckdb.DuckDBPyConnection, fleet_name: str, month: str, error: QualityError, run_id: str
) -> None:
    """Record why a month was not published, beside the checks of the one that is kept. It is one transaction."""

    def record() -> None:
        warehouse.ensure_tables(con)
        report.record(con, fleet_name, month, error.checks, run_id, published=False)

    warehouse.write(con, record)


def _sentences(checks: Sequence[Check]) -> str:
    return "; ".join(
        f"{check.detail} ({check.rule}: at most {check.limit:g}, found {check.value:.4g})" for check in checks
    )


def _footer(con: duckdb.DuckDBPyConnection, path: Path) -> Footer:
    if not path.exists():
        raise LoadError(f"{path}: the file is not there; clear the task `download` of this run to fetch it again")
    try:
        return read_footer(con, path)
    except NOT_THE_FILES_FAULT:
        raise
    except duckdb.Error as error:
        raise _damaged(path, f"expected a Parquet file, found something else: {error}") from error


def _record(
    con: duckdb.DuckDBPyConnection,
    fleet_name: str,
    start: date,
    edition: Edition,
    footer: Footer,
    rows_loaded: int,
    counts: dict[str, int],
    unknown_columns: tuple[str, ...],
    run_id: str,
) -> Changes | None:
    """Write the month's row in `loads`. Loading an edition again replaces its row; other editions' rows stay.

    Returns:
        What the edition changed against the one loaded before it; None where there is none.
    """
    same = "bytes = $bytes AND etag IS NOT DISTINCT FROM $etag AND last_modified IS NOT DISTINCT FROM $last_modified"
    of_month = {"fleet": fleet_name, "month": start}
    its_own = {"bytes": edition.bytes, "etag": edition.etag, "last_modified": edition.last_modified}
    before = con.execute(
        "SELECT rows_loaded, bytes, last_modified, etag FROM loads "
        f"WHERE fleet = $fleet AND partition_month = $month AND NOT ({same}) ORDER BY loaded_at DESC LIMIT 1",
        of_month | its_own,
    ).fetchone()
    now = (rows_loaded, edition.bytes, edition.last_modified, edition.etag)
    changes: Changes | None = None
    if before:
        pairs = zip(("rows", "bytes", "last_modified", "etag"), before, now, strict=True)
        changes = {name: (old, new) for name, old, new in pairs if old != new}
    con.execute(f"DELETE FROM loads WHERE fleet = $fleet AND partition_month = $month AND {same}", of_month | its_own)
    _forget_logins(con)
    con.execute(
        "INSERT INTO loads (fleet, partition_month, source_url, etag, last_modified, bytes, rows_in_file, rows_loaded, "
        "quality, loaded_at, run_id, changes, unknown_columns, simulated) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            fleet_name,
            start,
            edition.url,
            edition.etag,
            edition.last_modified,
            edition.bytes,
            footer.rows,
            rows_loaded,
            json.dumps(counts),
            datetime.now(UTC).replace(tzinfo=None),
            run_id,
            json.dumps(changes) if changes is not None else None,
            json.dumps(unknown_columns),
            footer.simulated,
        ],
    )
    return changes


def _forget_logins(con: duckdb.DuckDBPyConnection) -> None:
    """Take the site's login out of the addresses that an older version has recorded."""
    for (url,) in con.execute("SELECT DISTINCT source_url FROM loads WHERE contains(source_url, '@')").fetchall():
        if without_login(url) != url:
            con.execute("UPDATE loads SET source_url = ? WHERE source_url = ?", [without_login(url), url])
