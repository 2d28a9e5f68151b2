"""A task reads the DAG file that it belongs to; it need not make the other fleets' DAGs."""

from pathlib import Path

import pytest

from include.nyc_taxi import catalogue
from include.orchestration.compat import read_dags
from include.orchestration.fleets import fleets_of

DAG_FILES = Path(__file__).parents[2] / "dags"
WANTED = "_AIRFLOW_PARSING_CONTEXT_DAG_ID"
"""The environment variable in which Airflow tells a task's process which DAG it wants, on both lines."""


@pytest.mark.parametrize("prefix", ["taxi_trips", "trips_by_week", "trips_marts"])
def test_a_task_of_a_fleet_makes_the_dag_of_its_fleet_only(prefix, monkeypatch):
    monkeypatch.setenv(WANTED, f"{prefix}_green")
    assert list(read_dags(DAG_FILES / f"{prefix}.py")) == [f"{prefix}_green"]


@pytest.mark.parametrize("wanted", [None, "adhoc_request", "taxi_trips_horse"])
def test_the_dag_processor_and_whoever_wants_another_dag_get_all(wanted, monkeypatch):
    if wanted:
        monkeypatch.setenv(WANTED, wanted)
    assert fleets_of("taxi_trips") == [*catalogue.FLEETS]


def test_a_fleet_that_has_no_dag_is_not_made(monkeypatch):
    monkeypatch.setenv("NYC_TAXI_FLEETS", "yellow")
    monkeypatch.setenv(WANTED, "taxi_trips_green")
    assert fleets_of("taxi_trips") == ["yellow"]
