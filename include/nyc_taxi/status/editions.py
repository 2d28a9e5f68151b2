"""Editions: months that the TLC has published again, or withdrawn, since they were loaded.

A *look* asks the site for every loaded month (HEAD), on the condition that it is not as last seen. What the site has
said is kept in a ledger, a JSON file in raw/, by address: so a withdrawal is reported once, and a look that is tried
again asks only for what it does not know yet. The ledger may be lost: the next look asks anew, by what is loaded.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import requests

from include.nyc_taxi import catalogue, settings
from include.nyc_taxi.errors import NycTaxiError
from include.nyc_taxi.files import locked, replacing
from include.nyc_taxi.months import Month
from include.nyc_taxi.trips.loaded import LoadedMonth
from include.nyc_taxi.urls import without_login

log = logging.getLogger(__name__)

REQUESTS_AT_ONCE = 2
PROBLEMS_AT_MOST = 3
"""So many months of which the site says nothing: then it is left alone. One bad file does not hide all the others."""
NAMED_AT_MOST = 12
SHORTEST_MONTH = timedelta(days=28)

Head = Callable[[str, Mapping[str, str]], requests.Response]
"""Send a HEAD for an address with headers, with a time-out; return the response, whatever its status."""


class SiteError(NycTaxiError, permanent=False):
    """The site did not say of every month what is there now."""


class AnswersError(NycTaxiError, permanent=True):
    """The record of what the site said before cannot be read."""


@dataclass(frozen=True)
class WatchedMonth:
    """A month that is loaded from the site that is asked now.

    Attributes:
        url: where it came from.
        etag, last_modified: the edition loaded, as in `download.Edition`; one of them is there.
    """

    fleet: str
    month: str
    url: str
    etag: str | None
    last_modified: str | None

    def __str__(self) -> str:
        return f"{self.fleet} {self.month}"


@dataclass(frozen=True)
class Look:
    """What a look asks for.

    Attributes:
        since: when it began; see `_now`.
    """

    since: str
    months: tuple[WatchedMonth, ...]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The look that `dataclasses.asdict` has made `values` of."""
        return cls(values["since"], tuple(WatchedMonth(**month) for month in values["months"]))


@dataclass(frozen=True)
class Run:
    """The run that loads a new edition; equal for equal editions, and different for all others.

    Attributes:
        logical_date: in the month, never its first moment, at which the schedule and backfills have their run.
    """

    fleet: str
    month: str
    run_id: str
    logical_date: datetime


@dataclass(frozen=True)
class _Answer:
    """What the site said of a month, as the ledger has it.

    Attributes:
        answered_at: see `_now`.
        published: False: 403 or 404, though the month was there when it was loaded.
        etag, last_modified: the edition there; of a withdrawn month the one before, if a look has seen it.
        reported_by: the look that has reported the withdrawal.
    """

    answered_at: str
    published: bool
    etag: str | None
    last_modified: str | None
    reported_by: str | None = None


def begin(site: str, loads: Mapping[str, Mapping[str, LoadedMonth]]) -> Look:
    """The look at all months of `loads` (by fleet and month) that came from `site`, an address without a path.

    Addresses are compared, and kept, without logins. Months from elsewhere are left alone, and those whose edition
    nobody has named: there is nothing to compare.
    """
    site = without_login(site)
    months = [
        WatchedMonth(fleet, month, url, load.etag, load.last_modified)
        for fleet, by_month in loads.items()
        for month, load in by_month.items()
        if (url := without_login(load.source_url)) == site + catalogue.file_path(fleet, month)
        and (load.etag or load.last_modified)
    ]
    others = sum(map(len, loads.values())) - len(months)
    log.info("%s months are loaded from %s", len(months), site)
    if others:
        log.info("%s more are left alone: they are from another site, or from one that names no editions", others)
    return Look(_now(), tuple(months))


def ask(head: Head, look: Look) -> None:
    """Ask the site for the look's months, two at a time, and note what it says; not again for those it has answered.

    Raises:
        SiteError: it did not say it of all. What it has said is noted.
        AnswersError: the record of its answers cannot be read.
    """
    known = _read(_ledger_path())
    wanted = [month for month in look.months if not _answered(known.get(month.url), look)]
    problems: list[str] = []
    stop = threading.Event()

    def ask_for(month: WatchedMonth) -> _Answer | None:
        if stop.is_set():
            return None
        try:
            return _ask_for(head, month, known.get(month.url))
        except SiteError as error:
            problems.append(str(error))
            if len(problems) >= PROBLEMS_AT_MOST:
                stop.set()
            return None

    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        asked = zip(wanted, pool.map(ask_for, wanted), strict=True)
        answers = {month.url: answer for month, answer in asked if answer}
    _record(answers)
    log.info("%s of %s months answered", len(answers), len(wanted))
    if problems:
        raise SiteError(
            f"the site did not say of {len(wanted) - len(answers)} of {len(look.months)} months what is there now: "
            f"{'; '.join(problems)}. What it has said of the others counts, the next try asks for the rest"
        )


def republished(look: Look) -> list[Run]:
    """The runs that load what the site has in another edition than the warehouse, as far as it has told this look."""
    known = _read(_ledger_path())
    runs = []
    for month in look.months:
        seen = known.get(month.url)
        if seen and seen.published and _answered(seen, look) and _differs(month, seen):
            run = _run(month, seen)
            log.info(
                "%s: the site has the edition %s of %s, loaded is %s of %s; the run %s of taxi_trips_%s loads it, and "
                "is queued for as long as that DAG is paused",
                *(month, seen.etag, seen.last_modified, month.etag, month.last_modified, run.run_id, month.fleet),
            )
            runs.append(run)
    return runs


def withdrawn(look: Look, name: str) -> list[WatchedMonth]:
    """The withdrawn months that it is for the look called `name` to report: those that no other has reported."""
    with _ledger() as ledger:
        gone = [month for month in look.months if (seen := ledger.get(month.url)) and not seen.published]
        for month in gone:
            seen = ledger[month.url]
            ledger[month.url] = dataclasses.replace(seen, reported_by=seen.reported_by or name)
        ours = [month for month in gone if ledger[month.url].reported_by == name]
    if others := [month for month in gone if month not in ours]:
        log.info("withdrawn, and reported by an earlier look: %s", _listed(others))
    return ours


def report(look: Look, months: Sequence[WatchedMonth]) -> str:
    """One sentence on months that are withdrawn."""
    every = "; of all that is loaded it has nothing now: is NYC_TAXI_TLC_URL right, may this machine ask it?"
    return (
        f"the TLC's site has withdrawn {_listed(months)} (403 or 404): the warehouse keeps what is loaded of "
        f"{'it' if len(months) == 1 else 'them'}{every if len(months) == len(look.months) else ''}"
    )


def _ask_for(head: Head, month: WatchedMonth, seen: _Answer | None) -> _Answer:
    """Ask for one month. Raises SiteError when the answer does not say which edition is there."""
    known = seen if seen and (seen.etag or seen.last_modified) else month
    # Compressed transfer would be given another ETag; see download.
    headers = {"Accept-Encoding": "identity"}
    if known.etag:
        headers["If-None-Match"] = known.etag
    elif known.last_modified:
        headers["If-Modified-Since"] = known.last_modified
    try:
        with head(month.url, headers) as response:
            status, etag, modified = response.status_code, *map(response.headers.get, ("ETag", "Last-Modified"))
    except requests.RequestException as error:
        what = "no answer in time" if isinstance(error, requests.Timeout) else type(error).__name__
        raise SiteError(f"{month.url}: {what}") from error
    if status == requests.codes.not_modified:
        return _Answer(_now(), True, known.etag, known.last_modified)
    if status in (requests.codes.forbidden, requests.codes.not_found):
        return _Answer(_now(), False, known.etag, known.last_modified)
    if status != requests.codes.ok:
        raise SiteError(f"{month.url}: status {status}")
    if not (etag if month.etag else modified):
        name = "ETag" if month.etag else "Last-Modified"
        raise SiteError(f"{month.url}: status 200 without {name}, which it had when it was loaded")
    return _Answer(_now(), True, etag, modified)


def _answered(seen: _Answer | None, look: Look) -> bool:
    return seen is not None and seen.answered_at >= look.since


def _differs(month: WatchedMonth, seen: _Answer) -> bool:
    if month.etag:
        return (seen.etag or "").removeprefix("W/") != month.etag.removeprefix("W/")
    return seen.last_modified != month.last_modified


def _run(month: WatchedMonth, seen: _Answer) -> Run:
    # With its date: an edition that comes back after another is published anew, and is to be loaded again.
    digest = hashlib.sha256("\n".join((month.url, seen.etag or "", seen.last_modified or "")).encode()).hexdigest()[:12]
    # Airflow takes a run of the same date for the same run.
    offset = 1 + int(digest, 16) % (SHORTEST_MONTH // timedelta(microseconds=1) - 1)
    start = Month(month.month).first_day
    return Run(
        month.fleet,
        month.month,
        run_id=f"edition__{month.month}__{digest}",
        logical_date=datetime(start.year, start.month, start.day, tzinfo=UTC) + timedelta(microseconds=offset),
    )


def _record(answers: Mapping[str, _Answer]) -> None:
    with _ledger() as ledger:
        for url, answer in answers.items():
            before = ledger.get(url)
            reported_by = before.reported_by if before and not answer.published else None
            ledger[url] = dataclasses.replace(answer, reported_by=reported_by)


def _ledger_path() -> Path:
    return settings.raw_dir() / ".editions.json"


@contextlib.contextmanager
def _ledger() -> Iterator[dict[str, _Answer]]:
    """The ledger by address, to be changed; written when the block ends well. No other process writes beside."""
    path = _ledger_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_suffix(".lock")):
        ledger = _read(path)
        yield ledger
        with replacing(path) as temporary:
            written = {url: dataclasses.asdict(answer) for url, answer in sorted(ledger.items())}
            temporary.write_text(json.dumps(written, indent=1) + "\n")


def _read(path: Path) -> dict[str, _Answer]:
    try:
        # Older versions had logins in the addresses; what is written from now on has none.
        return {without_login(url): _Answer(**answer) for url, answer in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise AnswersError(f"{path}: cannot be read ({error}); remove it, the next look makes it anew") from error


def _listed(months: Sequence[WatchedMonth]) -> str:
    more = len(months) - NAMED_AT_MOST
    return ", ".join(map(str, months[:NAMED_AT_MOST])) + (f" and {more} more" if more > 0 else "")


def _now() -> str:
    """Now as a text that sorts by time: UTC, with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
