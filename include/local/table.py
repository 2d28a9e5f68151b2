"""The table that a backfill ends with: what was loaded and made for each month or week, and where it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tabulate import tabulate

from include.nyc_taxi import settings
from include.nyc_taxi.reports.by_week import chart_path, counted_weeks, csv_path
from include.nyc_taxi.trips.loaded import LoadedMonth, loaded_months
from warehouse_hook import WarehouseHook

if TYPE_CHECKING:
    from include.local.runs import Run

MONTH_HEADER = ("month", "run", "trips in file", "trips loaded", "seconds", "outputs")
WEEK_HEADER = ("week", "run", "trips", "total amount", "seconds")


def loaded(fleet: str) -> dict[str, LoadedMonth]:
    """What is loaded of the fleet, by month."""
    with WarehouseHook().transaction() as con:
        return loaded_months(con, fleet)


def of_months(fleet: str, months: list[str], runs: Mapping[str, Run]) -> str:
    """One line a month, then the folders. Numbers come from the warehouse's `loads`, not from what tasks said."""
    loads = loaded(fleet)
    outputs = settings.outputs_dir(fleet)
    rows = []
    for month in months:
        load = loads.get(month)
        made = sorted(path.name for path in outputs.glob(f"*_{month}.*"))
        rows.append(
            (
                month,
                _state(runs.get(month)),
                f"{load.rows_in_file:,}" if load else "-",
                f"{load.rows_loaded:,}" if load else "-",
                _seconds(runs.get(month)),
                ", ".join(made) or "-",
            )
        )
    files = [("all months", path.name) for path in sorted(outputs.glob("manhattan_*")) if "_20" not in path.name]
    align = ("left", "left", "right", "right", "right", "left")
    return _tables(rows, MONTH_HEADER, align, fleet, files)


def of_weeks(fleet: str, mondays: list[str], runs: Mapping[str, Run]) -> str:
    """One line a week, then the folders. Numbers come from the warehouse's `trips_by_week`."""
    with WarehouseHook().opened() as con:
        weeks = {monday.isoformat(): week for monday, week in counted_weeks(con, fleet).items()}
    rows = []
    for monday in mondays:
        week = weeks.get(monday)
        trips = f"{week.num_trips:,}" if week else "-"
        amount = f"{week.total_amount:,.2f}" if week and week.total_amount is not None else "-"
        rows.append((monday, _state(runs.get(monday)), trips, amount, _seconds(runs.get(monday))))
    outputs = settings.outputs_dir(fleet)
    files = [("all weeks", path.name) for path in (csv_path(outputs), chart_path(outputs)) if path.exists()]
    return _tables(rows, WEEK_HEADER, ("left", "left", "right", "right", "right"), fleet, files)


def _state(run: Run | None) -> str:
    """The run's state; one that skipped its work has not done what was asked for, though Airflow calls it a success."""
    if run is None:
        return "not run"
    return "nothing new" if run.state == "success" and run.skipped else run.state


def _seconds(run: Run | None) -> str:
    return f"{run.seconds:.1f}" if run and run.seconds is not None else "-"


def _tables(
    rows: list[tuple[str, ...]],
    header: tuple[str, ...],
    align: tuple[str, ...],
    fleet: str,
    files: list[tuple[str, str]],
) -> str:
    places = [("warehouse", WarehouseHook().place), ("outputs", str(settings.outputs_dir(fleet))), *files]
    made = tabulate(rows, header, disable_numparse=True, colalign=align)
    return f"{made}\n\n{tabulate(places, tablefmt='plain')}"
