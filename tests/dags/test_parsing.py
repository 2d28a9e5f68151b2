"""What a process makes of a DAG file."""

import pytest

from include.nyc_taxi import catalogue
from include.orchestration.compat import read_dags
from tests.conftest import ROOT

OF_FLEETS = ("taxi_trips", "trips_by_week", "trips_marts")


@pytest.mark.parametrize("name", OF_FLEETS)
def test_a_task_makes_only_its_own_dag_of_a_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow says in the environment for which DAG a task reads the file."""
    assert read_dags(ROOT / "dags" / f"{name}.py").keys() == {f"{name}_{fleet}" for fleet in catalogue.FLEETS}
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", f"{name}_green")
    assert read_dags(ROOT / "dags" / f"{name}.py").keys() == {f"{name}_green"}
