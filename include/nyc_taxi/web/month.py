"""The data of the page's panel about one month of a fleet."""

import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import quote

from include.nyc_taxi import catalogue, settings
from include.nyc_taxi.audit import rules
from include.nyc_taxi.months import Month, monday_of, months_of_week
from include.nyc_taxi.source.download import month_path
from include.nyc_taxi.web import grid, pages
from include.nyc_taxi.web.snapshot import Check, Loaded, Refusal, Snapshot

HISTORY_MONTHS = 36
SHARE_OF_TRIPS = "share of trips"


class Links(Protocol):
    """The addresses of pages in Airflow's web UI, which differ between its lines."""

    def dag(self, dag_id: str) -> str: ...
    def run(self, dag_id: str, run_id: str) -> str: ...
    def task(self, dag_id: str, run_id: str, task_id: str) -> str: ...
    def log(self, dag_id: str, run_id: str, task_id: str, attempt: int) -> str: ...


@dataclass(frozen=True)
class FailedTask:
    """A task that has failed for good, or whose upstream task has.

    Attributes:
        attempt: the number of its last try; 0 if it never started.
    """

    task_id: str
    attempt: int


@dataclass(frozen=True)
class Facts:
    """What Airflow knows about a month beyond its DAG's runs.

    Attributes:
        seconds: the duration of each task's work, by month and task, from the newest asset events of the months that
            `shown_loads` names.
        failed: the failed tasks by run, for the runs of the month.
        links: the addresses of pages in the web UI.
        base: the path before `/outputs` and `/files` in the addresses of outputs.
        line: 3 or 2, Airflow's main version.
        site: the address of the TLC's site, without a login; the real one's if it is empty.
        may_see: whether the user may see an output, by its path.
    """

    links: Links
    base: str
    line: int
    seconds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    failed: Mapping[str, Sequence[FailedTask]] = field(default_factory=dict)
    site: str = ""
    may_see: pages.MaySee = pages.everything


def month_page(
    fleet: str,
    month: Month,
    snapshot: Snapshot | None,
    dag: grid.Dag,
    facts: Facts,
    now: datetime,
) -> dict[str, Any]:
    """Make the JSON of the panel.

    Args:
        dag: the fleet's DAG of months, with at least the runs of this month.

    Raises:
        FleetError: there is no such fleet.
        MonthError: the month is before the fleet's first one.
    """
    catalogue.fleet(fleet).layout(month)
    (cell,) = grid.cells(fleet, [month], snapshot, [run for run in dag.runs if run.partition == month], now)
    last = max(grid.months_until(fleet, now.date()), default=month)
    load, refusal = cell.load, cell.refusal
    return {
        "fleet": fleet,
        "title": f"{catalogue.fleet(fleet).title}, {month.label}",
        "month": month,
        "state": cell.state,
        "note": cell.note,
        "previous": month.previous if month > catalogue.fleet(fleet).first_month else None,
        "next": month.next if month < last else None,
        "load": load and _load(load),
        "refusal": refusal and _refusal(fleet, refusal),
        "history": _history(fleet, month, snapshot, facts.seconds),
        "checks": [_check(fleet, check, was_published=True) for check in _ordered(fleet, load.checks)] if load else [],
        "stats_url": _file_url(facts.base, f"{fleet}/manhattan_stats_{month}.geojson"),
        "map_url": _file_url(facts.base, f"{fleet}/manhattan_map_{month}.png"),
        "top_zones": _top_zones(load, snapshot),
        "weeks": _weeks(fleet, month, snapshot, facts),
        "inputs": _inputs(fleet, month, load, facts),
        "outputs": _outputs(fleet, month, facts),
        "runs": [_run(dag.dag_id, run, facts) for run in reversed(dag.runs) if run.partition == month],
        "commands": _commands(fleet, month, refusal, [x for x in dag.runs if x.partition == month], facts),
        "actions": {"may": dag.may_trigger, "why_not": dag.why_not, "is_paused": dag.is_paused},
    }


def _load(load: Loaded) -> dict[str, Any]:
    names = ("rows", "bytes", "etag", "last_modified", "source_url", "loaded_at", "run_id", "simulated", "changes")
    return {name: getattr(load, name) for name in names} | {"unknown_columns": list(load.unknown_columns)}


def _refusal(fleet: str, refusal: Refusal) -> dict[str, Any]:
    broken = [check for check in _ordered(fleet, refusal.checks) if not check.passed]
    return {
        "at": refusal.at,
        "run_id": refusal.run_id,
        "rules": [_check(fleet, check, was_published=False) for check in broken],
    }


def _ordered(fleet: str, checks: Iterable[Check]) -> list[Check]:
    """The checks that are not passed first, and then in the order in which the audit applies the rules."""
    order = {name: number for number, name in enumerate(_about_rules(fleet))}
    return sorted(checks, key=lambda check: (check.passed, order.get(check.rule, len(order)), check.rule))


def _about_rules(fleet: str) -> dict[str, tuple[str, str]]:
    """The unit and the reason of each rule, by name."""
    months = {rule.name: (rule.unit, rule.reason) for rule in rules.MONTH_RULES}
    return months | {rule.name: (SHARE_OF_TRIPS, rule.reason) for rule in rules.rules_of(catalogue.fleet(fleet))}


def _check(fleet: str, check: Check, *, was_published: bool) -> dict[str, Any]:
    unit, reason = _about_rules(fleet).get(check.rule, ("", "This rule is no longer applied."))
    return {
        "rule": check.rule,
        "severity": check.severity,
        "value": check.value if check.value is None or math.isfinite(check.value) else None,  # JSON has no infinity
        "limit": check.limit,
        "unit": unit,
        "passed": check.passed,
        # A month that breaks such a rule is published only if somebody accepts the edition.
        "accepted": was_published and not check.passed and check.severity == rules.Severity.ERROR,
        "detail": check.detail,
        "reason": reason,
    }


def shown_loads(fleet: str, month: Month, snapshot: Snapshot | None) -> dict[str, Loaded]:
    """The loaded months before this one, at most HISTORY_MONTHS, and this one, the oldest first."""
    loads = snapshot.months.get(fleet, {}) if snapshot else {}
    shown = [past for past in sorted(loads) if past <= month]
    return {past: loads[past] for past in shown[-HISTORY_MONTHS - (month in loads) :]}


def _history(
    fleet: str, month: Month, snapshot: Snapshot | None, seconds: Mapping[str, Mapping[str, float]]
) -> list[dict[str, Any]]:
    """The months that `shown_loads` names, as the panel's charts have them."""
    return [
        {
            "month": past,
            "rows": load.rows,
            "bytes": load.bytes,
            "seconds": dict(seconds.get(past, {})),
            "warnings": load.warnings,
        }
        for past, load in shown_loads(fleet, month, snapshot).items()
    ]


def _top_zones(load: Loaded | None, snapshot: Snapshot | None) -> list[dict[str, Any]]:
    names = snapshot.zones if snapshot else {}
    tops = load.top_zones if load else ()
    return [{"zone_id": zone, "zone": names.get(zone, f"Zone {zone}"), "trips": trips} for zone, trips in tops]


def _weeks(fleet: str, month: Month, snapshot: Snapshot | None, facts: Facts) -> list[dict[str, Any]]:
    """The counted weeks that the month overlaps."""
    weeks = snapshot.weeks.get(fleet, {}) if snapshot else {}
    return [
        {"monday": monday, "trips": trips, "url": facts.links.dag(grid.weeks_dag_id(fleet))}
        for monday, trips in sorted(weeks.items())
        if month in months_of_week(monday_of(monday))
    ]


def _inputs(fleet: str, month: Month, load: Loaded | None, facts: Facts) -> list[dict[str, Any]]:
    """What the month is made from: the TLC's file, and the zones."""
    address = load.source_url if load else (facts.site or settings.DEFAULT_TLC_URL).rstrip("/")
    url = address if load else address + catalogue.file_path(fleet, month)
    here = month_path(fleet, month).name
    file = {"label": f"The TLC's file {here}", "url": url if url.startswith(("http://", "https://")) else None}
    return [file, {"label": "The taxi zones (DAG taxi_zones)", "url": facts.links.dag("taxi_zones")}]


def _outputs(fleet: str, month: Month, facts: Facts) -> list[dict[str, Any]]:
    """The outputs that exist, with the addresses of their pages."""
    names = (
        f"manhattan_stats_{month}.geojson",
        f"manhattan_map_{month}.png",
        f"manhattan_map_density_{month}.png",
        f"trips_at_airports_{month}.csv",
        f"trips_at_airports_{month}.png",
    )
    paths = [f"{fleet}/{name}" for name in names]
    found = filter(None, (pages.find(path) for path in paths if facts.may_see(path)))
    return [
        {"label": output.name, "url": f"{facts.base}/outputs/{quote(output.path)}", "bytes": output.bytes}
        for output in found
    ]


def _file_url(base: str, path: str) -> str | None:
    """The address of an output's file, which changes with the file: a page that is open shows what is drawn again."""
    found = pages.find(path)
    return f"{base}/files/{quote(path)}?v={found.version}" if found else None


def _run(dag_id: str, run: grid.Run, facts: Facts) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "state": run.state,
        "accepts": run.accepts,
        "started": run.started and run.started.isoformat(timespec="seconds"),
        "ended": run.ended and run.ended.isoformat(timespec="seconds"),
        "url": facts.links.run(dag_id, run.run_id),
        "failed": [
            {
                "task_id": task.task_id,
                "try": task.attempt,
                "log_url": facts.links.log(dag_id, run.run_id, task.task_id, task.attempt),
            }
            for task in facts.failed.get(run.run_id, ())
        ],
    }


def _commands(
    fleet: str, month: Month, refusal: Refusal | None, runs: Sequence[grid.Run], facts: Facts
) -> dict[str, str | None]:
    """The commands that do what the page's buttons do, and one that loads the month again whatever its runs are.

    A date has a time zone, because Airflow would read it in its default time zone otherwise.

    Args:
        runs: the runs of the month, ordered by their start.
    """
    dag_id, start = grid.months_dag_id(fleet), f"{month.first_day}T00:00:00+00:00"
    backfill = (
        f"airflow backfill create --dag-id {dag_id} --from-date {start} --to-date {start} "
        "--reprocess-behavior completed"
        if facts.line == 3
        else f"airflow dags backfill -s {start} -e {start} --reset-dagruns -y {dag_id}"
    )
    newest = runs[-1] if runs else None
    # In a run that was cancelled, the tasks after the failed ones are skipped, and would stay so.
    failed = newest if newest and facts.failed.get(newest.run_id) and not newest.cancelled else None
    # A run that accepts an edition would accept whichever one is there now.
    repeated = newest if newest and not newest.accepts else None
    return {
        "again": _running(dag_id, repeated, facts.line) or _triggering(dag_id, month, again=True),
        "failed": (_running(dag_id, failed, facts.line, " --only-failed") or _triggering(dag_id, month))
        if failed
        else None,
        "accept": _accepting(dag_id, month, refusal) if refusal else None,
        "backfill": backfill,
    }


def _running(dag_id: str, run: grid.Run | None, line: int, option: str = "") -> str | None:
    """The command that clears a run; None if there is none, or if 2.11 would not run it again when cleared."""
    if run and line == 3:
        return f"airflow dags clear {dag_id} --run-id {shlex.quote(run.run_id)}{option} --yes"
    if run and run.date and not run.is_backfill:
        date = run.date.isoformat()
        return f"airflow tasks clear {dag_id} --start-date {date} --end-date {date}{option} --yes"
    return None


def _triggering(dag_id: str, month: Month, **wishes: bool) -> str:
    """The command that starts a new run of the month."""
    return f"airflow dags trigger {dag_id} --conf '{json.dumps({'month': month} | wishes)}'"


def _accepting(dag_id: str, month: Month, refusal: Refusal) -> str | None:
    """The command that loads a refused edition anyway; None if it breaks a rule that has no exceptions."""
    broken = {check.rule for check in refusal.checks if not check.passed and check.severity == rules.Severity.ERROR}
    if not broken <= rules.ACCEPTABLE:
        return None
    return _triggering(dag_id, month, accept=True)
