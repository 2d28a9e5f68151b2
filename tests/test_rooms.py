"""The rooms of the project: what may import what."""

import ast
import importlib
import re
import socket
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from pytest_socket import SocketConnectBlockedError

from tests.conftest import PURE, ROOT

NYC_TAXI = "include/nyc_taxi"
# Where an import changes, change the room's line here, and the sentence "It imports …" in the room's docstring. A room
# of include/nyc_taxi goes by its own name; `basics` are the modules beside these rooms, such as months.py; a name with
# a dot is one module of a room.
MAY_IMPORT: dict[str, list[str]] = {
    f"{NYC_TAXI}/catalogue": ["basics"],
    f"{NYC_TAXI}/source": ["basics", "catalogue"],
    f"{NYC_TAXI}/audit": ["basics", "catalogue"],
    f"{NYC_TAXI}/warehouse": ["basics", "catalogue", "audit.rules"],
    f"{NYC_TAXI}/reports": ["basics", "catalogue", "audit.rules", "warehouse"],
    f"{NYC_TAXI}/trips": ["basics", "catalogue", "source", "audit", "warehouse", "reports.by_week", "reports.by_zone"],
    f"{NYC_TAXI}/status": ["basics", "catalogue", "source", "trips.loaded"],
    f"{NYC_TAXI}/web": ["basics", "catalogue", "source", "audit.rules", "warehouse", "status", "trips.loaded"],
    NYC_TAXI: ["catalogue"],  # the basics themselves
    "include/tlc_simulator": ["basics", "catalogue", "source.parquet"],
    "include/orchestration": [
        *("basics", "catalogue", "source", "audit", "warehouse.lake", "warehouse.made", "warehouse.registry"),
        *("warehouse.tables", "trips", "status", "web"),
        *("reports.adhoc", "reports.adhoc_report", "reports.by_week", "reports.by_zone", "reports.marts"),
        *("airflow", "plugins"),
    ],
    "include/local": [
        *("basics", "catalogue", "warehouse", "trips.loaded", "audit", "reports.by_week"),
        *("airflow", "plugins", "orchestration", "tlc_simulator"),
    ],
    "plugins": ["basics", "catalogue", "warehouse", "web", "airflow", "orchestration"],
    "dags": [
        *("basics", "catalogue", "source", "warehouse.lake", "warehouse.made", "trips", "reports", "status"),
        *("airflow", "plugins", "orchestration"),
    ],
}
ROOMS = [folder.removeprefix(f"{NYC_TAXI}/") for folder in MAY_IMPORT if folder.startswith(f"{NYC_TAXI}/")]
PLUGINS = {file.stem for file in (ROOT / "plugins").glob("*.py")}


def files_of(folder: str) -> list[Path]:
    """The Python files of a room; of the folder that holds the rooms, only those beside them."""
    found = sorted((ROOT / folder).glob("*.py" if folder == NYC_TAXI else "**/*.py"))
    assert found, f"{folder} has no Python file"
    return found


def imported(file: Path) -> Iterator[str]:
    """All modules that a file imports, also within functions and for types only."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: name the module that you import in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def place_of(module: str) -> str | None:
    """A module's name as MAY_IMPORT has it; None for a library."""
    first, *others = module.split(".")
    if first == "include":
        if others[0] != "nyc_taxi":
            return ".".join(others)
        return ".".join(others[1:]) if others[1] in ROOMS else "basics"
    if first in PLUGINS:
        return "plugins"
    return "airflow" if first.startswith("airflow") else None


def is_in(place: str, entry: str) -> bool:
    return f"{place}.".startswith(f"{entry}.")


def imports_of(folder: str) -> set[tuple[Path, str]]:
    """Each file of a room with the places outside the room from which it imports."""
    own = "basics" if folder == NYC_TAXI else folder.removeprefix(f"{NYC_TAXI}/").removeprefix("include/")
    places = {(file, place_of(module)) for file in files_of(folder) for module in imported(file)}
    return {(file, place) for file, place in places if place and not is_in(place, own)}


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_room_imports_only_what_it_may(folder: str) -> None:
    for file, place in imports_of(folder):
        allowed = any(is_in(place, entry) for entry in MAY_IMPORT[folder])
        assert allowed, f"{file.relative_to(ROOT)} must not import {place}; see MAY_IMPORT in tests/test_rooms.py"


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_nothing_that_a_room_may_import_is_left_over_from_earlier(folder: str) -> None:
    places = {place for _, place in imports_of(folder)}
    unused = [entry for entry in MAY_IMPORT[folder] if not any(is_in(place, entry) for place in places)]
    assert unused == [], f"{folder} no longer imports these: take them out of MAY_IMPORT, and out of its docstring"


def test_every_folder_with_python_files_is_a_room() -> None:
    parents = {
        file.parent.relative_to(ROOT).as_posix()
        for top in ("include", "plugins", "dags")
        for file in (ROOT / top).glob("**/*.py")
        if file.parent != ROOT / "include"
    }
    assert parents == set(MAY_IMPORT)


def test_rooms_do_not_import_each_other_in_a_circle() -> None:
    """The basics aside: the settings know the catalogue's fleets, and errors carry what the audit has found."""
    graph = {room: {entry.split(".")[0] for entry in MAY_IMPORT[f"{NYC_TAXI}/{room}"]} - {"basics"} for room in ROOMS}
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("room", ROOMS)
def test_a_rooms_docstring_says_what_it_may_import(room: str) -> None:
    docstring = importlib.import_module(f"include.nyc_taxi.{room}").__doc__ or ""
    (sentence,) = re.findall(r"\bIt imports [^.]*\.", docstring)
    words = set(re.findall(r"\w+", sentence))
    entries = MAY_IMPORT[f"{NYC_TAXI}/{room}"]
    assert words & {*ROOMS, "basics"} == {entry.split(".")[0] for entry in entries}, docstring
    modules = {entry.split(".")[1] for entry in entries if "." in entry}
    assert modules <= words, f"of a room it imports one module only: {docstring}"


@pytest.mark.parametrize("folder", PURE)
def test_what_knows_nothing_of_airflow_is_tested_without_it(folder: str) -> None:
    places = {(file, place_of(module)) for file in files_of(folder) for module in imported(file)}
    with_airflow = {"airflow", "plugins", "orchestration", "local"}
    assert [(file, place) for file, place in places if place and place.split(".")[0] in with_airflow] == []


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
        "files = [f'{sys.argv[1]}/test_{name}.py' for name in ('months', 'row_mapping')]\n"
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
