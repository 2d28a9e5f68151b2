"""A backfill that nothing has disturbed: what others are compared with. One for all tests of a process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from include.nyc_taxi.files import locked
from include.tlc_simulator.server import TlcSimulator
from tests.integration.project import MONTHS, Project

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of several processes, one runs all tests of a file, so that its servers and backfills are started once."""
    for item in items:
        if item.path.is_relative_to(HERE) and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlcSimulator]:
    """Small months, published from 2023-01 to 2023-03."""
    folder = tmp_path_factory.mktemp("tlc")
    with TlcSimulator(folder, rows=1000, first_month="2023-01", last_month="2023-03") as tlc:
        yield tlc


@pytest.fixture(scope="session")
def set_up(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """What `make setup` makes, for projects to begin with: once for all of xdist's workers."""
    folder = tmp_path_factory.getbasetemp()
    made = (folder if worker_id == "master" else folder.parent) / "set-up"
    with locked(made.with_name("set-up.lock")):
        project = Project(made, "http://127.0.0.1:9")
        if not (project.state / ".ready").exists():
            status, output = project.run("setup")
            assert status == 0, output
    return project.state


@pytest.fixture(scope="session")
def undisturbed(site: TlcSimulator, set_up: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """A project that has backfilled the three months, and what the command printed."""
    project = Project(tmp_path_factory.mktemp("undisturbed"), site.url, set_up)
    status, output = project.run("backfill", FLEET="green", **MONTHS)
    assert status == 0, output
    return project, output
