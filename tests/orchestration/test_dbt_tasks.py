"""Tasks that run dbt: their pool, which is known when DAG files are parsed, and what they show."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from cosmos import settings as cosmos_settings
from openlineage.client.event_v2 import OutputDataset

from include.nyc_taxi.errors import SettingError
from include.orchestration import dbt_tasks
from include.orchestration.lineage_datasets import Warehouse

LAKE = '{"conn_type": "duckdb", "host": "ducklake:postgres:", "extra": {"catalog_conn_id": "c"}}'


@pytest.mark.parametrize(
    ("variables", "pool"),
    [
        ({}, "warehouse"),
        ({"AIRFLOW_CONN_WAREHOUSE": '{"conn_type": "duckdb", "host": "/srv/w.duckdb"}'}, "warehouse"),
        ({"AIRFLOW_CONN_WAREHOUSE": '{"conn_type": "duckdb", "host": "ducklake:/srv/catalog.db"}'}, "warehouse"),
        ({"AIRFLOW_CONN_WAREHOUSE": LAKE}, "dbt"),
        ({"AIRFLOW_CONN_WAREHOUSE": "duckdb://ducklake%3Apostgres%3A?catalog_conn_id=c"}, "dbt"),
        ({"NYC_TAXI_DBT_POOL": "dbt"}, "dbt"),
        ({"AIRFLOW_CONN_WAREHOUSE": LAKE, "NYC_TAXI_DBT_POOL": "warehouse"}, "warehouse"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_dbt_queues_with_all_others_for_a_file_and_with_other_dbts_for_a_lake(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], pool: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert dbt_tasks.pool() == pool


def test_a_pool_that_nobody_creates_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NYC_TAXI_DBT_POOL", "marts")
    with pytest.raises(SettingError, match=r"expected warehouse \(for a file\) or dbt \(for a lake\), found 'marts'"):
        dbt_tasks.pool()


def test_nothing_is_reported_to_the_makers_of_cosmos() -> None:
    assert not cosmos_settings.enable_telemetry


def test_a_profile_for_a_lake_has_its_secrets_in_the_environment_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", LAKE)
    monkeypatch.setenv("AIRFLOW_CONN_C", "postgresql://lake:sesame@127.0.0.1:5432/lake")
    profile = dbt_tasks.WarehouseProfile()
    assert "sesame" in json.dumps(profile.env_vars)
    assert "sesame" not in profile.get_profile_file_contents("nyc_taxi", "warehouse")
    assert all(name.startswith("DBT_ENV_SECRET_") for name in profile.env_vars), "dbt hides these in its logs"


@pytest.mark.parametrize("is_on", [True, False], ids=["with lineage", "without"])
def test_what_dbt_has_made_in_a_lake_is_in_the_lake_that_other_tasks_name(is_on: bool) -> None:
    """dbt attaches a lake to a database in memory, and names that."""
    made = OutputDataset(namespace="duckdb://:memory:", name="warehouse.marts.daily_trips")
    no_facets = SimpleNamespace(facets={})
    task = dbt_tasks.build("stage", "green", "path:models/staging")
    task.openlineage_events_completes = [SimpleNamespace(inputs=[], outputs=[made], run=no_facets, job=no_facets)]
    task._place = Warehouse("ducklake:s3://lake/taxi", "warehouse") if is_on else None
    (found,) = task.get_openlineage_facets_on_complete(None).outputs
    assert (found.namespace, found.name) == (
        "ducklake:s3://lake/taxi" if is_on else "duckdb://:memory:",
        "warehouse.marts.daily_trips",
    )
