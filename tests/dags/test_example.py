"""The worked example in docs/how-to/add-a-report.md, run exactly as the page shows it."""

import contextlib
import csv
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from include.orchestration.compat import IS_AIRFLOW_3
from include.tlc_simulator.server import TlcSimulator
from tests.conftest import ROOT
from tests.dags.running import run, states
from tests.dags.test_structure import structure

pytestmark = pytest.mark.usefixtures("metadata_database")

FUNCTION, DAG_FILE = "include/nyc_taxi/reports/airports.py", "dags/airport_trips.py"


@pytest.fixture
def example(tmp_path: Path) -> dict[str, Path]:
    """The files on the page, by the name in their first line."""
    page = (ROOT / "docs" / "how-to" / "add-a-report.md").read_text()
    files = {}
    for name, text in re.findall(r"```python\n# (\S+)\n(.*?)```", page, re.DOTALL):
        files[name] = tmp_path / "example" / name
        files[name].parent.mkdir(parents=True)
        files[name].write_text(text)
    return files


@pytest.fixture
def airports(example: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The example's function, importable from the path that the page gives."""
    name = "include.nyc_taxi.reports.airports"
    spec = importlib.util.spec_from_file_location(name, example[FUNCTION])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def dag(example: dict[str, Path], dag_bag: Any) -> Any:
    """The example's DAG, read as Airflow reads it."""
    bag = type(dag_bag)(str(example[DAG_FILE]))
    assert bag.import_errors == {}
    if IS_AIRFLOW_3:
        # Airflow 3 only runs DAGs that are in its database, from a bundle that it knows.
        from airflow.dag_processing.dagbag import sync_bag_to_db

        sync_bag_to_db(bag, "dags-folder", bundle_version=None)
    return bag.dags["airport_trips_green"]


def test_the_example_is_one_function_and_one_file_in_dags(example: dict[str, Path]) -> None:
    assert sorted(example) == [DAG_FILE, FUNCTION]
    assert not (ROOT / FUNCTION).exists()


@pytest.mark.usefixtures("airports", "no_pauses")
def test_the_example_counts_a_months_airport_trips(
    dag: Any, dag_bag: Any, simulator: TlcSimulator, data_dir: Path
) -> None:
    run(dag_bag.dags["taxi_trips_green"], "2023-02-01")

    assert states(run(dag, "2023-02-01")) == {"wait_for_month": "success", "count": "success"}

    with (data_dir / "outputs" / "green" / "airport_trips_2023-02.csv").open() as file:
        counted = {row["airport"]: (int(row["pickups"]), int(row["dropoffs"])) for row in csv.DictReader(file)}
    with contextlib.closing(duckdb.connect()) as con:
        direct = {
            name: con.execute(
                "SELECT count_if(PULocationID = ?), count_if(DOLocationID = ?) FROM read_parquet(?)",
                [zone, zone, str(data_dir / "raw" / "green_tripdata_2023-02.parquet")],
            ).fetchone()
            for zone, name in ((1, "Newark Airport"), (132, "JFK Airport"), (138, "LaGuardia Airport"))
        }
    assert sum(pickups + dropoffs for pickups, dropoffs in counted.values()) > 0
    assert counted == {name: found for name, found in direct.items() if any(found)}


def test_the_example_keeps_the_rules_of_the_other_dags(dag: Any) -> None:
    recorded = structure(dag)
    assert recorded["catchup"]
    for part in ("**partition**", "**schedule**", "**inputs**", "**outputs**", "failure", "again"):
        assert part in dag.doc_md
    assert {task["pool"] for task in recorded["tasks"].values()} == {"warehouse"}
    assert recorded["tasks"]["count"]["outlets"] == ["x-nyc-taxi://metrics/airport_trips/green"]
