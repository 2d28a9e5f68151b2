"""The data of the page's grid: the state of every month and week of every fleet.

It is made from the snapshot, from what the TLC's site said when it was last asked, from the files in raw/, and from the
runs that Airflow knows. The warehouse is never opened.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

from include.nyc_taxi import catalogue
from include.nyc_taxi.months import Month, monday_of, month_range, week_range
from include.nyc_taxi.source.site import Answer
from include.nyc_taxi.status import editions, freshness
from include.nyc_taxi.trips.loaded import LoadedMonth
from include.nyc_taxi.web.snapshot import Loaded, Refusal, Snapshot

log = logging.getLogger(__name__)

SURELY_PUBLISHED = timedelta(days=92)
"""The TLC publishes a month about two months after its end. A month that ended longer ago than this is taken as
published, although nobody has asked."""
ACTIVE = freshness.ACTIVE
OF_PAGE = "taxi_warehouse_page__"
"""How the ids of runs begin that the page has started for a selection of months (see actions.js)."""


class State(StrEnum):
    """The state of a month on the page."""

    NOT_PUBLISHED = "not_published"
    PUBLISHED = "published"
    DOWNLOADED = "downloaded"
    LOADED = "loaded"
    WITH_WARNINGS = "loaded_with_warnings"
    NEWER_EDITION = "newer_edition"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    QUEUED = "queued"
    RUNNING = "running"
    FAILED = "failed"


LEGEND: tuple[tuple[State, str, str], ...] = (
    (State.LOADED, "●", "The month is in the warehouse."),
    (State.WITH_WARNINGS, "◐", "The month is in the warehouse, and breaks a rule of the audit that only warns."),
    (State.NEWER_EDITION, "↻", "The month is loaded, and the TLC has published a newer edition of it."),
    (State.REFUSED, "⊘", "The audit has refused the file. An edition that was loaded before is kept."),
    (State.WITHDRAWN, "⌫", "The month is loaded, and the TLC's site no longer has it."),
    (State.FAILED, "✕", "The newest run has failed. A month that was loaded before is kept."),
    (State.RUNNING, "▶", "A run of the month is running."),
    (State.QUEUED, "…", "A run of the month is queued. While its DAG is paused, it waits."),
    (State.DOWNLOADED, "↓", "The file is here, and not loaded."),
    (State.PUBLISHED, "○", "The TLC has published the month, and it is not loaded."),
    (State.NOT_PUBLISHED, "·", "The TLC has not published the month yet."),
)
"""The states in the order of the legend, each with the mark that tells it from others without colour."""


class WeekState(StrEnum):
    """The state of a week on the page."""

    COUNTED = "counted"
    NOT_COUNTED = "not counted"
    RUNNING = "running"
    FAILED = "failed"


@dataclass(frozen=True)
class Run:
    """A run of a DAG whose partitions are months or weeks. It is a `freshness.Run`.

    Attributes:
        partition: the month ("2023-01") or the Monday ("2023-01-02"); None for a run without one.
        state, started, failed, cancelled: as in `freshness.Run`.
        waits: whether it only waits for the TLC to publish the month.
        ended: in UTC; None until then.
        date: its logical date in UTC, if it has one.
        accepts: whether it loads an edition even if the audit refuses it, because a user has asked for that.
        is_backfill: whether a backfill has made it, or has repeated it, which leaves it its id.
    """

    run_id: str
    partition: str | None
    state: str
    started: datetime | None = None
    failed: tuple[str, ...] = ()
    cancelled: bool = False
    waits: bool = False
    ended: datetime | None = None
    date: datetime | None = None
    accepts: bool = False
    is_backfill: bool = False

    @property
    def month(self) -> str | None:
        """The month, under the name that `freshness` uses."""
        return self.partition


@dataclass(frozen=True)
class Dag:
    """What Airflow knows about a DAG that the user may read.

    Attributes:
        is_paused: True also for a DAG that Airflow has not parsed yet.
        may_trigger: whether the user may start runs of it.
        why_not: a sentence for a user who may not.
        runs: its runs, ordered by their start.
    """

    dag_id: str
    is_paused: bool = False
    may_trigger: bool = False
    why_not: str | None = None
    runs: tuple[Run, ...] = ()


@dataclass(frozen=True)
class MonthCell:
    """A month of a fleet.

    Attributes:
        load: the loaded edition; None if the month is not loaded.
        refusal: why the audit has refused a newer file; None if it has not.
        run_id: the newest run that is active or has not ended well, or else the run that loaded the month.
        failed: the tasks that failed in that run.
        note: a sentence that qualifies the state.
    """

    month: str
    state: State
    load: Loaded | None = None
    refusal: Refusal | None = None
    run_id: str | None = None
    failed: tuple[str, ...] = ()
    note: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The cell as the grid's JSON has it."""
        load = self.load
        return {
            "month": self.month,
            "state": self.state,
            "rows": load and load.rows,
            "warnings": load.warnings if load else 0,
            "loaded_at": load and load.loaded_at,
            "edition": load and edition_label(load),
            "run_id": self.run_id,
            "failed": list(self.failed),
            "note": self.note,
        }


def months_dag_id(fleet: str) -> str:
    """The DAG that loads the fleet's months."""
    return f"taxi_trips_{fleet}"


def weeks_dag_id(fleet: str) -> str:
    """The DAG that counts the fleet's weeks."""
    return f"trips_by_week_{fleet}"


def grid(
    fleets: Iterable[str],
    snapshot: Snapshot | None,
    dags: Mapping[str, Dag],
    now: datetime,
    hint: str | None = None,
) -> dict[str, Any]:
    """Make the JSON of the grid.

    Args:
        fleets: all fleets, in order. A fleet whose DAG of months is not in `dags` is left out.
        dags: the DAGs that the user may read, by id. A fleet's weeks are shown if their DAG is among them.
        now: the current time in UTC.
        hint: why there is no snapshot, and what to run.
    """
    here = freshness.names_here()
    shown = [_fleet(fleet, snapshot, dags, now, here) for fleet in fleets if months_dag_id(fleet) in dags]
    return {
        "now": now.isoformat(timespec="seconds"),
        "snapshot": snapshot
        and {"written_at": snapshot.written_at, "kind": snapshot.at.kind, "place": snapshot.at.place},
        "hint": hint,
        "is_busy": any(_is_busy(fleet) for fleet in shown),
        "states": [
            {"name": state, "label": state.replace("_", " "), "mark": mark, "meaning": meaning}
            for state, mark, meaning in LEGEND
        ],
        "fleets": shown,
    }


def _is_busy(fleet: Mapping[str, Any]) -> bool:
    """Whether the page must ask again soon. Queued runs of a paused DAG may stay so for days."""
    months = {State.RUNNING} if fleet["is_paused"] else {State.QUEUED, State.RUNNING}
    return any(month["state"] in months for month in fleet["months"]) or any(
        week["state"] == WeekState.RUNNING for week in fleet["weeks"]
    )


def _fleet(
    fleet: str, snapshot: Snapshot | None, dags: Mapping[str, Dag], now: datetime, here: Collection[str]
) -> dict[str, Any]:
    dag = dags[months_dag_id(fleet)]
    months = cells(fleet, months_until(fleet, now.date()), snapshot, dag.runs, now, here)
    counts = Counter(cell.state for cell in months)
    return {
        "name": fleet,
        "title": catalogue.fleet(fleet).title,
        "dag_id": dag.dag_id,
        "first_month": catalogue.fleet(fleet).first_month,
        "is_paused": dag.is_paused,
        "may_trigger": dag.may_trigger,
        "why_not": dag.why_not,
        # Also one whose runs only wait for the TLC, which keeps Airflow from starting another.
        "has_backfill": any(
            run.state in ACTIVE and (run.is_backfill or run.run_id.startswith(OF_PAGE)) for run in dag.runs
        ),
        "months": [cell.as_json() for cell in months],
        "counts": {state: counts[state] for state, *_ in LEGEND if counts[state]},
        "weeks": _weeks(fleet, snapshot, dags.get(weeks_dag_id(fleet))),
        "weeks_dag_id": weeks_dag_id(fleet),
    }


def months_until(fleet: str, today: date) -> list[Month]:
    """The fleet's months, from its first one to the last one that has ended."""
    first, last = catalogue.fleet(fleet).first_month, Month.of(today.replace(day=1) - timedelta(days=1))
    return month_range(first, last) if first <= last else []


def cells(
    fleet: str,
    months: Sequence[str],
    snapshot: Snapshot | None,
    runs: Sequence[Run],
    now: datetime,
    here: Collection[str] | None = None,
) -> list[MonthCell]:
    """Determine the states of a fleet's months.

    Args:
        runs: the runs of the fleet's DAG of months, ordered by their start.
        here: the names of all files in raw/, as for `freshness.fleet_status`.
    """
    loads = snapshot.months.get(fleet, {}) if snapshot else {}
    refusals = snapshot.refusals.get(fleet, {}) if snapshot else {}
    loaded = {month: load.as_loaded_month for month, load in loads.items()}
    waiting = {run.partition for run in runs if run.waits and run.state in ACTIVE}
    answers = {(fleet, month): Answer(published=False) for month in waiting if month and month not in loads}
    found = _findings(fleet, loaded)
    return [
        _cell(status, loads.get(status.month), refusals.get(status.month), found.get((fleet, status.month)), now)
        for status in freshness.fleet_status(fleet, months, loaded, answers, runs, now, here)
    ]


def _findings(fleet: str, loaded: Mapping[str, LoadedMonth]) -> dict[tuple[str, str], editions.Finding]:
    try:
        return editions.findings({fleet: loaded})
    except editions.AnswersError as error:  # the DAG that keeps the ledger fails for it, and says what to do
        log.warning("the page shows no newer editions: %s", error)
        return {}


def _cell(
    status: freshness.MonthStatus,
    load: Loaded | None,
    refusal: Refusal | None,
    finding: editions.Finding | None,
    now: datetime,
) -> MonthCell:
    run = status.run
    state, note = _state(status, load, refusal, finding, now)
    return MonthCell(
        month=status.month,
        state=state,
        load=load,
        refusal=refusal,
        run_id=run.run_id if run else load.run_id if load else None,
        failed=status.failed,
        note=note,
    )


def _state(
    status: freshness.MonthStatus,
    load: Loaded | None,
    refusal: Refusal | None,
    finding: editions.Finding | None,
    now: datetime,
) -> tuple[State, str | None]:
    """The state of a month, and a sentence that qualifies it."""
    run = status.run
    if status.state == freshness.State.RUNNING and run:
        return (State.QUEUED if run.state == "queued" else State.RUNNING), None
    has_failed = status.state in (freshness.State.FAILED, freshness.State.LOADED_FAILED)
    if refusal and (not has_failed or (run and run.run_id == refusal.run_id)):
        return State.REFUSED, "The edition that was loaded before is kept." if load else "Nothing is loaded."
    if has_failed:
        return State.FAILED, "The month that was loaded before is kept." if load else None
    note = "The last run was cancelled." if run and run.cancelled else None
    if load:
        if finding == editions.Finding.WITHDRAWN:
            return State.WITHDRAWN, note
        if finding == editions.Finding.REPUBLISHED or status.state == freshness.State.NEW_EDITION:
            return State.NEWER_EDITION, note
        return (State.WITH_WARNINGS if load.warnings else State.LOADED), note
    if status.downloaded is not None:
        return State.DOWNLOADED, note
    if status.published is False:
        return State.NOT_PUBLISHED, note
    if status.state == freshness.State.MISSING:
        return State.PUBLISHED, note
    if now.date() - Month(status.month).end > SURELY_PUBLISHED:
        return State.PUBLISHED, note or "By its age: nobody has asked the TLC's site."
    return State.NOT_PUBLISHED, note or "By its age: nobody has asked the TLC's site."


def edition_label(load: Loaded) -> str:
    """The loaded edition in a few characters: the beginning of its ETag, and its date."""
    status = freshness.MonthStatus("", "", None, None, None, load.as_loaded_month, None, freshness.State.FRESH)
    return status.edition


def _weeks(fleet: str, snapshot: Snapshot | None, dag: Dag | None) -> list[dict[str, Any]]:
    """The weeks from the first to the last that is counted, has a run, or lies in loaded months.

    There are none for a user who may not read their DAG.
    """
    if dag is None:
        return []
    counted = snapshot.weeks.get(fleet, {}) if snapshot else {}
    loaded = snapshot.months.get(fleet, {}) if snapshot else {}
    newest = {run.partition: run for run in dag.runs if run.partition}
    mondays = {*counted, *newest, *(week_range(min(loaded), max(loaded)) if loaded else ())}
    mondays = {str(monday) for monday in mondays}
    return [
        {"monday": monday, "state": week_state(monday in counted, newest.get(monday)), "trips": counted.get(monday)}
        for monday in _all_weeks(mondays)
    ]


def _all_weeks(mondays: Iterable[str]) -> list[str]:
    """All weeks from the first to the last of `mondays`."""
    known = sorted(mondays)
    if not known:
        return []
    first, last = monday_of(known[0]), monday_of(known[-1])
    return [(first + timedelta(weeks=n)).isoformat() for n in range((last - first).days // 7 + 1)]


def week_state(is_counted: bool, run: Run | None) -> WeekState:
    """The state of a week, from its newest run. A run that waits for its months does not count as running."""
    if run and run.state in ACTIVE and not run.waits:
        return WeekState.RUNNING
    if run and run.state == "failed" and not run.cancelled:
        return WeekState.FAILED
    return WeekState.COUNTED if is_counted else WeekState.NOT_COUNTED
