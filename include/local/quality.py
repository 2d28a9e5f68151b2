"""`make quality`: what the audit of a month found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.local.console import say, table
from include.local.warehouse_reader import read_when_free
from include.nyc_taxi import catalogue
from include.nyc_taxi.audit import report
from include.nyc_taxi.months import Month

if TYPE_CHECKING:
    from warehouse_hook import WarehouseHook


def run(fleet: str, month: str) -> int:
    """Print the month's checks; returns the exit status: 0 also if a rule is broken."""
    name, which = catalogue.fleet(fleet).name, Month(month)
    say(read_when_free(lambda hook: _report(hook, name, which)))
    return 0


def _report(hook: WarehouseHook, fleet: str, month: Month) -> str:
    if not hook.exists():
        return f"There is no warehouse yet at {hook.place}."
    with hook.opened() as con:
        return report.report(con, fleet, month, draw=table)
