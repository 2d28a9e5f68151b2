"""The rooms of the project: what may import what."""

import ast
import socket

import pytest
from pytest_socket import SocketConnectBlockedError

from tests.conftest import PURE, ROOT

AIRFLOWS = {"airflow", "include.orchestration", "warehouse_hook", "tlc_hook", "output_pages", "usable_connection"}
FORBIDDEN = {
    "include/nyc_taxi": AIRFLOWS | {"include.tlc_simulator"},
    "include/tlc_simulator": AIRFLOWS,
    "plugins": {"include.orchestration", "include.tlc_simulator"},
    "dags": {"include.tlc_simulator"},
    **dict.fromkeys(PURE, AIRFLOWS),
}


def imported(file):
    """All modules that a file imports, also within functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_imports_only_what_it_may(room):
    files = sorted((ROOT / room).glob("**/*.py"))
    assert files
    for file in files:
        for module in imported(file):
            for other in FORBIDDEN[room]:
                assert not f"{module}.".startswith(f"{other}."), f"{file.relative_to(ROOT)} must not import {module}"


def test_what_is_done_to_the_data_runs_without_airflow(start_python):
    process = start_python(
        "import sys\n"
        "from include.nyc_taxi import catalogue, settings, warehouse\n"
        "from include.nyc_taxi.reports import by_zone\n"
        "from include.nyc_taxi.source import download\n"
        "from include.nyc_taxi.status import freshness\n"
        "from include.nyc_taxi.trips import load, zones\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] == 'airflow'))\n"
    )
    assert process.communicate()[0] == "[]\n"


def test_pure_tests_run_where_airflow_cannot_be_imported(start_python):
    """All are collected and a few are run; what the others import within a function, the test above has read."""
    process = start_python(
        "import sys\n"
        "class NoAirflow:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('airflow', 'airflow_shared'):\n"
        "            raise ModuleNotFoundError(f'{name} must not be imported here')\n"
        "sys.meta_path.insert(0, NoAirflow())\n"
        "import pytest\n"
        "options = ['-q', '-p', 'no:cacheprovider']\n"
        "collected = pytest.main([*options, '--collect-only', '-qq', *sys.argv[1:]])\n"
        "files = [f'{sys.argv[1]}/test_{name}.py' for name in ('months', 'load')]\n"
        "sys.exit(collected or pytest.main([*options, *files]))\n",
        *(ROOT / folder for folder in PURE),
    )
    output = process.communicate()[0]
    assert process.returncode == 0, output
    assert " passed" in output


def test_tests_reach_localhost_only():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass
    with pytest.raises(SocketConnectBlockedError), pytest.warns(UserWarning, match="192.0.2.1"):
        socket.create_connection(("192.0.2.1", 80))
