"""The report at the end of a backfill: what each month or week has loaded and made, and where the files are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tabulate import tabulate

from include.local.console import table
from include.nyc_taxi import settings
from include.nyc_taxi.reports.by_week import chart_path, counted_weeks, csv_path
from include.nyc_taxi.trips.loaded import LoadedMonth, loaded_months
from warehouse_hook import WarehouseHook

if TYPE_CHECKING:
    from include.local.runs import Run

MONTH_COLUMNS = ("month", "run", "trips in file", "trips loaded", "seconds", "outputs")
WEEK_COLUMNS = ("week", "run", "trips", "total amount", "seconds")
NUMBERS = ("trips in file", "trips loaded", "trips", "total amount", "seconds")


def loaded(fleet: str) -> dict[str, LoadedMonth]:
    """The fleet's loaded months."""
    with WarehouseHook().transaction() as con:
        return loaded_months(con, fleet)


def of_months(fleet: str, months: list[str], runs: Mapping[str, Run]) -> str:
    """One line per month, then the folders. The numbers come from the warehouse's table `loads`."""
    loads = loaded(fleet)
    outputs = settings.outputs_dir(fleet)
    rows = []
    for month in months:
        load, run = loads.get(month), runs.get(month)
        trips = (f"{load.rows_in_file:,}", f"{load.rows_loaded:,}") if load else ("-", "-")
        files_and_records = outputs.glob(f"[!.]*_{month}.*")
        made = sorted(path.name for path in files_and_records if not path.name.endswith(".source.json"))
        rows.append((month, _state(run), *trips, _seconds(run), ", ".join(made) or "-"))
    files = [("all months", path.name) for path in sorted(outputs.glob("manhattan_*")) if "_20" not in path.name]
    return _report(rows, MONTH_COLUMNS, fleet, files)


def of_weeks(fleet: str, mondays: list[str], runs: Mapping[str, Run]) -> str:
    """One line per week, then the folders. The numbers come from the warehouse's table `trips_by_week`."""
    with WarehouseHook().opened() as con:
        weeks = {monday.isoformat(): week for monday, week in counted_weeks(con, fleet).items()}
    rows = []
    for monday in mondays:
        week, run = weeks.get(monday), runs.get(monday)
        trips = f"{week.num_trips:,}" if week else "-"
        amount = f"{week.total_amount:,.2f}" if week and week.total_amount is not None else "-"
        rows.append((monday, _state(run), trips, amount, _seconds(run)))
    outputs = settings.outputs_dir(fleet)
    files = [("all weeks", path.name) for path in (csv_path(outputs), chart_path(outputs)) if path.exists()]
    return _report(rows, WEEK_COLUMNS, fleet, files)


def _state(run: Run | None) -> str:
    """The run's state. Airflow calls a run that skipped its work a success, but it has not done what was asked for."""
    if run is None:
        return "not run"
    return "nothing new" if run.state == "success" and run.skipped else run.state


def _seconds(run: Run | None) -> str:
    return f"{run.seconds:.1f}" if run and run.seconds is not None else "-"


def _report(rows: Sequence[tuple[str, ...]], columns: Sequence[str], fleet: str, files: list[tuple[str, str]]) -> str:
    places = [("warehouse", WarehouseHook().place), ("outputs", str(settings.outputs_dir(fleet))), *files]
    made = table(rows, columns, colalign=["right" if column in NUMBERS else "left" for column in columns])
    return f"{made}\n\n{tabulate(places, tablefmt='plain')}"
