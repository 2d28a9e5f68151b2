"""What differs between Airflow's lines, for dbt: the connection from which its profile is made, and `make dbt` itself.

All else is dbt's own program, which is the same on both lines: see test_dbt.py.
"""

import os
import subprocess

import duckdb
import pytest

from include.nyc_taxi.settings import PROJECT_ROOT, data_dir, warehouse_path
from include.orchestration.compat import IS_AIRFLOW_3
from tests.conftest import AIRFLOW_HOME
from tests.local.marts import make_warehouse
from tests.with_dbt import needs_dbt

pytestmark = [pytest.mark.slow, needs_dbt]


def make(*arguments: str) -> str:
    """Run make as a user does, with Airflow's metadata database of the tests; returns what it prints."""
    (AIRFLOW_HOME / ".ready").touch()  # nothing is to be set up
    done = subprocess.run(
        ["make", *arguments, f"AIRFLOW={'3' if IS_AIRFLOW_3 else '2'}", f"STATE={AIRFLOW_HOME}"],
        cwd=PROJECT_ROOT,
        env=os.environ | {"NYC_TAXI_DATA_DIR": str(data_dir())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_make_dbt_builds_the_months_of_a_range_on_this_line(metadata_database: None) -> None:
    make_warehouse(warehouse_path())
    said = make("dbt", "FLEET=green", "FROM=2023-02", "ARGS=build --select +daily_trips")
    assert "daily_trips: built 1 month: green 2023-02" in said
    with duckdb.connect(str(warehouse_path())) as con:
        assert con.execute("SELECT sum(num_trips)::BIGINT FROM marts.daily_trips").fetchall() == [(327,)]
