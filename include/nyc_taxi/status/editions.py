"""Editions: find loaded months that the TLC has since republished or withdrawn.

A *check* asks the site about every loaded month with a conditional HEAD request. The site's answers are kept by URL in
a ledger, a JSON file in raw/. A withdrawal is therefore reported only once, and a repeated check asks only about months
that have not been answered yet. If the ledger is lost, the next check rebuilds it from the loaded months.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from include.nyc_taxi import catalogue, settings
from include.nyc_taxi.errors import NycTaxiError
from include.nyc_taxi.files import locked, replacing
from include.nyc_taxi.months import Month
from include.nyc_taxi.source.site import Answer, Head, Question, ask_site
from include.nyc_taxi.trips.loaded import LoadedMonth
from include.nyc_taxi.urls import without_login

log = logging.getLogger(__name__)

REQUESTS_AT_ONCE = 2
MAX_PROBLEMS = 3
"""A check stops after this many requests without an answer. One would be too few: a single bad file must not hide all
the others."""
MAX_NAMED = 12
SHORTEST_MONTH = timedelta(days=28)


class SiteError(NycTaxiError, permanent=False):
    """The site did not answer for every month."""


class AnswersError(NycTaxiError, permanent=True):
    """The ledger of the site's answers cannot be read."""


@dataclass(frozen=True)
class WatchedMonth:
    """A month that was loaded from the site that the check asks.

    Attributes:
        url: where it was loaded from.
        etag, last_modified: the loaded edition, as in `download.Edition`; at least one of them is known.
    """

    fleet: str
    month: str
    url: str
    etag: str | None
    last_modified: str | None

    def __str__(self) -> str:
        return f"{self.fleet} {self.month}"


@dataclass(frozen=True)
class Check:
    """The months that one check asks about.

    Attributes:
        since: when the check began, as `_now` writes it.
    """

    since: str
    months: tuple[WatchedMonth, ...]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Restore a check from the result of `dataclasses.asdict`."""
        return cls(values["since"], tuple(WatchedMonth(**month) for month in values["months"]))


@dataclass(frozen=True)
class Run:
    """The run that loads a new edition. The same edition always gives an equal run, another edition a different one.

    Attributes:
        logical_date: a moment in the month, but never its first: the schedule and backfills use that one.
    """

    fleet: str
    month: str
    run_id: str
    logical_date: datetime


class Finding(StrEnum):
    """What the site last said about a loaded month, if the loaded edition is no longer what it has."""

    WITHDRAWN = "withdrawn"
    REPUBLISHED = "republished"


@dataclass(frozen=True)
class _Seen:
    """A ledger entry: what the site last said about a month.

    Attributes:
        answered_at: as `_now` writes it.
        published: False if the site answered 403 or 404.
        etag, last_modified: the site's edition; for a withdrawn month the last one known.
        reported_by: the check that has reported the withdrawal.
    """

    answered_at: str
    published: bool
    etag: str | None
    last_modified: str | None
    reported_by: str | None = None


def begin(site: str, loads: Mapping[str, Mapping[str, LoadedMonth]]) -> Check:
    """Begin a check of all months in `loads` (by fleet and month) that were loaded from `site`, a URL without a path.

    URLs are compared and kept without logins. Two kinds of months are ignored because there is nothing to compare:
    those from another site, and those whose edition is unknown.
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
    log.info("%s months were loaded from %s", len(months), site)
    if others:
        log.info("ignoring %s other months: they came from another site, or their editions are unknown", others)
    return Check(_now(), tuple(months))


def ask(head: Head, check: Check) -> None:
    """Ask the site about the months that it has not answered for in this check, two at a time, and keep its answers.

    Raises:
        SiteError: the site did not answer for every month. Its other answers are kept.
        AnswersError: the ledger cannot be read.
    """
    ledger = _read(_ledger_path())
    questions = {
        month.url: _question(month, ledger.get(month.url))
        for month in check.months
        if not _answered(ledger.get(month.url), check)
    }
    answers, problems = ask_site(head, questions, at_once=REQUESTS_AT_ONCE, max_problems=MAX_PROBLEMS)
    _record(answers)
    log.info("the site answered for %s of %s months", len(answers), len(questions))
    if problems:
        reasons = "; ".join(f"{url}: {reason}" for url, reason in problems.items())
        raise SiteError(
            f"the site did not answer for {len(questions) - len(answers)} of {len(check.months)} months: {reasons}. "
            "Its other answers are kept, and the next try asks only about the rest"
        )


def republished(check: Check) -> list[Run]:
    """The runs that load new editions, for the months about which the site has answered this check."""
    ledger = _read(_ledger_path())
    runs = []
    for month in check.months:
        seen = ledger.get(month.url)
        if seen and seen.published and _answered(seen, check) and _differs(month, seen):
            run = _run(month, seen)
            log.info(
                "%s: the site has edition %s of %s, and edition %s of %s is loaded; run %s of taxi_trips_%s loads the "
                "new one, and stays queued while that DAG is paused",
                *(month, seen.etag, seen.last_modified, month.etag, month.last_modified, run.run_id, month.fleet),
            )
            runs.append(run)
    return runs


def withdrawn(check: Check, name: str) -> list[WatchedMonth]:
    """The withdrawn months that the check called `name` must report, because no other check has reported them."""
    with _ledger() as ledger:
        gone = [month for month in check.months if (seen := ledger.get(month.url)) and not seen.published]
        for month in gone:
            seen = ledger[month.url]
            ledger[month.url] = dataclasses.replace(seen, reported_by=seen.reported_by or name)
        ours = [month for month in gone if ledger[month.url].reported_by == name]
    if others := [month for month in gone if month not in ours]:
        log.info("already reported as withdrawn by an earlier check: %s", _listed(others))
    return ours


def findings(loads: Mapping[str, Mapping[str, LoadedMonth]]) -> dict[tuple[str, str], Finding]:
    """What the last checks have found about loaded months, by fleet and month, without asking the site.

    Raises:
        AnswersError: the ledger cannot be read.
    """
    ledger = _last_read(_ledger_path())
    found = {}
    for fleet, by_month in loads.items():
        for month, load in by_month.items():
            url = without_login(load.source_url)
            seen = ledger.get(url)
            if seen and not seen.published:
                found[fleet, month] = Finding.WITHDRAWN
            # An edition that was loaded after the site's answer may be newer than the answer.
            elif seen and seen.answered_at > load.loaded_at.isoformat(timespec="microseconds"):
                watched = WatchedMonth(fleet, month, url, load.etag, load.last_modified)
                if (load.etag or load.last_modified) and _differs(watched, seen):
                    found[fleet, month] = Finding.REPUBLISHED
    return found


def report(check: Check, months: Sequence[WatchedMonth]) -> str:
    """One sentence about withdrawn months."""
    return f"the TLC's site has withdrawn {_listed(months)} (403 or 404); the warehouse keeps the loaded trips" + (
        ". Every loaded month is affected: check NYC_TAXI_TLC_URL, and whether the site blocks this machine"
        if len(months) == len(check.months)
        else ""
    )


def _question(month: WatchedMonth, seen: _Seen | None) -> Question:
    """Ask whether the site still has the edition that it last named, or else the loaded one."""
    known = seen if seen and (seen.etag or seen.last_modified) else month
    return Question(month.url, known.etag, known.last_modified, required="ETag" if month.etag else "Last-Modified")


def _answered(seen: _Seen | None, check: Check) -> bool:
    return seen is not None and seen.answered_at >= check.since


def _differs(month: WatchedMonth, seen: _Seen) -> bool:
    if month.etag:
        return (seen.etag or "").removeprefix("W/") != month.etag.removeprefix("W/")
    return seen.last_modified != month.last_modified


def _run(month: WatchedMonth, seen: _Seen) -> Run:
    # The date is part of the digest: an edition that comes back after another is a new publication to be loaded.
    digest = hashlib.sha256("\n".join((month.url, seen.etag or "", seen.last_modified or "")).encode()).hexdigest()[:12]
    # Each edition needs its own logical date: Airflow treats two runs with the same date as the same run.
    offset = 1 + int(digest, 16) % (SHORTEST_MONTH // timedelta(microseconds=1) - 1)
    start = Month(month.month).first_day
    return Run(
        month.fleet,
        month.month,
        run_id=f"edition__{month.month}__{digest}",
        logical_date=datetime(start.year, start.month, start.day, tzinfo=UTC) + timedelta(microseconds=offset),
    )


def _record(answers: Mapping[str, Answer]) -> None:
    with _ledger() as ledger:
        for url, answer in answers.items():
            before = ledger.get(url)
            reported_by = before.reported_by if before and not answer.published else None
            ledger[url] = _Seen(_now(), answer.published, answer.etag, answer.last_modified, reported_by)


def _ledger_path() -> Path:
    return settings.raw_dir() / ".editions.json"


@contextlib.contextmanager
def _ledger() -> Iterator[dict[str, _Seen]]:
    """Yield the ledger, by URL, to be changed; it is locked meanwhile, and written unless the block raises."""
    path = _ledger_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_suffix(".lock")):
        ledger = _read(path)
        yield ledger
        with replacing(path) as temporary:
            written = {url: dataclasses.asdict(seen) for url, seen in sorted(ledger.items())}
            temporary.write_text(json.dumps(written, indent=1) + "\n")


def _read(path: Path) -> dict[str, _Seen]:
    try:
        # Older versions kept URLs with logins.
        return {without_login(url): _Seen(**seen) for url, seen in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise AnswersError(f"{path}: cannot be read ({error}). Delete it: the next check rebuilds it") from error


_kept: dict[Path, tuple[object, Mapping[str, _Seen]]] = {}
"""The ledger that was read last, and which version of the file it was."""


def _last_read(path: Path) -> Mapping[str, _Seen]:
    """The ledger, not to be changed. Each version of the file is read once: a page asks for it again and again.

    A writer replaces the file, so each version has its own number, size and time.
    """
    try:
        facts = path.stat()
    except FileNotFoundError:
        return {}
    version = facts.st_ino, facts.st_size, facts.st_mtime_ns
    if path not in _kept or _kept[path][0] != version:
        _kept.clear()
        _kept[path] = version, _read(path)
    return _kept[path][1]


def _listed(months: Sequence[WatchedMonth]) -> str:
    more = len(months) - MAX_NAMED
    return ", ".join(map(str, months[:MAX_NAMED])) + (f" and {more} more" if more > 0 else "")


def _now() -> str:
    """The current time as text that sorts by time: UTC, with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
