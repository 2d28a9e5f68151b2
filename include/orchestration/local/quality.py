"""`make quality`: what the audit of a month has found, on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.nyc_taxi import quality, tlc, warehouse
from include.nyc_taxi.months import first_day
from include.orchestration.local.status import print_report

if TYPE_CHECKING:
    from warehouse_hook import WarehouseHook


def show(fleet: str, month: str) -> int:
    """Print the month's checks; returns the exit status: 0 also where a rule is broken."""
    return print_report("quality", lambda hook: _report(hook, fleet, month))


def _report(hook: WarehouseHook, fleet: str, month: str) -> str:
    tlc.fleet(fleet)
    first_day(month)
    if not hook.exists():
        return f"There is no warehouse yet at {hook.place}."
    with hook.opened() as con:
        warehouse.ensure_tables(con)
        return quality.report(con, fleet, month)
