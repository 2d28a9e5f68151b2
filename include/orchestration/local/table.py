"""The table that a backfill ends with: what was loaded and made for each month, and where it is."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tabulate import tabulate

from include.nyc_taxi import settings
from include.nyc_taxi.load import loaded_months
from warehouse_hook import WarehouseHook

if TYPE_CHECKING:
    from include.orchestration.local.runs import Run

HEADER = ("month", "run", "trips in file", "trips loaded", "seconds", "outputs")


def summary(fleet: str, months: list[str], runs: Mapping[str, Run]) -> str:
    """One line a month, then the folders. Numbers come from the warehouse's `loads`, not from what tasks said."""
    hook = WarehouseHook()
    with contextlib.closing(hook.get_conn()) as con:
        loads = loaded_months(con, fleet)
    outputs = settings.outputs_dir(fleet)
    rows = []
    for month in months:
        run, load = runs.get(month), loads.get(month)
        made = sorted(path.name for path in outputs.glob(f"*_{month}.*"))
        rows.append(
            (
                month,
                run.state if run else "not run",
                f"{load.rows_in_file:,}" if load else "-",
                f"{load.rows_loaded:,}" if load else "-",
                f"{run.seconds:.1f}" if run and run.seconds is not None else "-",
                ", ".join(made) or "-",
            )
        )
    places = [("warehouse", hook.get_database()), ("outputs", str(outputs))]
    places += [("all months", path.name) for path in sorted(outputs.glob("manhattan_*")) if "_20" not in path.name]
    made = tabulate(rows, HEADER, disable_numparse=True, colalign=("left", "left", "right", "right", "right", "left"))
    return f"{made}\n\n{tabulate(places, tablefmt='plain')}"
