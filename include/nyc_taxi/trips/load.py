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
from include.nyc_taxi.audit.engine import Audit, Check, QualityError
from include.nyc_taxi.errors import DamagedFileError, LoadError, UnloadableFileError
from include.nyc_taxi.months import Month
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


@dataclass(frozen=True)
class _File:
    """A month's file, and what is known about it before its rows are read."""

    path: Path
    fleet: catalogue.Fleet
    month: Month
    edition: Edition
    footer: Footer
    match: catalogue.Match


def load_month(
    con: duckdb.DuckDBPyConnection, fleet_name: str, month: Month, path: Path, run_id: str, *, accept: bool = False
) -> Load:
    """Replace a month of a fleet by the rows of the file at `path`: stage them, audit them, publish and record them.

    All of it is one transaction: whatever is raised, the month stays as it was. If the audit refuses the file, the
    reasons are recorded in `quality_checks` beside those of the month that stays.
    Rows are kept as published, also those that cannot be true; `loads.quality` counts them and `quality_checks` judges.
    Weeks that `trips_by_week` already has are counted again if the month has, or had, trips in them.

    Args:
        accept: somebody has looked at the file and wants it published, though it breaks rules that can be accepted.

    Raises:
        DamagedFileError: the file cannot be read. Its edition is forgotten, so that `download` fetches it again.
        UnloadableFileError: the file has no rows, or the table cannot hold its values.
        LoadError: the file is missing, or a disk is full.
        QualityError: a rule of severity ERROR is broken.
        LayoutError: the file's columns are not this fleet's.
        ZonesError: the file has coordinates, and there are no zones to look them up in.
    """
    fleet = catalogue.fleet(fleet_name)

    def old_weeks() -> set[date]:
        return by_week.weeks_with_trips(con, fleet, month) if by_week.counted_weeks(con, fleet_name) else set()

    try:
        with _full_disk_explained(path):
            file = _open(con, fleet, month, path)
            warehouse.write(con, lambda: warehouse.ensure_tables(con))
            with warehouse.replacement(con, fleet.table, month, old_weeks) as replacement:
                _stage(con, file, replacement)
                audit = _audit(con, file, replacement.rows, accept=accept)
                done = replacement.publish(lambda weeks: _record(con, file, audit, weeks, run_id))
    except QualityError as refusal:
        _record_refusal(con, fleet, month, refusal, run_id)
        raise
    if audit.warnings:
        accepted = ", accepted by hand" if audit.errors() else ""
        log.warning("%s: published%s, but %s", path.name, accepted, _sentences(audit.warnings))
    return done


def _open(con: duckdb.DuckDBPyConnection, fleet: catalogue.Fleet, month: Month, path: Path) -> _File:
    """Read the file's footer and find out which of its columns are ours."""
    if not path.exists():
        raise LoadError(f"{path}: the file is not there; clear the task `download` of this run to fetch it again")
    try:
        footer = read_footer(con, path)
    except NOT_THE_FILES_FAULT:
        raise
    except duckdb.Error as error:
        raise _damaged(path, f"expected a Parquet file, found something else: {error}") from error
    match = catalogue.match_columns(fleet.name, footer.columns, path.name)
    if footer.rows == 0:
        raise UnloadableFileError(
            f"{path.name}: expected trips, found a file without rows; {month} stays as it was. When the TLC has "
            "published the month again, clear the task `download` of this run"
        )
    edition = read_edition(path) or Edition(url=str(path), etag=None, last_modified=None, bytes=path.stat().st_size)
    return _File(path, fleet, month, edition, footer, match)


def _stage(con: duckdb.DuckDBPyConnection, file: _File, replacement: warehouse.Replacement[set[date]]) -> None:
    """Write the file's rows to where only this load sees them."""
    with _named(file.path, file.fleet.table):
        replacement.stage(*row_mapping.select(con, file.match, file.footer, file.month, file.path))


def _audit(con: duckdb.DuckDBPyConnection, file: _File, rows: str, *, accept: bool) -> Audit:
    """Apply the rules to the staged rows; raise QualityError if the month must not be published."""
    with _named(file.path, file.fleet.table):
        in_file = row_mapping.count_lost(con, file.match, file.footer, file.path, rows)
    audit = engine.audit(con, file.fleet, file.month, rows, in_file)
    if refused := audit.errors(accepted=accept):
        raise QualityError(
            f"{file.path.name}: not published, {file.month} stays as it was: {_sentences(refused)}. "
            f"{_how_to_accept(file.fleet.name, file.month, refused)}",
            audit.checks,
        )
    return audit


def _record(con: duckdb.DuckDBPyConnection, file: _File, audit: Audit, old_weeks: set[date], run_id: str) -> Load:
    """Record the load and its audit, and count the weeks again that the month had, or has, trips in."""
    fleet, month = file.fleet, file.month
    report.record(con, fleet.name, month, audit.checks, run_id, published=True)
    weeks: list[date] = []
    if counted := by_week.counted_weeks(con, fleet.name).keys():
        weeks = sorted(counted & (old_weeks | by_week.weeks_with_trips(con, fleet, month)))
        by_week.replace_weeks(con, fleet.name, weeks)
    return Load(
        rows_in_file=file.footer.rows,
        rows_loaded=file.footer.rows,  # the rules have made sure of that
        bytes=file.edition.bytes,
        etag=file.edition.etag,
        last_modified=file.edition.last_modified,
        quality=audit.counts,
        checks=audit.checks,
        changes=_record_load(con, file, audit.counts, run_id),
        unknown_columns=file.match.unknown,
        simulated=file.footer.simulated,
        weeks=tuple(weeks),
    )


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


def _how_to_accept(fleet_name: str, month: Month, refused: Sequence[Check]) -> str:
    look = "Is it a file of another fleet, month or source?"
    if any(check.rule not in rules.ACCEPTABLE for check in refused):
        return f"{look} The rule has no exception: clear the task `download` of this run to fetch the file anew"
    conf = json.dumps({"month": month, "accept": True})
    return (
        f"{look} If the TLC's own file is so, load it all the same: trigger taxi_trips_{fleet_name} with "
        f"\"Accept this edition\" in the form, or `airflow dags trigger taxi_trips_{fleet_name} --conf '{conf}'`"
    )


def _record_refusal(
    con: duckdb.DuckDBPyConnection, fleet: catalogue.Fleet, month: Month, refusal: QualityError, run_id: str
) -> None:
    """Record why a month was not published, beside the checks of the one that stays, in one transaction."""

    def record() -> None:
        warehouse.ensure_tables(con)
        report.record(con, fleet.name, month, refusal.checks, run_id, published=False)

    warehouse.write(con, record)


def _sentences(checks: Sequence[Check]) -> str:
    return "; ".join(
        f"{check.detail} ({check.rule}: at most {check.limit:g}, found {check.value:.4g})" for check in checks
    )


def _record_load(con: duckdb.DuckDBPyConnection, file: _File, counts: dict[str, int], run_id: str) -> Changes | None:
    """Write the month's row in `loads`. Loading an edition again replaces its row; other editions' rows stay.

    Returns:
        What has changed from the edition that was loaded before; None if there is none.
    """
    edition, footer, start = file.edition, file.footer, file.month.first_day
    same = "bytes = $bytes AND etag IS NOT DISTINCT FROM $etag AND last_modified IS NOT DISTINCT FROM $last_modified"
    of_month = {"fleet": file.fleet.name, "month": start}
    its_own = {"bytes": edition.bytes, "etag": edition.etag, "last_modified": edition.last_modified}
    before = con.execute(
        "SELECT rows_loaded, bytes, last_modified, etag FROM loads "
        f"WHERE fleet = $fleet AND partition_month = $month AND NOT ({same}) ORDER BY loaded_at DESC LIMIT 1",
        of_month | its_own,
    ).fetchone()
    now = (footer.rows, edition.bytes, edition.last_modified, edition.etag)
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
            file.fleet.name,
            start,
            edition.url,
            edition.etag,
            edition.last_modified,
            edition.bytes,
            footer.rows,
            footer.rows,
            json.dumps(counts),
            datetime.now(UTC).replace(tzinfo=None),
            run_id,
            json.dumps(changes) if changes is not None else None,
            json.dumps(file.match.unknown),
            footer.simulated,
        ],
    )
    return changes


def _forget_logins(con: duckdb.DuckDBPyConnection) -> None:
    """Take the site's login out of the addresses that an older version has recorded."""
    for (url,) in con.execute("SELECT DISTINCT source_url FROM loads WHERE contains(source_url, '@')").fetchall():
        if without_login(url) != url:
            con.execute("UPDATE loads SET source_url = ? WHERE source_url = ?", [without_login(url), url])
