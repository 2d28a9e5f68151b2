"""The state of each month of a fleet: whether it is published, downloaded and loaded, and whether its run failed."""

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from include.nyc_taxi import catalogue, settings
from include.nyc_taxi.months import Month, month_range
from include.nyc_taxi.source.download import Edition, month_path, read_edition
from include.nyc_taxi.source.site import Answer
from include.nyc_taxi.trips.loaded import LoadedMonth

ACTIVE = ("queued", "running")


class State(StrEnum):
    """The state of a month. States in capitals need an operator's attention: something is not in the warehouse."""

    FRESH = "fresh"
    NEW_EDITION = "NEW EDITION"
    MISSING = "MISSING"
    FAILED = "FAILED"
    LOADED_FAILED = "loaded, last run failed"
    LOADED_CANCELLED = "loaded, last run cancelled"
    NOT_LOADED_CANCELLED = "not loaded, last run cancelled"
    RUNNING = "running"
    NOT_PUBLISHED = "not published"
    NOT_LOADED = "not loaded"


class Run(Protocol):
    """A DAG run, with the properties that matter here.

    Attributes:
        month: the run's month; None for a run without one.
        state: "queued", "running", "failed" or "success".
        started: in UTC; None while the run is queued.
        failed: the tasks that have failed for good.
        cancelled: whether somebody ended the run, or it ended with its backfill, although none of its tasks failed.
    """

    @property
    def run_id(self) -> str: ...
    @property
    def month(self) -> str | None: ...
    @property
    def state(self) -> str: ...
    @property
    def started(self) -> datetime | None: ...
    @property
    def failed(self) -> tuple[str, ...]: ...
    @property
    def cancelled(self) -> bool: ...


@dataclass(frozen=True)
class MonthStatus:
    """The status of one month of a fleet.

    Attributes:
        published: whether the TLC has published the month; None if this is unknown.
        published_on: the date of the newest edition known.
        downloaded: the size in bytes of the file in raw/; None if there is no file.
        load: the latest load; None if the month is not loaded.
        age: the time since that load.
        failed: in the states FAILED and LOADED_FAILED, the tasks that failed.
        run: the newest run that is active or has not ended well, unless a later load or run has superseded it.
    """

    fleet: str
    month: str
    published: bool | None
    published_on: date | None
    downloaded: int | None
    load: LoadedMonth | None
    age: timedelta | None
    state: State
    failed: tuple[str, ...] = ()
    run: Run | None = None

    @property
    def edition(self) -> str:
        """The loaded edition as text: the first characters of its ETag, and its date; empty if nothing is loaded."""
        if self.load is None:
            return ""
        etag = (self.load.etag or "").removeprefix("W/").strip('"')[:8]
        modified = _day(self.load.last_modified)
        return ", ".join(str(part) for part in (etag, modified) if part) or "unknown"


def months_of(
    fleet: str, first_month: Month, loaded: Iterable[str], run: Iterable[str | None], today: date
) -> list[str]:
    """The months to report: from `first_month` or an earlier loaded month, to the last month that has ended.

    Args:
        first_month: the first month of the catch-up. If the fleet begins later, the report begins with the fleet.
        loaded: the loaded months, in any order.
        run: the months of runs. Those before all other months are reported too.

    Raises:
        FleetError: there is no such fleet.
    """
    earliest = catalogue.fleet(fleet).first_month
    first = min([max(first_month, earliest), *loaded])
    last = max([Month.of(today.replace(day=1) - timedelta(days=1)), *loaded])
    earlier_runs = {month for month in run if month and earliest <= month < first}
    return sorted(earlier_runs) + (month_range(first, last) if first <= last else [])


def months_to_ask(fleet: str, months: Iterable[str], loads: Mapping[str, LoadedMonth]) -> list[str]:
    """The `months` to ask the TLC's site about, because they are neither loaded nor in raw/."""
    return [month for month in months if month not in loads and not read_edition(month_path(fleet, month))]


def fleet_status(
    fleet: str,
    months: Sequence[str],
    loads: Mapping[str, LoadedMonth],
    answers: Mapping[tuple[str, str], Answer],
    runs: Iterable[Run],
    now: datetime,
    here: Collection[str] | None = None,
) -> list[MonthStatus]:
    """Determine the status of a fleet's months.

    Args:
        loads: the latest load of each loaded month.
        answers: the site's answers about months that are not here, by fleet and month.
        runs: the runs of the fleet's DAG, ordered by their start. A successful run clears the failures before it.
        now: the current time in UTC.
        here: the names of all files in raw/ (`names_here`), if several fleets are asked about; otherwise each month's
            file is looked for.

    Returns:
        One status for each of `months`, in the same order.
    """
    unsettled = _newest_unsettled(runs, loads)
    last_loaded = max(loads, default="")
    found, folder = [], settings.raw_dir()
    for month in months:
        path = folder / catalogue.file_name(fleet, month)
        is_here = here is None or path.name in here
        size = _size(path) if is_here else None
        load, local, run = loads.get(month), None if size is None else read_edition(path), unsettled.get(month)
        answer = answers.get((fleet, month))
        published = True if load or local else (answer.published if answer else None)
        state = _state(published, load, local, run, is_before_a_load=month < last_loaded)
        editions = [edition.last_modified for edition in (load, local, answer) if edition]
        found.append(
            MonthStatus(
                fleet=fleet,
                month=month,
                published=published,
                published_on=max(filter(None, map(_day, editions)), default=None),
                downloaded=size,
                load=load,
                age=now - load.loaded_at if load else None,
                state=state,
                failed=run.failed if run and state in (State.FAILED, State.LOADED_FAILED) else (),
                run=run,
            )
        )
    return found


def names_here() -> frozenset[str]:
    """The names of the files in raw/. On a network file system, asking for each file that may be there takes a request.

    The folder has the files of all fleets: list it once, and not once for each fleet.
    """
    try:
        return frozenset(file.name for file in settings.raw_dir().iterdir())
    except FileNotFoundError:
        return frozenset()


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _newest_unsettled(runs: Iterable[Run], loads: Mapping[str, LoadedMonth]) -> dict[str, Run]:
    """By month, the newest unsuccessful or active run that no later load or run has superseded."""
    newest: dict[str, Run] = {}
    for run in runs:
        month = run.month or ""
        before = newest.get(month)
        if run.state == "success" and not run.failed:  # including runs that found nothing new or skipped a task
            if before and before.state not in ACTIVE:
                del newest[month]
        elif not _is_superseded(run, loads.get(month)) and not (run.cancelled and _has_failed(before)):
            newest[month] = run
    return newest


def _is_superseded(run: Run, load: LoadedMonth | None) -> bool:
    """Whether the run has ended, and another run has loaded the month since its start."""
    if load is None or run.run_id == load.run_id or run.started is None or run.state in ACTIVE:
        return False
    return run.started < load.loaded_at


def _has_failed(run: Run | None) -> bool:
    return run is not None and bool(run.failed) and not run.cancelled


def _state(
    published: bool | None,
    load: LoadedMonth | None,
    local: Edition | None,
    run: Run | None,
    *,
    is_before_a_load: bool,
) -> State:
    if _has_failed(run):
        return State.LOADED_FAILED if load else State.FAILED
    if run and run.state in ACTIVE and published is not False:  # if the month is not published, the run only waits
        return State.RUNNING
    if load:
        if local and _is_newer(local, load):
            return State.NEW_EDITION
        return State.LOADED_CANCELLED if run and run.cancelled else State.FRESH
    if run and run.cancelled and published is not False:
        return State.NOT_LOADED_CANCELLED
    if published or (published is None and is_before_a_load):
        return State.MISSING
    return State.NOT_LOADED if published is None else State.NOT_PUBLISHED


def _is_newer(local: Edition, load: LoadedMonth) -> bool:
    if (local.etag, local.last_modified, local.bytes) == (load.etag, load.last_modified, load.bytes):
        return False
    return (_day(local.last_modified) or date.max) >= (_day(load.last_modified) or date.min)


@functools.lru_cache(
    maxsize=100_000
)  # parsing takes longer than all else about a month, and a page asks again and again
def _day(last_modified: str | None) -> date | None:
    """The date in a Last-Modified header; None if the header is missing or malformed."""
    try:
        return parsedate_to_datetime(last_modified).date() if last_modified else None
    except ValueError:
        return None
