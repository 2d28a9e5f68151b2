"""Private names of Airflow are used in one module only, and a test fails if an upgrade removes one."""

import ast
import importlib
import inspect
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow import __version__
from airflow.providers.common.compat.sdk import DAG
from airflow.providers.standard.operators.python import PythonOperator

from include.orchestration import assets, compat
from include.orchestration.compat import IS_AIRFLOW_3, PRIVATE, Private
from tests.conftest import ROOT

PUBLIC = (
    "airflow.providers.",  # the providers' own interface, with the layer that both lines have in common
    "airflow.timetables.",
    "airflow.utils.state.",
)
"""The documented modules that the project uses."""
FILES = [
    path
    for room in ("dags", "include/orchestration")
    for path in sorted((ROOT / room).glob("*.py"))
    if path.name != "compat.py"
]


def private_uses(source: str) -> list[str]:
    """Return the imports from Airflow that are not public, and the private attributes of other objects."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] == "airflow"]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "airflow":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name for name in names if not name.startswith(PUBLIC) or "._" in name]
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
            found += [ast.unparse(node)] if ast.unparse(node.value) not in ("self", "cls") else []
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_is_not_public_in_airflow_is_used_in_compat_only(path: Path) -> None:
    found = private_uses(path.read_text())
    assert found == [], f"{path.relative_to(ROOT)}: move to include/orchestration/compat.py, with the reason: {found}"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from airflow.timetables.base import _NullDataset", ["airflow.timetables.base._NullDataset"]),
        ("def f():\n    from airflow.models.dagrun import DagRun", ["airflow.models.dagrun.DagRun"]),
        ("import airflow.models", ["airflow.models"]),
        ("task._lock_for_execution", ["task._lock_for_execution"]),
        ("from airflow.sdk.execution_time import task_runner", ["airflow.sdk.execution_time.task_runner"]),
        ("from airflow.timetables.trigger import CronTriggerTimetable\nself._own, task.__class__", []),
    ],
)
def test_private_uses_are_found(source: str, found: list[str]) -> None:
    assert private_uses(source) == found


@pytest.mark.parametrize("name", PRIVATE)
def test_airflow_still_has_what_is_not_public(name: str) -> None:
    """The error says which name is missing, why it is needed, and which module to change."""
    private = PRIVATE[name]
    assert private.reason.endswith(".")
    if name == "SUPERVISOR_COMMS":  # it has a value only in a task: see test_month_runs
        assert name in inspect.get_annotations(importlib.import_module(private.module)), (
            f"Airflow {__version__} no longer declares SUPERVISOR_COMMS in {private.module}. {private.reason}"
        )
    else:
        assert private.load() is not None


@pytest.mark.parametrize("module", ["airflow.timetables.base", "airflow.gone"])
def test_a_name_that_an_upgrade_has_removed_is_an_error_that_says_what_to_do(module: str) -> None:
    with pytest.raises(ImportError) as error:
        Private(module, "_Gone", "The graph shows it.").load()
    assert str(error.value) == (
        f"Airflow {__version__} has no `_Gone` in `{module}`, which is not part of its public interface. "
        "The graph shows it. Find what replaces it, and change include/orchestration/compat.py"
    )


def test_importing_a_name_that_an_upgrade_has_removed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRIVATE, "DagRun", Private("airflow.models.dagrun", "OldDagRun", "Commands read runs."))
    with pytest.raises(ImportError, match=r"has no `OldDagRun` in `airflow.models.dagrun`.* Commands read runs\."):
        from include.orchestration.compat import DagRun  # noqa: F401


def test_compat_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="no attribute nonsense"):
        compat.nonsense  # noqa: B018


def test_a_run_is_asked_for_in_the_way_that_the_supervisor_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    if not IS_AIRFLOW_3:
        pytest.skip("on 2.11 tasks read the metadata database")
    from airflow.sdk.execution_time import task_runner

    asked: list[object] = []
    supervisor = SimpleNamespace(send=lambda message: asked.append(message) or "the run")
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    assert compat.run_from_api_server("taxi_trips_green", "run 1") == "the run"
    ((dag_id, run_id),) = [(message.dag_id, message.run_id) for message in asked]
    assert (dag_id, run_id) == ("taxi_trips_green", "run 1")


def test_outside_a_task_no_task_is_seen() -> None:
    assert not compat.in_a_task_of_airflow_3()


def test_a_dags_inputs_are_shown_without_starting_it() -> None:
    """On 2.11, by a condition on datasets that is false. On 3.x, the tasks' inlets are enough."""
    with DAG("reads", schedule=None) as dag:
        PythonOperator(task_id="read", python_callable=print, inlets=[assets.TAXI_ZONES])
    compat.show_inputs(dag)
    if IS_AIRFLOW_3:
        return
    condition = dag.timetable.dataset_condition
    assert not condition
    assert not condition.evaluate({assets.TAXI_ZONES.uri: True})
    (edge,) = condition.iter_dag_dependencies(source="", target="reads")
    assert (edge.dependency_id, edge.target) == (assets.TAXI_ZONES.uri, "reads")
