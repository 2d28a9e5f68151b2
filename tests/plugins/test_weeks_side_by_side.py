"""Several processes count weeks at the same time, each with its own connection from the hook."""

import csv
import multiprocessing
from datetime import date, timedelta

import pytest

from include.nyc_taxi.reports import by_week
from include.nyc_taxi.settings import outputs_dir
from warehouse_hook import WarehouseHook


def _aggregate(monday):
    """What a task does in its own process: wait for the file, then one transaction."""
    with WarehouseHook().opened() as con:
        by_week.aggregate_week(con, "green", monday, outputs_dir("green"))


@pytest.mark.slow
def test_concurrent_runs_lose_no_week(data_dir):
    mondays = [date(2023, 1, 2) + timedelta(days=7 * n) for n in range(8)]
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        pool.map(_aggregate, mondays, chunksize=1)
    with (data_dir / "outputs" / "green" / "trips_by_week.csv").open() as file:
        assert [row["period"] for row in csv.DictReader(file)] == [str(monday) for monday in mondays]
