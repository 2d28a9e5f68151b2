"""`make status`: how fresh the warehouse is, on the terminal."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence

from include.nyc_taxi.errors import NycTaxiError
from include.orchestration.status import report
from warehouse_hook import WarehouseHook, WarehouseLockedError

LOCK_TIMEOUT_SECONDS = 30.0
"""Someone waits at the terminal: no longer than this for a task that has the warehouse open."""


def show(fleets: Sequence[str]) -> int:
    """Print the report on the fleets; returns the exit status: 0 also where months are missing or have failed."""
    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return print_report("status", lambda hook: report(hook, fleets, color=color))


def print_report(command: str, read: Callable[[WarehouseHook], str]) -> int:
    """Print what `read` makes of the warehouse, once no other process has it open; returns the exit status.

    Args:
        command: what was asked of make, for messages.
    """
    try:
        print(_when_free(read))
    except NycTaxiError as error:
        print(f"make {command}: {error}", file=sys.stderr)
        return 2
    except WarehouseLockedError as error:
        print(f"make {command}: {_holder(error)} still has the warehouse open; try again later", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _when_free(read: Callable[[WarehouseHook], str]) -> str:
    try:
        return read(WarehouseHook(lock_timeout=0))
    except WarehouseLockedError as error:
        wait = f"waiting up to {LOCK_TIMEOUT_SECONDS:g} s"
        print(f"{_holder(error)} (a task? a DuckDB shell?) has the warehouse open; {wait} …", file=sys.stderr)
    return read(WarehouseHook(lock_timeout=LOCK_TIMEOUT_SECONDS))


def _holder(error: WarehouseLockedError) -> str:
    pid = re.search(r"pid (\d+)", str(error))
    return f"process {pid.group(1)}" if pid else "another process"
