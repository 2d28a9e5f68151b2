"""The whole archive: load a generated file in the layout of each file that the TLC had published by mid-2024."""

import csv
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import duckdb
import pytest

from include.nyc_taxi import catalogue
from include.nyc_taxi.months import Month
from include.nyc_taxi.reports.by_zone import aggregate_month
from include.nyc_taxi.trips import zones
from include.nyc_taxi.trips.load import load_month
from include.tlc_simulator import city
from include.tlc_simulator.trips import write_month
from tests.conftest import IS_AIRFLOW_2
from tests.nyc_taxi import as_published

ROWS = 300  # per file; a few rows suffice to show an error in a column
FIRST_YEARS = {"yellow": 2009, "green": 2014, "fhv": 2015, "fhvhv": 2019}
LAST_YEAR = 2024
YEARS = [(fleet, year) for fleet, first in FIRST_YEARS.items() for year in range(first, LAST_YEAR + 1)]


pytestmark = pytest.mark.skipif(
    IS_AIRFLOW_2,
    reason="two minutes that have nothing to do with Airflow: run with 3.3 they say it all",
)


class Pipeline(NamedTuple):
    """One warehouse for all months, and the processes that generate files while other months are loaded."""

    con: duckdb.DuckDBPyConnection
    folder: Path
    makers: ProcessPoolExecutor


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    folder = tmp_path_factory.mktemp("archive")
    city.write_lookup(folder / "lookup.csv")
    city.write_shapes(folder / "shapes.zip")
    with (
        # With so few rows, several threads would only wait for each other.
        duckdb.connect(str(folder / "warehouse.duckdb"), config={"threads": 1}) as con,
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as makers,
    ):
        zones.load_zones(con, zones.read_zones(folder / "lookup.csv", folder / "shapes.zip"))
        yield Pipeline(con, folder, makers)


@pytest.fixture(scope="module")
def archive(real_data: Path) -> dict[tuple[str, str], list[str]]:
    """The column names of every file, in the file's order, by fleet and month."""
    with (real_data / "reference" / "tlc_files.csv").open(newline="") as file:
        return {(row["fleet"], row["month"]): row["column_names"].split(",") for row in csv.DictReader(file)}


def test_the_years_below_are_those_of_all_487_files(archive: dict[tuple[str, str], list[str]]) -> None:
    assert len(archive) == 487
    assert {(fleet, int(month[:4])) for fleet, month in archive} == set(YEARS)


@pytest.mark.slow
@pytest.mark.parametrize(("fleet", "year"), YEARS)
def test_every_month_of_a_year_is_made_in_its_layout_and_loaded_with_every_value(
    fleet: str, year: int, archive: dict[tuple[str, str], list[str]], pipeline: Pipeline
) -> None:
    con, folder, makers = pipeline
    months = [month for of, month in archive if of == fleet and month.startswith(f"{year}-")]
    paths = {month: folder / catalogue.file_name(fleet, month) for month in months}
    made = {month: makers.submit(write_month, path, fleet, month, rows=ROWS) for month, path in paths.items()}
    for month, path in paths.items():
        made[month].result()
        described = con.execute("SELECT column_name FROM (DESCRIBE FROM read_parquet(?))", [str(path)]).fetchall()
        assert [name for (name,) in described] == archive[fleet, month], month

        done = load_month(con, fleet, Month(month), path, "the archive")
        counted = aggregate_month(con, fleet, Month(month), folder / "outputs" / fleet)

        assert done.rows_loaded == done.rows_in_file == ROWS, month
        assert done.unknown_columns == (), month
        assert as_published.differences(con, fleet, month, path) == 0, month
        (placed,) = con.execute(
            f"SELECT count(pickup_zone_id) FROM {fleet}_trips WHERE partition_month = ?", [f"{month}-01"]
        ).fetchone()
        assert counted.trips == placed > 0, month
        path.unlink()
    described = con.execute("SELECT column_name, column_type FROM (DESCRIBE FROM query_table(?))", [f"{fleet}_trips"])
    assert dict(described.fetchall()) == as_published.types(fleet)
