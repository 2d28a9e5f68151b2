"""Reading the warehouse for somebody at a terminal, who does not wait for minutes until a task has closed it."""

from __future__ import annotations

import re
from collections.abc import Callable

from include.local.console import say
from include.local.errors import CommandError
from warehouse_hook import WarehouseHook, WarehouseLockedError

LOCK_TIMEOUT_SECONDS = 30.0


def read_when_free(read: Callable[[WarehouseHook], str]) -> str:
    """What `read` makes of the warehouse, as soon as no other process has it open.

    Raises:
        CommandError: another process still has it open after LOCK_TIMEOUT_SECONDS.
    """
    try:
        return read(WarehouseHook(lock_timeout=0))
    except WarehouseLockedError as error:
        wait = f"waiting up to {LOCK_TIMEOUT_SECONDS:g} s"
        say(f"{_holder(error)} (a task? a DuckDB shell?) has the warehouse open; {wait} …", error=True)
    try:
        return read(WarehouseHook(lock_timeout=LOCK_TIMEOUT_SECONDS))
    except WarehouseLockedError as error:
        raise CommandError(f"{_holder(error)} still has the warehouse open; try again later") from error


def _holder(error: WarehouseLockedError) -> str:
    pid = re.search(r"pid (\d+)", str(error))
    return f"process {pid.group(1)}" if pid else "another process"
