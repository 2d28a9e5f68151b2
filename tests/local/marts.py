"""A warehouse with marts, for tests of dbt: built once by dbt's own program, and copied for each test.

A start of dbt takes seconds of processor time, so tests share what they can, and start it as rarely as possible.
"""

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import duckdb

from include.local.processes import home
from include.nyc_taxi import catalogue, warehouse
from include.nyc_taxi.months import Month
from include.nyc_taxi.trips.load import load_month
from include.nyc_taxi.trips.zones import load_zones
from include.tlc_simulator.trips import write_month
from tests.conftest import ROOT

Query = Callable[[str], list[tuple[Any, ...]]]
Load = Callable[..., None]
FIXTURES = ROOT / "tests" / "fixtures"
PUBLISHED = {
    (fleet, month): FIXTURES / catalogue.file_name(fleet, month)
    for fleet, month in (
        ("green", "2023-01"),
        ("green", "2023-02"),
        ("yellow", "2020-04"),
        ("fhv", "2020-04"),
        ("fhvhv", "2020-04"),
    )
}
"""Months of all fleets: the first rows of real files."""


def load_files(con: duckdb.DuckDBPyConnection, files: dict[tuple[str, str], Path]) -> None:
    """Load months from files, of whatever size the months were before."""
    for (fleet, month), path in files.items():
        load_month(con, fleet, Month(month), path, "run 1", accept=True)


def load_the_tlcs_zones(con: duckdb.DuckDBPyConnection) -> None:
    """Load all zones as the TLC's lookup names them, without their shapes."""
    with (ROOT / "include" / "tlc_simulator" / "taxi_zone_lookup.csv").open(newline="") as file:
        rows = [
            (int(row["LocationID"]), row["Zone"], row["Borough"], row["service_zone"], None)
            for row in csv.DictReader(file)
        ]
    load_zones(con, rows)


def make_warehouse(path: Path) -> None:
    """A warehouse file with zones and the months of `PUBLISHED`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(path)) as con:
        warehouse.ensure_tables(con)
        load_the_tlcs_zones(con)
        load_files(con, PUBLISHED)


def simulated(folder: Path, months: Iterable[tuple[str, str]], rows: int) -> dict[tuple[str, str], Path]:
    """Files of made-up months."""
    files = {}
    for fleet, month in months:
        path = files[fleet, month] = folder / str(rows) / catalogue.file_name(fleet, month)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_month(path, fleet, month, rows=rows)
    return files


def results() -> dict[str, str]:
    """What dbt's last run did: the status of each node by its name, without the project's."""
    found = json.loads((home() / "dbt" / "target" / "run_results.json").read_text())["results"]
    return {result["unique_id"].split(".", 2)[2]: result["status"] for result in found}
