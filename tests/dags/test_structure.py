"""The exact list of DAGs, their structure, and what every DAG must have."""

import inspect
import json
import os
import re
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.standard.operators.python import PythonOperator

from include.nyc_taxi import catalogue
from include.orchestration.alerts import alert_on_failure
from include.orchestration.dbt_tasks import DbtBuildOperator
from include.orchestration.defaults import WAREHOUSE_POOL
from include.orchestration.month_sensor import TableSensor
from tests.conftest import ROOT

PER_FLEET = ("taxi_trips", "trips_by_week", "trips_marts")
SNAPSHOT = Path(__file__).with_name("structure.json")
DAG_IDS = [
    "adhoc_request",
    "adhoc_request_sensor",
    "marts_of_reloaded_months",
    "taxi_trips_editions",
    "taxi_trips_fhv",
    "taxi_trips_fhvhv",
    "taxi_trips_green",
    "taxi_trips_yellow",
    "taxi_zones",
    "trips_by_week_fhv",
    "trips_by_week_fhvhv",
    "trips_by_week_green",
    "trips_by_week_yellow",
    "trips_marts_fhv",
    "trips_marts_fhvhv",
    "trips_marts_green",
    "trips_marts_yellow",
    "warehouse_maintenance",
    "warehouse_status",
]
TAGS = {"nyc_taxi", "trips", "zones", "weeks", "marts", "requests", "status", "maintenance"} | {*catalogue.FLEETS}


def structure(dag: Any) -> dict[str, Any]:
    """Return the properties of a DAG whose change an operator would notice."""
    return {
        "schedule": type(dag.timetable).__name__,
        "start_date": dag.start_date.date().isoformat(),
        "first": str(getattr(dag.timetable, "first", None)),
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "tags": sorted(dag.tags),
        "params": sorted(dag.params),
        "tasks": {
            task.task_id: {
                "operator": type(task).__name__,
                "pool": task.pool,
                "retries": task.retries,
                "downstream": sorted(task.downstream_task_ids),
                "inlets": [asset.uri for asset in task.inlets],
                "outlets": [asset.uri for asset in task.outlets],
            }
            for task in dag.tasks
        },
    }


def test_every_dag_file_imports(dags_to_read: Any) -> None:
    assert dags_to_read.import_errors == {}


def test_the_list_of_dags_is_exactly_this(dags_to_read: Any) -> None:
    assert sorted(dags_to_read.dags) == DAG_IDS, "a DAG came or went: please change the list here, and run `make docs`"


def test_the_structure_is_as_recorded(dags_to_read: Any) -> None:
    found = {dag_id: structure(dags_to_read.dags[dag_id]) for dag_id in sorted(dags_to_read.dags)}
    if os.environ.get("UPDATE_SNAPSHOT"):
        SNAPSHOT.write_text(json.dumps(found, indent=2) + "\n")
    assert found == json.loads(SNAPSHOT.read_text()), "if meant: UPDATE_SNAPSHOT=1 make test ARGS=tests/dags"


@pytest.mark.parametrize("dag_id", DAG_IDS)
class TestEveryDag:
    def test_has_a_manual_that_says_what_a_failure_means(self, dags_to_read: Any, dag_id: str) -> None:
        manual = dags_to_read.dags[dag_id].doc_md
        for part in ("**partition**", "**schedule**", "**inputs**", "**outputs**", "failure", "again"):
            assert part in manual, f"the module docstring of {dag_id} lacks {part}"

    def test_has_known_tags_and_a_description(self, dags_to_read: Any, dag_id: str) -> None:
        dag = dags_to_read.dags[dag_id]
        assert set(dag.tags) <= TAGS
        assert "nyc_taxi" in dag.tags
        assert dag.description

    def test_says_whether_it_catches_up_and_how_many_runs_it_has_at_once(self, dags_to_read: Any, dag_id: str) -> None:
        dag = dags_to_read.dags[dag_id]
        assert dag.max_active_runs <= (16 if dag_id.startswith("trips_by_week_") else 6)
        per_fleet = dag_id != "taxi_trips_editions" and dag_id.startswith(tuple(f"{kind}_" for kind in PER_FLEET))
        assert dag.catchup == per_fleet

    def test_has_tasks_with_owner_retries_timeout_and_alert(self, dags_to_read: Any, dag_id: str) -> None:
        for task in dags_to_read.dags[dag_id].tasks:
            callbacks = task.on_failure_callback
            assert task.owner == "nyc_taxi", task.task_id
            assert task.retries >= 1, task.task_id
            assert task.retry_exponential_backoff, task.task_id
            assert timedelta(0) < task.execution_timeout <= timedelta(hours=1), task.task_id
            assert alert_on_failure in (callbacks if isinstance(callbacks, list | tuple) else [callbacks])

    def test_has_tasks_that_are_not_retried_when_no_retry_can_help(self, dags_to_read: Any, dag_id: str) -> None:
        for task in dags_to_read.dags[dag_id].tasks:
            given = getattr(task, "partial_kwargs", {})  # of a task that is mapped
            function = getattr(task, "python_callable", given.get("python_callable"))
            if function is not None:
                assert hasattr(function, "__wrapped__"), f"decorate {task.task_id} with @no_retry_when_permanent"

    def test_opens_the_warehouse_only_in_its_pool(self, dags_to_read: Any, dag_id: str) -> None:
        for task in dags_to_read.dags[dag_id].tasks:
            function = getattr(task, "python_callable", None)
            opens = isinstance(task, TableSensor | DbtBuildOperator) or (
                function is not None and "WarehouseHook" in inspect.getsource(inspect.unwrap(function))
            )
            assert (task.pool == WAREHOUSE_POOL) == opens, task.task_id


def test_waiting_holds_no_worker_and_is_patient(dags_to_read: Any) -> None:
    for fleet in ("yellow", "green", "fhv", "fhvhv"):
        sensor = dags_to_read.dags[f"taxi_trips_{fleet}"].get_task("wait_for_file")
        assert sensor.mode == "reschedule"
        assert sensor.reschedule
        assert not sensor.deferrable
        assert sensor.method == "HEAD"
        assert sensor.response_error_codes_allowlist == ("403", "404")
        assert sensor.poke_interval == timedelta(hours=6).total_seconds()
        assert sensor.timeout == timedelta(days=120).total_seconds()


def test_reading_the_dag_files_imports_nothing_heavy() -> None:
    """They are parsed again and again, so a task imports what it needs when it runs. Some plugins are heavy, too."""
    code = (
        "import importlib.util, pathlib, sys\n"
        "import airflow\n"
        "for path in pathlib.Path('dags').glob('*.py'):\n"
        "    spec = importlib.util.spec_from_file_location(path.stem, path)\n"
        "    spec.loader.exec_module(importlib.util.module_from_spec(spec))\n"
        "heavy = {'duckdb', 'geopandas', 'matplotlib', 'pandas', 'shapely', 'numpy', 'fastapi', 'flask_appbuilder'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("settings", "dag_ids", "first"),
    [
        ({"NYC_TAXI_FLEETS": "green"}, ["taxi_trips_green"], "2023-01-01"),
        ({"NYC_TAXI_FLEETS": " green , yellow "}, ["taxi_trips_green", "taxi_trips_yellow"], "2023-01-01"),
        ({"NYC_TAXI_FLEETS": ""}, [f"taxi_trips_{x}" for x in ("fhv", "fhvhv", "green", "yellow")], "2023-01-01"),
        # The TLC's first green file is that of 2014-01.
        ({"NYC_TAXI_FLEETS": "green", "NYC_TAXI_FIRST_MONTH": "2009-01"}, ["taxi_trips_green"], "2014-01-01"),
    ],
)
def test_settings_say_which_fleets_there_are_and_when_catchup_begins(
    settings: dict[str, str], dag_ids: list[str], first: str, monkeypatch: pytest.MonkeyPatch, dags_to_read: Any
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    read = type(dags_to_read)(str(ROOT / "dags" / "taxi_trips.py"))
    assert read.import_errors == {}
    assert sorted(read.dags) == dag_ids
    assert read.dags[dag_ids[0]].timetable.first == date.fromisoformat(first)


def test_a_fleet_added_to_the_catalogue_has_dags_and_can_be_asked_for(
    monkeypatch: pytest.MonkeyPatch, dags_to_read: Any
) -> None:
    hover = catalogue.Fleet("hover", "Hovercrafts", catalogue.fleet("green").layouts, catalogue.fleet("green").columns)
    monkeypatch.setitem(catalogue.FLEETS, "hover", hover)
    read = type(dags_to_read)(str(ROOT / "dags"))
    assert read.import_errors == {}
    assert read.dags.keys() - dags_to_read.dags.keys() == {f"{kind}_hover" for kind in PER_FLEET}
    for kind in PER_FLEET:
        added, known = structure(read.dags[f"{kind}_hover"]), structure(dags_to_read.dags[f"{kind}_green"])
        assert json.dumps(added).replace("hover", "green") == json.dumps(known)
    assert "hover" in read.dags["adhoc_request"].params.get_param("fleet").schema["enum"]


def test_an_unknown_fleet_is_an_import_error_that_lists_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, dags_to_read: Any
) -> None:
    monkeypatch.setenv("NYC_TAXI_FLEETS", "purple")
    read = type(dags_to_read)(str(ROOT / "dags" / "taxi_trips.py"))
    (error,) = read.import_errors.values()
    assert "no fleet 'purple' in the catalogue: expected one of yellow, green" in error


def test_tasks_that_read_or_make_data_tell_openlineage(dag_bag: Any) -> None:
    """Only a task that opens the warehouse, or has inlets or outlets, reads or makes data. dbt's tasks have cosmos."""
    tells = re.compile(r"\b(assets\.event|lineage\.tell_\w+|zones\.(download|load)_zones)\(")
    changes_no_data = {"warehouse_maintenance.maintain"}
    silent = {
        f"{dag.dag_id}.{task.task_id}"
        for dag in dag_bag.dags.values()
        for task in dag.tasks
        if isinstance(task, PythonOperator) and (task.pool == WAREHOUSE_POOL or task.inlets or task.outlets)
        if not tells.search(inspect.getsource(task.python_callable))
    }
    assert silent == changes_no_data, "call `assets.event` or a function of `include.orchestration.lineage` there"
