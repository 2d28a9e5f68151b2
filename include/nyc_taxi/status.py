"""How fresh the warehouse is, by fleet and month: what is published, downloaded and loaded, and what is not."""

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Protocol

import requests
from tabulate import SEPARATING_LINE, tabulate

from include.nyc_taxi import tlc
from include.nyc_taxi.download import Edition, month_path, read_edition
from include.nyc_taxi.load import LoadedMonth
from include.nyc_taxi.months import first_day, month_of, month_range, next_first_day

ACTIVE = ("queued", "running")
REQUESTS_AT_ONCE = 4
LINES_ALIKE = 3
"""So many months of which nothing is known have a line each; more are one line together."""

HEADER = ("fleet", "month", "state", "published", "downloaded", "loaded (UTC)", "edition", "rows", "age")
_ALIGNMENT = ("left", "left", "left", "left", "right", "left", "left", "right", "right")
_BOLD_RED, _PLAIN = "\033[1;31m", "\033[0m"


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


Head = Callable[[str], requests.Response]
"""Send a HEAD for a path on the TLC's site, with a time-out; return the response, whatever its status."""


@dataclass(frozen=True)
class Answer:
    """What the site says of a month's file; `last_modified` as in the header."""

    published: bool
    last_modified: str | None = None


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


def months_of(fleet: str, first_month: str, loaded: Iterable[str], run: Iterable[str | None], today: date) -> list[str]:
    """The months to report: from `first_month`, or the first that is loaded, to the last that has ended.

    Args:
        first_month: the first month that catch-up makes; the fleet's own first month, where that is later.
        loaded: months that are loaded, in any order.
        run: months of runs: reported too, where they lie before all others.

    Raises:
        FleetError, MonthError: no such fleet; `first_month` is not written YYYY-MM.
    """
    first_day(first_month)
    earliest = tlc.fleet(fleet).first_month
    first = min([max(first_month, earliest), *loaded])
    last = max([month_of(today.replace(day=1) - timedelta(days=1)), *loaded])
    tried_before = {month for month in run if month and earliest <= month < first}
    return sorted(tried_before) + (month_range(first, last) if first <= last else [])


def months_to_ask(fleet: str, months: Iterable[str], loads: Mapping[str, LoadedMonth]) -> list[str]:
    """Those of `months` of which nothing here tells whether they are published: neither loaded nor in raw/."""
    return [month for month in months if month not in loads and not read_edition(month_path(fleet, month))]


def ask_site(head: Head, wanted: Sequence[tuple[str, str]]) -> tuple[dict[tuple[str, str], Answer], str | None]:
    """Ask the site for months' files, four at a time, and no more of it once it could not be asked.

    Args:
        wanted: pairs of fleet and month.

    Returns:
        The answers by fleet and month, and in a few words why some are lacking, or None.
    """
    answers: dict[tuple[str, str], Answer] = {}
    problems: list[str] = []
    stop = threading.Event()

    def ask(fleet: str, month: str) -> None:
        if stop.is_set():
            return
        try:
            with head(tlc.file_path(fleet, month)) as response:
                status, modified = response.status_code, response.headers.get("Last-Modified")
        except requests.RequestException as error:
            problems.append("no answer in time" if isinstance(error, requests.Timeout) else type(error).__name__)
            stop.set()
            return
        if status == requests.codes.ok:
            answers[fleet, month] = Answer(published=True, last_modified=modified)
        elif status in (requests.codes.forbidden, requests.codes.not_found):
            answers[fleet, month] = Answer(published=False)
        else:
            problems.append(f"status {status}")
            stop.set()

    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        for done in [pool.submit(ask, fleet, month) for fleet, month in wanted]:
            done.result()
    return answers, problems[0] if problems else None


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


# -- as text


def render(months: Sequence[MonthStatus], *, color: bool = False) -> str:
    """A table, a line a month; months in a row of which nothing is known but that share one line."""
    rows: list[Sequence[str]] = []
    for alike in _grouped(months, lambda month: (month.fleet, _says_nothing(month) and month.state)):
        if rows and rows[-1][0] != alike[0].fleet:
            rows.append(SEPARATING_LINE)
        if _says_nothing(alike[0]) and len(alike) > LINES_ALIKE:
            rows.append(_row(alike[0], f"{alike[0].month} … {alike[-1].month}", color=color))
        else:
            rows += [_row(month, month.month, color=color) for month in alike]
    return tabulate(rows, HEADER, disable_numparse=True, colalign=_ALIGNMENT)


def _says_nothing(month: MonthStatus) -> bool:
    return month.state in (State.NOT_LOADED, State.NOT_PUBLISHED) and month.downloaded is None


def _row(month: MonthStatus, name: str, *, color: bool) -> tuple[str, ...]:
    published = {True: "yes", False: "no", None: "?"}[month.published]
    tasks = ", ".join(month.failed)
    state = {State.FAILED: f"{month.state} ({tasks})", State.LOADED_FAILED: f"{month.state} in {tasks}"}.get(
        month.state, str(month.state)
    )
    return (
        month.fleet,
        name,
        f"{_BOLD_RED}{state}{_PLAIN}" if color and (month.state.isupper() or month.failed) else state,
        str(month.published_on or published),
        _size(month.downloaded) if month.downloaded is not None else "-",
        f"{month.load.loaded_at:%Y-%m-%d %H:%M}" if month.load else "-",
        month.edition or "-",
        f"{month.load.rows_loaded:,}" if month.load else "-",
        age_in_words(month.age) if month.age is not None else "-",
    )


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"


def age_in_words(age: timedelta) -> str:
    """An age in the largest unit of which it has two or more: "3 days"."""
    minutes = max(0, int(age.total_seconds() // 60))
    for unit, size in (("year", 525_960), ("month", 43_830), ("day", 1440), ("hour", 60)):
        if minutes >= 2 * size:
            return _counted(minutes // size, unit)
    return _counted(minutes, "minute")


def sentences(months: Sequence[MonthStatus], command: str) -> list[str]:
    """What to know and what to do, fleet by fleet: what is loaded, gaps, failures, editions not loaded.

    Args:
        months: of one fleet or several, as `fleet_status` gives them.
        command: what loads months once FLEET, FROM and TO are appended.
    """
    fleets = itertools.groupby(months, lambda month: month.fleet)
    return [line for _, of_fleet in fleets for line in _of_fleet(list(of_fleet), command)]


def _of_fleet(months: Sequence[MonthStatus], command: str) -> Iterator[str]:
    fleet, loaded = months[0].fleet, [month.month for month in months if month.load]
    yield f"{fleet}: {_what_is_loaded([month for month in months if month.load])}."
    for group in _grouped(months, lambda month: (month.state, month.failed, month.load is None)):
        first, last, state = group[0].month, group[-1].month, group[0].state
        span = first if first == last else f"{first} to {last}"
        is_are, them = ("is", "it") if first == last else ("are", "them")
        again = f"`{command} FLEET={fleet} FROM={first} TO={last}`"
        gap = _gap(first, last, loaded) if group[0].load is None else ""
        mend = f"mend the cause that the task's log names, then run {again}"
        if state is State.MISSING:
            yield f"{fleet}: {span} {is_are} {gap or 'published but not loaded'}; {again} loads {them}."
        elif state is State.NOT_PUBLISHED and gap:
            yield f"{fleet}: {span} {is_are} {gap}: the TLC's site does not have {them}."
        elif state is State.FAILED:
            gap = f" and {is_are} {gap}" if gap else ""
            yield f"{fleet}: {span} failed in {', '.join(group[0].failed)}{gap}; {mend}."
        elif state is State.LOADED_FAILED:
            its_run = "its last run" if first == last else "their last runs"
            yield f"{fleet}: {span} {is_are} loaded, but {its_run} failed in {', '.join(group[0].failed)}; {mend}."
        elif state is State.LOADED_CANCELLED:
            its_run = "its last run was" if first == last else "their last runs were"
            yield f"{fleet}: {span} {is_are} loaded, and {its_run} cancelled; {again} runs {them} again."
        elif state is State.NOT_LOADED_CANCELLED:
            its_run = "its last run was" if first == last else "their last runs were"
            yield f"{fleet}: {span} {is_are} {gap or 'not loaded'}: {its_run} cancelled; {again} loads {them}."
        elif state is State.NEW_EDITION:
            yield f"{fleet}: of {span} raw/ has a newer edition than the warehouse; {again} loads it."
    yield from _unknown_columns(months)


def _unknown_columns(months: Sequence[MonthStatus]) -> Iterator[str]:
    """A sentence for each set of columns that loads have left out because the catalogue does not know them."""
    by_columns: dict[tuple[str, ...], list[str]] = {}
    for month in months:
        if month.load and month.load.unknown_columns:
            by_columns.setdefault(month.load.unknown_columns, []).append(month.month)
    for columns, names in by_columns.items():
        span = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]} ({_counted(len(names), 'month')})"
        them = "it" if len(columns) == 1 else "them"
        yield (
            f"{months[0].fleet}: the files of {span} have {_counted(len(columns), 'column')} that the warehouse leaves "
            f"out: {', '.join(columns)}; add {them} to include/nyc_taxi/tlc.py, then run these months again."
        )


def _what_is_loaded(loaded: Sequence[MonthStatus]) -> str:
    if not loaded:
        return "nothing is loaded yet"
    names = [month.month for month in loaded]
    wanted = len(month_range(names[0], names[-1]))
    span = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    latest = min(month.age for month in loaded if month.age is not None)
    what = (
        f"{len(names)} of {wanted} months loaded from {span}"
        if len(names) < wanted
        else f"{_counted(wanted, 'month')} loaded, {span}"
    )
    return f"{what}; last load {age_in_words(latest)} ago"


def _gap(first: str, last: str, loaded: Sequence[str]) -> str:
    """How the months from `first` to `last` are missing in the history; nothing where they come after it."""
    before, after = [month for month in loaded if month < first], [month for month in loaded if month > last]
    if not after:
        return ""
    return f"missing between {before[-1]} and {after[0]}" if before else f"missing before {after[0]}"


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"


def _grouped(months: Iterable[MonthStatus], key: Callable[[MonthStatus], object]) -> Iterator[list[MonthStatus]]:
    """Months that follow one another and for which `key` gives the same."""
    for _, alike in itertools.groupby(months, key):
        group: list[MonthStatus] = []
        for month in alike:
            if group and month_of(next_first_day(group[-1].month)) != month.month:
                yield group
                group = []
            group.append(month)
        yield group
