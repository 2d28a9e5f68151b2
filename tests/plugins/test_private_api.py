"""What the plugins use of Airflow beyond its public interface, so that an upgrade that removes it says so."""

import ast
import importlib

import pytest
from airflow import __version__

from include.orchestration.compat import IS_AIRFLOW_3
from tests.conftest import ROOT

PLUGINS = sorted((ROOT / "plugins").glob("*.py"))

UNPROMISED = [
    ("airflow.configuration", "AIRFLOW_HOME", "calendar_timetables finds there the note of a running backfill"),
    ("airflow.models.dagrun", "DagRun.dag_run_note", "calendar_timetables writes no second note on a run"),
    ("airflow.models.dagrun", "DagRun.note", "calendar_timetables notes the month or week of a manual run"),
    (
        "airflow.secrets.environment_variables",
        "EnvironmentVariablesBackend.get_connection",
        "usable_connection learns why Airflow does not find a connection that is set",
    ),
]
if IS_AIRFLOW_3:
    UNPROMISED += [
        (
            "airflow.api_fastapi.core_api.security",
            "requires_access_view",
            "output_pages shows its pages to signed-in users only",
        ),
        (
            "airflow.api_fastapi.auth.managers.models.resource_details",
            "AccessView.WEBSITE",
            "output_pages shows its pages to everyone who may see the website",
        ),
        (
            "airflow.api_fastapi.core_api.security",
            "GetUserDep",
            "warehouse_page shows a user only the DAGs that the user may read",
        ),
        ("airflow.api_fastapi.common.db.common", "SessionDep", "warehouse_page reads runs from the metadata database"),
        (
            "airflow.api_fastapi.auth.managers.base_auth_manager",
            "BaseAuthManager.is_authorized_dag",
            "warehouse_page shows a user only the DAGs that the user may read",
        ),
    ]
else:
    UNPROMISED += [
        ("airflow.www.auth", "has_access_view", "output_pages shows its pages to signed-in users only"),
        (
            "airflow.auth.managers.base_auth_manager",
            "BaseAuthManager.is_authorized_dag",
            "warehouse_page shows a user only the DAGs that the user may read",
        ),
        (
            "airflow.www.extensions.init_auth_manager",
            "get_auth_manager",
            "warehouse_page shows a user only the DAGs that the user may read",
        ),
        ("airflow.models.dagrun", "DagRun.find", "output_pages links to the grid of an older run"),
        ("airflow.models.dagrun", "DagRun.execution_date", "output_pages links to the grid of an older run"),
    ]


@pytest.mark.filterwarnings("ignore")  # of Airflow's own modules, when they are imported
@pytest.mark.parametrize(("module", "name", "reason"), UNPROMISED)
def test_airflow_still_has_what_it_does_not_promise(module, name, reason):
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        pytest.fail(f"Airflow {__version__} has no {module}.{name}. It was needed because {reason}: find another way")


def private(name):
    return name.startswith("_") and not name.endswith("__")


@pytest.mark.parametrize("file", PLUGINS, ids=lambda file: file.name)
def test_a_plugin_uses_no_name_with_an_underscore_that_is_not_its_own(file):
    own, used = {"_replace"}, set()  # a named tuple's method, which is public
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Attribute):
            (own if isinstance(node.ctx, ast.Store) else used).add(node.attr)
            if isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "super" and private(node.attr):
                pytest.fail(f"{file.name}:{node.lineno} uses super().{node.attr}, which may change without notice")
        elif isinstance(node, ast.ImportFrom):
            used |= {*(node.module or "").split("."), *(alias.name for alias in node.names)}
    foreign = {name for name in used if private(name)} - own
    assert not foreign, f"{file.name} uses private names of Airflow or a provider: {sorted(foreign)}"
