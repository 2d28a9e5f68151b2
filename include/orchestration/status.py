"""What `make status` prints and `warehouse_status` logs: gathered from the warehouse, the TLC's site and Airflow."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tabulate import tabulate

from include.nyc_taxi import settings
from include.nyc_taxi.source import site
from include.nyc_taxi.status import freshness, text
from include.nyc_taxi.trips.loaded import LoadedMonth, months_by_fleet
from include.orchestration.compat import IS_AIRFLOW_3
from include.orchestration.month_runs import all_runs, in_a_task_of_airflow_3

if TYPE_CHECKING:
    import requests

    from warehouse_hook import WarehouseHook

CONNECT_AND_READ_TIMEOUT = (5, 10)
"""Seconds. Shorter than a download's: the report is read by someone who waits for it."""


def report(warehouse: WarehouseHook, fleets: Sequence[str], *, draw: Callable[..., str] = tabulate) -> str:
    """The table of all months, and below it what to know and what to do, a sentence a line.

    The warehouse is read first and closed again before the site is asked. A file that is not there is not made.

    Raises:
        FleetError, MonthError: a fleet is not in the catalogue, or `NYC_TAXI_FIRST_MONTH` is no month.
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
    for fleet in fleets:
        found += freshness.fleet_status(fleet, months[fleet], loads[fleet], answers, runs[fleet], now)
    notes += _nobodys_tasks()
    lines = [*text.sentences(found, loading_command()), *notes]
    return f"{text.render(found, draw=draw)}\n\n" + "\n".join(lines)


def _loads(warehouse: WarehouseHook, fleets: Sequence[str]) -> tuple[dict[str, dict[str, LoadedMonth]], list[str]]:
    """Each fleet's loaded months, and what there is to say of the warehouse."""
    if not warehouse.exists():
        return {fleet: {} for fleet in fleets}, [f"There is no warehouse yet at {warehouse.place}."]
    with warehouse.opened() as con:
        return months_by_fleet(con, fleets), []


def _ask(wanted: list[tuple[str, str]]) -> tuple[dict[tuple[str, str], site.Answer], str | None]:
    """What the TLC's site says of months, and why some answers are lacking, or None."""
    from tlc_hook import TlcHook

    if not wanted:
        return {}, None
    if _is_demo() and not settings.tlc_url():
        # The TLC's real site knows nothing of the demo's files, and the simulated one's port changes.
        return {}, "only what runs beside the demo's simulated TLC can ask it, as the DAG warehouse_status can"
    hook = TlcHook("HEAD")
    # One look-up of the connection for all requests: a task's way to it is not made for threads.
    session = hook.get_conn()

    def head(path: str) -> requests.Response:
        return session.head(hook.url_from_endpoint(path), timeout=CONNECT_AND_READ_TIMEOUT, allow_redirects=True)

    with session:
        answers, problem = site.ask_site(head, wanted)
    return answers, problem and f"{hook.base_url} could not be asked ({problem})"


def _nobodys_tasks() -> list[str]:
    """Tasks that hold a slot of the pool for ever; a task of Airflow 3 cannot ask for them."""
    if in_a_task_of_airflow_3():
        return []
    from include.orchestration import pool_holders

    return [
        f"{holder}: it holds a slot of the pool `warehouse`; `make standalone` and `make backfill` release it."
        for holder in pool_holders.find()
        if holder.is_nobodys
    ]


def loading_command() -> str:
    """What loads months, on this line and in this warehouse, once FLEET, FROM and TO are appended."""
    command = "make demo" if _is_demo() else "make backfill"
    return command if IS_AIRFLOW_3 else f"{command} AIRFLOW=2"


def _is_demo() -> bool:
    return bool(os.environ.get("DEMO"))  # make hands what is set on its command line on to all that it starts
