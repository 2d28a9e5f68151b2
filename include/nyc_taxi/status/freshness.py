"""How fresh the warehouse is, by fleet and month: what is published, downloaded and loaded, and what is not."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Protocol

from include.nyc_taxi import catalogue
from include.nyc_taxi.months import Month, month_range
from include.nyc_taxi.source.download import Edition, month_path, read_edition
from include.nyc_taxi.source.site import Answer
from include.nyc_taxi.trips.loaded import LoadedMonth

ACTIVE = ("queued", "running")


class State(StrEnum):
    """How a month is. Upper case is what an operator should look at: something is not in the warehouse."""

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
    """A run of a month: as much of it as is needed here.

    Attributes:
        month: None for a run that is about no month.
        state: "queued", "running", "failed" or "success".
        started: UTC; None while it is queued.
        failed: the tasks that have failed for good.
        cancelled: whether it was ended by somebody, or with the backfill that it was part of, and by no failure.
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
    """A month of a fleet.

    Attributes:
        published: whether the TLC has published it; None where that is not known.
        published_on: the newest edition's date that is known.
        downloaded: bytes of the file in raw/; None where there is none.
        load: the latest load; None where the month is not loaded.
        age: time since that load.
        failed: for FAILED and LOADED_FAILED, the tasks that have failed.
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

    @property
    def edition(self) -> str:
        """The loaded edition: the first characters of its ETag, and its date."""
        if self.load is None:
            return ""
        etag = (self.load.etag or "").removeprefix("W/").strip('"')[:8]
        modified = _day(self.load.last_modified)
        return ", ".join(str(part) for part in (etag, modified) if part) or "unknown"


def months_of(
    fleet: str, first_month: Month, loaded: Iterable[str], run: Iterable[str | None], today: date
) -> list[str]:
    """The months to report: from `first_month`, or the first that is loaded, to the last that has ended.

    Args:
        first_month: the first month that catch-up makes; the fleet's own first month, where that is later.
        loaded: months that are loaded, in any order.
        run: months of runs: reported too, where they lie before all others.

    Raises:
        FleetError: there is no such fleet.
    """
    earliest = catalogue.fleet(fleet).first_month
    first = min([max(first_month, earliest), *loaded])
    last = max([Month.of(today.replace(day=1) - timedelta(days=1)), *loaded])
    tried_before = {month for month in run if month and earliest <= month < first}
    return sorted(tried_before) + (month_range(first, last) if first <= last else [])


def months_to_ask(fleet: str, months: Iterable[str], loads: Mapping[str, LoadedMonth]) -> list[str]:
    """Those of `months` of which nothing here tells whether they are published: neither loaded nor in raw/."""
    return [month for month in months if month not in loads and not read_edition(month_path(fleet, month))]


def fleet_status(
    fleet: str,
    months: Sequence[str],
    loads: Mapping[str, LoadedMonth],
    answers: Mapping[tuple[str, str], Answer],
    runs: Iterable[Run],
    now: datetime,
) -> list[MonthStatus]:
    """Put together what is known of a fleet's months.

    Args:
        loads: each loaded month's latest load.
        answers: what the site said of months not loaded.
        runs: runs of the fleet's DAG, the oldest start first; those that ended well settle what was before them.
        now: UTC.
    """
    newest = _newest_unsettled(runs, loads)
    last_loaded = max(loads, default="")
    found = []
    for month in months:
        path = month_path(fleet, month)
        load, here, answer, run = loads.get(month), read_edition(path), answers.get((fleet, month)), newest.get(month)
        published = True if load or here else (answer.published if answer else None)
        state = _state(published, load, here, run, in_history=month < last_loaded)
        editions = [edition.last_modified for edition in (load, here, answer) if edition]
        found.append(
            MonthStatus(
                fleet=fleet,
                month=month,
                published=published,
                published_on=max(filter(None, map(_day, editions)), default=None),
                downloaded=path.stat().st_size if path.exists() else None,
                load=load,
                age=now - load.loaded_at if load else None,
                state=state,
                failed=run.failed if run and state in (State.FAILED, State.LOADED_FAILED) else (),
            )
        )
    return found


def _newest_unsettled(runs: Iterable[Run], loads: Mapping[str, LoadedMonth]) -> dict[str, Run]:
    """By month, the newest run that has not ended well, and that no later load or run has made good."""
    newest: dict[str, Run] = {}
    for run in runs:
        month = run.month or ""
        before = newest.get(month)
        if (
            run.state == "success" and not run.failed
        ):  # also one that found nothing new, or of which a task was left out
            if before and before.state not in ACTIVE:
                del newest[month]
        elif not _is_history(run, loads.get(month)) and not (run.cancelled and _has_failed(before)):
            newest[month] = run
    return newest


def _is_history(run: Run, load: LoadedMonth | None) -> bool:
    """Whether the run is of no interest any more: another has loaded the month since."""
    if load is None or run.run_id == load.run_id or run.started is None or run.state in ACTIVE:
        return False
    return run.started < load.loaded_at


def _has_failed(run: Run | None) -> bool:
    return run is not None and bool(run.failed) and not run.cancelled


def _state(
    published: bool | None,
    load: LoadedMonth | None,
    here: Edition | None,
    run: Run | None,
    *,
    in_history: bool,
) -> State:
    if _has_failed(run):
        return State.LOADED_FAILED if load else State.FAILED
    if run and run.state in ACTIVE and published is not False:  # of a month that is not published, it only waits
        return State.RUNNING
    if load:
        if here and _is_newer(here, load):
            return State.NEW_EDITION
        return State.LOADED_CANCELLED if run and run.cancelled else State.FRESH
    if run and run.cancelled and published is not False:
        return State.NOT_LOADED_CANCELLED
    if published or (published is None and in_history):
        return State.MISSING
    return State.NOT_LOADED if published is None else State.NOT_PUBLISHED


def _is_newer(here: Edition, load: LoadedMonth) -> bool:
    if (here.etag, here.last_modified, here.bytes) == (load.etag, load.last_modified, load.bytes):
        return False
    return (_day(here.last_modified) or date.max) >= (_day(load.last_modified) or date.min)


def _day(last_modified: str | None) -> date | None:
    """The day of a Last-Modified header, or None where it has none."""
    try:
        return parsedate_to_datetime(last_modified).date() if last_modified else None
    except ValueError:
        return None
