"""Load a month's file into its fleet's table. The month is replaced as a whole, or not at all."""

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
"""The differences between two editions of a month: name to (old, new)."""


@dataclass(frozen=True)
class Load:
    """The result of a load.

    Attributes:
        rows_in_file: number of rows according to the file's footer.
        rows_loaded: number of inserted rows; equal to `rows_in_file`, because otherwise the load fails.
        bytes: the file's size.
        etag, last_modified: the loaded edition.
        quality: numbers of implausible rows by kind (see `Audit.counts`).
        checks: the result of each rule.
        changes: differences from the edition loaded before; None for a month's first edition.
        unknown_columns: columns of the file that the catalogue does not know, and that were not loaded.
        simulated: whether the file says that its trips are simulated.
        weeks: Mondays of the weeks that were counted again, because the month has or had trips in them.
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
    """A month's file, and the facts about it that are known before its rows are read."""

    path: Path
    fleet: catalogue.Fleet
    month: Month
    edition: Edition
    footer: Footer
    match: catalogue.Match


def load_month(
    con: duckdb.DuckDBPyConnection, fleet_name: str, month: Month, path: Path, run_id: str, *, accept: bool = False
) -> Load:
    """Replace a month of a fleet by the rows of the file at `path`: stage, audit, publish and record them.

    The month is replaced in one transaction, and any error leaves the old month unchanged. If the audit refuses the
    file, its checks are recorded in `quality_checks` beside those of the loaded month.
    All rows are loaded as published, including impossible ones, which `loads.quality` counts and `quality_checks`
    judges. Weeks in `trips_by_week` are counted again if the month has or had trips in them.

    Args:
        run_id: the Airflow run, which is recorded.
        accept: publish the file although it breaks rules that can be accepted, because somebody has looked at it.

    Raises:
        DamagedFileError: the file cannot be read. Its edition is forgotten, so that `download` fetches it again.
        UnloadableFileError: the file has no rows, or the table cannot hold its values.
        LoadError: the file is missing, or a disk is full.
        QualityError: the file breaks a rule of severity ERROR.
        LayoutError: the file's columns do not match the fleet's layouts.
        ZonesError: the file has coordinates, but the warehouse has no zones to find them in.
    """
    fleet = catalogue.fleet(fleet_name)

    def old_weeks() -> set[date]:
        return by_week.weeks_with_trips(con, fleet, month) if by_week.counted_weeks(con, fleet_name) else set()

    try:
        with _explaining_full_disks(path):
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
    """Read the file's footer, and match its columns with the catalogue's."""
    if not path.exists():
        raise LoadError(f"{path}: the file is missing; clear the task `download` of this run to download it again")
    try:
        footer = read_footer(con, path)
    except NOT_THE_FILES_FAULT:
        raise
    except duckdb.Error as error:
        raise _damaged(path, f"expected a Parquet file, found a file that is not one: {error}") from error
    match = catalogue.match_columns(fleet.name, footer.columns, path.name)
    if footer.rows == 0:
        raise UnloadableFileError(
            f"{path.name}: expected trips, found a file without rows; {month} stays as it was. Clear the task "
            "`download` of this run when the TLC has republished the month"
        )
    edition = read_edition(path) or Edition(url=str(path), etag=None, last_modified=None, bytes=path.stat().st_size)
    return _File(path, fleet, month, edition, footer, match)


def _stage(con: duckdb.DuckDBPyConnection, file: _File, replacement: warehouse.Replacement[set[date]]) -> None:
    """Write the file's rows where only this load can see them."""
    with _naming_the_file(file.path, file.fleet.table):
        replacement.stage(*row_mapping.select(con, file.match, file.footer, file.month, file.path))


def _audit(con: duckdb.DuckDBPyConnection, file: _File, rows: str, *, accept: bool) -> Audit:
    """Apply the rules to the staged rows; raise QualityError if the month must not be published."""
    with _naming_the_file(file.path, file.fleet.table):
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
    """Record the load and its audit, and recount the weeks in which the month has or had trips."""
    fleet, month = file.fleet, file.month
    report.record(con, fleet.name, month, audit.checks, run_id, published=True)
    weeks: list[date] = []
    if counted := by_week.counted_weeks(con, fleet.name).keys():
        weeks = sorted(counted & (old_weeks | by_week.weeks_with_trips(con, fleet, month)))
        by_week.replace_weeks(con, fleet.name, weeks)
    return Load(
        rows_in_file=file.footer.rows,
        rows_loaded=file.footer.rows,  # a rule has verified that
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


_CAUSED_BY_VALUES = (duckdb.DataError, duckdb.IntegrityError, duckdb.ProgrammingError, duckdb.NotSupportedError)
"""DuckDB's errors about statements and values. Its other errors are about the machine, and may be temporary."""


@contextlib.contextmanager
def _naming_the_file(path: Path, table: str) -> Iterator[None]:
    """Turn DuckDB's errors into errors that name the file that cannot be read or loaded."""
    try:
        yield
    except duckdb.TransactionException:
        raise  # another writer of a lake has committed first, so the transaction will be repeated
    except duckdb.Error as error:
        if _is_disk_full(error):
            raise
        if not isinstance(error, NOT_THE_FILES_FAULT) and not is_readable(path):
            raise _damaged(path, f"cannot be read to its end, rolled back: {error}") from error
        kind = UnloadableFileError if isinstance(error, _CAUSED_BY_VALUES) else LoadError
        raise kind(f"{path.name}: cannot be loaded into {table}, rolled back: {error}") from error


@contextlib.contextmanager
def _explaining_full_disks(path: Path) -> Iterator[None]:
    """Turn an error about a full disk, from any step of a load, into an error that says what to do."""
    try:
        yield
    except (duckdb.Error, OSError) as error:
        if not _is_disk_full(error):
            raise
        first_line = str(error).splitlines()[0]
        raise LoadError(
            f"{path.name}: no space left while loading it, rolled back: {first_line}. Free some space, or move the "
            "warehouse (NYC_TAXI_DATA_DIR, or the connection `warehouse`) to a larger disk, then clear this task"
        ) from error


def _is_disk_full(error: BaseException) -> bool:
    """Whether a write to the warehouse, or to DuckDB's temporary files, failed because a disk is full."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    text = str(error).lower()
    return any(words in text for words in ("no space left", "disk quota exceeded", "max_temp_directory_size"))


def _damaged(path: Path, problem: str) -> DamagedFileError:
    """The error for a damaged file. Its edition is forgotten: otherwise the site would always answer "not modified"."""
    forget_edition(path)
    return DamagedFileError(
        f"{path.name}: {problem}. Clear the task `download` of this run, which then downloads the file again"
    )


def _how_to_accept(fleet_name: str, month: Month, refused: Sequence[Check]) -> str:
    hint = "Does the file belong to another fleet, month or source?"
    if any(check.rule not in rules.ACCEPTABLE for check in refused):
        return f"{hint} The rule has no exceptions: clear the task `download` of this run to download the file again"
    conf = json.dumps({"month": month, "accept": True})
    return (
        f"{hint} If it is the TLC's own file, you can load it anyway: trigger taxi_trips_{fleet_name} with "
        f"\"Accept this edition\" in the form, or `airflow dags trigger taxi_trips_{fleet_name} --conf '{conf}'`"
    )


def _record_refusal(
    con: duckdb.DuckDBPyConnection, fleet: catalogue.Fleet, month: Month, refusal: QualityError, run_id: str
) -> None:
    """Record in one transaction why a month was refused, beside the checks of the loaded month."""

    def record() -> None:
        warehouse.ensure_tables(con)
        report.record(con, fleet.name, month, refusal.checks, run_id, published=False)

    warehouse.write(con, record)


def _sentences(checks: Sequence[Check]) -> str:
    return "; ".join(
        f"{check.detail} ({check.rule}: at most {check.limit:g}, found {check.value:.4g})" for check in checks
    )


def _record_load(con: duckdb.DuckDBPyConnection, file: _File, counts: dict[str, int], run_id: str) -> Changes | None:
    """Write the month's row in `loads`. Loading an edition again replaces its row; the rows of other editions stay.

    Returns:
        The differences from the edition that was loaded before; None if there is none.
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
    """Remove the site's login from the URLs that an older version has recorded."""
    for (url,) in con.execute("SELECT DISTINCT source_url FROM loads WHERE contains(source_url, '@')").fetchall():
        if without_login(url) != url:
            con.execute("UPDATE loads SET source_url = ? WHERE source_url = ?", [without_login(url), url])
