"""`make quality`: what the audit of a month has found, on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.local.status import print_report
from include.nyc_taxi import catalogue
from include.nyc_taxi.audit import report
from include.nyc_taxi.months import Month

if TYPE_CHECKING:
    from warehouse_hook import WarehouseHook


def show(fleet: str, month: str) -> int:
    """Print the month's checks; returns the exit status: 0 also where a rule is broken."""
    return print_report("quality", lambda hook: _report(hook, fleet, month))


def _report(hook: WarehouseHook, fleet: str, month: str) -> str:
    catalogue.fleet(fleet)
    which = Month(month)
    if not hook.exists():
        return f"There is no warehouse yet at {hook.place}."
    with hook.opened() as con:
        return report.report(con, fleet, which)
