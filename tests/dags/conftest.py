"""The DAGs of the repository, and a metadata database to run them with."""

import contextlib
import functools
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from include.nyc_taxi.files import locked, replacing
from include.orchestration.compat import IS_AIRFLOW_3
from include.tlc_simulator.server import TlcSimulator
from tests.airflow_commands import AIRFLOW_COMMANDS
from tests.conftest import AIRFLOW_HOME, ROOT

if IS_AIRFLOW_3:
    from airflow.dag_processing.dagbag import DagBag
else:
    from airflow.models.dagbag import DagBag


def read_all_dags() -> Any:
    """Read the DAG files, which takes 0.15 s of processor time."""
    return DagBag(str(ROOT / "dags"), **({} if IS_AIRFLOW_3 else {"include_examples": False}))


@pytest.fixture
def dag_bag() -> Any:
    """All DAGs of the repository. They are read again for each test, because `dag.test` changes a DAG's params."""
    return read_all_dags()


@pytest.fixture(scope="session")
def dags_to_read() -> Any:
    """All DAGs of the repository, for tests that neither run nor change them."""
    return read_all_dags()


@pytest.fixture(scope="session")
def metadata_database(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> None:
    """Airflow's metadata database, with the pool and with our DAGs in it.

    Each of xdist's workers has its own: the first one makes it, and the others copy that.
    """
    if not IS_AIRFLOW_3:
        # A table of 2.11 refers to a table of the auth manager, which only the webserver and the CLI import.
        import airflow.providers.fab.auth_manager.models  # noqa: F401
    folder = tmp_path_factory.getbasetemp()
    _set_up_once((folder if worker_id == "master" else folder.parent) / "airflow.db")


@functools.cache  # the folders that import the fixture have one each, and the tests of the first may have it in use
def _set_up_once(made: Path) -> None:
    with locked(made.with_name("airflow.db.lock")):
        if made.exists():
            _copy(made, AIRFLOW_HOME / "airflow.db")
            return
        path = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
        commands = ("db migrate", "pools set warehouse 1 tests", "dags reserialize")
        subprocess.run(
            [sys.executable, "-c", AIRFLOW_COMMANDS, *commands],
            check=True,
            capture_output=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        with replacing(made) as copy:
            _copy(AIRFLOW_HOME / "airflow.db", copy)


def _copy(source: Path, target: Path) -> None:
    """Copy a database that other connections may have open: with their write-ahead logs, and their locks."""
    with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(target)) as new:
        old.backup(new)


@pytest.fixture
def simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TlcSimulator]:
    """A simulated TLC for the tasks, which has published small months up to 2023-03."""
    with TlcSimulator(tmp_path / "tlc", rows=1000, last_month="2023-03") as tlc:
        monkeypatch.setenv("NYC_TAXI_TLC_URL", tlc.url)
        yield tlc


@pytest.fixture
def no_pauses(dag_bag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks are not retried, because `dag.test` would wait for the retry delays."""
    for dag in dag_bag.dags.values():
        for task in dag.tasks:
            monkeypatch.setattr(task, "retries", 0)
