"""`make status`: how fresh the warehouse is."""

from __future__ import annotations

from collections.abc import Sequence

from include.local.console import say, table
from include.local.warehouse_reader import read_when_free
from include.orchestration.status import report


def run(fleets: Sequence[str]) -> int:
    """Print the report on the fleets; returns the exit status: 0 also if months are missing or have failed."""
    say(read_when_free(lambda hook: report(hook, fleets, draw=table)))
    return 0
