"""What tests of commands share."""

import shutil
import signal
from pathlib import Path

import pytest
from rich.console import Console

from include.local import console, dbt
from include.nyc_taxi.settings import warehouse_path
from tests.dags.conftest import dag_bag, metadata_database, no_pauses, simulator  # noqa: F401
from tests.local.marts import make_warehouse


@pytest.fixture(autouse=True)
def own_signals():
    """Commands set signal handlers; this process gets its own back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def in_terminal(monkeypatch):
    """As if the standard output were a colour terminal of 120 columns."""
    monkeypatch.setattr(console, "is_plain", lambda stream=None: False)
    drawn = Console(force_terminal=True, color_system="standard", width=120, highlight=False, markup=False, emoji=False)
    monkeypatch.setattr(console, "terminal", lambda *, error=False: drawn)
    return drawn


@pytest.fixture(scope="session")
def marts_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse in which dbt has built and tested everything, in a data directory with the name `data`."""
    folder = tmp_path_factory.mktemp("marts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NYC_TAXI_DATA_DIR", str(folder / "data"))
        make_warehouse(warehouse_path())
        assert dbt.run(["build"]) == 0
        return Path(shutil.copy(warehouse_path(), folder / "template.duckdb"))


@pytest.fixture
def built(marts_template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own copy of that warehouse. All are in one place: when its path changes, dbt reads all models anew."""
    data_dir = marts_template.with_name("data")
    shutil.rmtree(data_dir)
    data_dir.mkdir()
    monkeypatch.setenv("NYC_TAXI_DATA_DIR", str(data_dir))
    return Path(shutil.copy(marts_template, warehouse_path()))
