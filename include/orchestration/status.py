"""The report that `make status` prints and `warehouse_status` logs.

It combines what the warehouse, the TLC's site and Airflow know about each month.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tabulate import tabulate

from include.nyc_taxi import catalogue, settings
from include.nyc_taxi.source import site
from include.nyc_taxi.status import freshness, text
from include.nyc_taxi.trips.loaded import LoadedMonth, months_by_fleet
from include.orchestration import metrics
from include.orchestration.compat import IS_AIRFLOW_3, in_a_task_of_airflow_3
from include.orchestration.month_runs import all_runs

if TYPE_CHECKING:
    import requests

    from warehouse_hook import WarehouseHook

CONNECT_AND_READ_TIMEOUT = (5, 10)
"""Seconds. Shorter than for downloads, because somebody may be waiting for the report."""


def report(warehouse: WarehouseHook, fleets: Sequence[str], *, draw: Callable[..., str] = tabulate) -> str:
    """Return a table of all months, followed by notes and suggested commands, one sentence per line.

    The warehouse is read first, and closed before the site is asked. A missing warehouse file is not created.

    Raises:
        FleetError: a fleet is not in the catalogue.
        SettingError: `NYC_TAXI_FIRST_MONTH` is not a month.
        WarehouseLockedError: another process has had the warehouse open for longer than the hook may wait.
    """
    now = datetime.now(UTC)
    loads, notes = _loads(warehouse, fleets)
    runs = {fleet: all_runs(f"taxi_trips_{fleet}") for fleet in fleets}
    first, today = settings.first_month(), now.date()
    months = {
        fleet: freshness.months_of(fleet, first, loads[fleet], [run.month for run in runs[fleet]], today)
        for fleet in fleets
    }
    wanted = [
        (fleet, month) for fleet in fleets for month in freshness.months_to_ask(fleet, months[fleet], loads[fleet])
    ]
    answers, problem = _ask(wanted)
    if problem:
        notes.append(f"?: not known whether published; {problem}.")
    found: list[freshness.MonthStatus] = []
    here = freshness.names_here()
    for fleet in fleets:
        found += freshness.fleet_status(fleet, months[fleet], loads[fleet], answers, runs[fleet], now, here)
    if not problem:  # otherwise it is not known what the TLC has published
        metrics.of_status(fleets, found)
    notes += _abandoned_tasks()
    lines = [*text.sentences(found, loading_command()), *notes]
    return f"{text.render(found, draw=draw)}\n\n" + "\n".join(lines)


def _loads(warehouse: WarehouseHook, fleets: Sequence[str]) -> tuple[dict[str, dict[str, LoadedMonth]], list[str]]:
    """Return each fleet's loaded months, and notes on the warehouse."""
    if not warehouse.exists():
        return {fleet: {} for fleet in fleets}, [f"There is no warehouse yet at {warehouse.place}."]
    with warehouse.opened() as con:
        loads = months_by_fleet(con, fleets)
    return loads, [warehouse.advice] if warehouse.advice else []


def _ask(wanted: list[tuple[str, str]]) -> tuple[dict[tuple[str, str], site.Answer], str | None]:
    """Ask the TLC's site about months; return its answers, and why some are missing, or None."""
    from tlc_hook import TlcHook

    if not wanted:
        return {}, None
    if _is_demo() and not settings.tlc_url():
        # The TLC's real site does not have the demo's files, and the port of the simulated site changes.
        return {}, "the demo's simulated TLC can only be asked from its own Airflow, as the DAG warehouse_status does"
    hook = TlcHook("HEAD")
    # The connection is looked up once for all requests, because a task's look-up is not thread-safe.
    session = hook.get_conn()

    def head(path: str, headers: Mapping[str, str]) -> requests.Response:
        url = hook.url_from_endpoint(path)
        return session.head(url, headers=headers, timeout=CONNECT_AND_READ_TIMEOUT, allow_redirects=True)

    with session:
        questions = {month: site.Question(catalogue.file_path(*month)) for month in wanted}
        answers, problems = site.ask_site(head, questions)
    return answers, next((f"{hook.base_url} could not be asked ({why})" for why in problems.values()), None)


def _abandoned_tasks() -> list[str]:
    """Describe tasks that would hold a slot of the pool forever. A task of Airflow 3 cannot find them."""
    if in_a_task_of_airflow_3():
        return []
    from include.orchestration import pool_holders

    return [
        f"{holder}: it holds a slot of the pool `{holder.pool}`; `make standalone` and `make backfill` release it."
        for holder in pool_holders.find()
        if holder.is_abandoned
    ]


def loading_command() -> str:
    """The command that loads months into this warehouse on this line; FLEET, FROM and TO are still to be appended."""
    command = "make demo" if _is_demo() else "make backfill"
    return command if IS_AIRFLOW_3 else f"{command} AIRFLOW=2"


def _is_demo() -> bool:
    return bool(os.environ.get("DEMO"))  # make exports variables from its command line
