"""What all tests share. Above all: nothing of this machine's Airflow, settings or network gets into a test."""

import atexit
import gc
import importlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

pytest_plugins = ["tests.receivers", "tests.chromium"]

ROOT = Path(__file__).resolve().parents[1]
OPENLINEAGE_SPEC = Path(os.environ.get("NYC_TAXI_OPENLINEAGE_SPEC") or ROOT.parent / "shared" / "openlineage-spec")
REAL_DATA = Path(os.environ.get("NYC_TAXI_REAL_DATA") or ROOT.parent / "shared" / "data")

# Airflow reads its configuration when it is first imported: all of this must be set before any test module is.
# A test that runs `make` would else be given the variables of the `make` that runs the tests, such as ARGS.
OF_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "ARGS")
for name in [name for name in os.environ if name.startswith(("AIRFLOW", "NYC_TAXI_", "_AIRFLOW")) or name in OF_MAKE]:
    del os.environ[name]
AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="nyc-taxi-tests-"))
atexit.register(shutil.rmtree, AIRFLOW_HOME, ignore_errors=True)
os.environ |= {
    "AIRFLOW_HOME": str(AIRFLOW_HOME),
    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{AIRFLOW_HOME}/airflow.db",
    "AIRFLOW__LOGGING__BASE_LOG_FOLDER": f"{AIRFLOW_HOME}/logs",
    "MPLCONFIGDIR": str(AIRFLOW_HOME),
    "no_proxy": "*",  # a proxy of this machine has no business with servers on localhost
}
sys.path[:0] = [str(ROOT), str(ROOT / "plugins")]
# The many objects of Airflow and pytest stay: looking for garbage among them takes some % of the tests' processor time.
gc.set_threshold(700, 10, 1000)
atexit.register(gc.freeze)

from include.tlc_simulator.server import TlcSimulator  # noqa: E402

PURE = ("tests/nyc_taxi", "tests/tlc_simulator", "tests/browser")
"""What knows nothing of Airflow: these tests run, and are collected, without importing it."""

SLOW = ("tests/integration", "tests/nyc_taxi/on_a_lake")
"""Folders whose tests are all slow: whole backfills through a scheduler, and files of tests repeated on a lake."""

try:
    IS_AIRFLOW_2 = version("apache-airflow").startswith("2.")
except PackageNotFoundError:  # enough for what knows nothing of it
    IS_AIRFLOW_2 = False

if IS_AIRFLOW_2:
    DEPRECATIONS = (
        "error::airflow.exceptions.RemovedInAirflow3Warning",
        "error::airflow.exceptions.AirflowProviderDeprecationWarning",
        # Airflow 2.11 warns about its own default for timers, in two of its own modules, whatever one does.
        "ignore:Timer and timing metrics publish in seconds:airflow.exceptions.RemovedInAirflow3Warning",
    )
else:
    DEPRECATIONS = (
        "error::airflow.exceptions.RemovedInAirflow4Warning",
        "error::airflow.sdk.exceptions.RemovedInAirflow4Warning",
        "error::airflow.exceptions.AirflowProviderDeprecationWarning",
        "error::airflow.utils.deprecation_tools.DeprecatedImportWarning",
    )


def is_pure(path: Path) -> bool:
    """Whether the tests in this file know nothing of Airflow."""
    return any(path.is_relative_to(ROOT / folder) for folder in PURE)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", dest="all_tests", help="run slow tests too")
    parser.addoption("--screenshots", action="store_true", help="put the pictures that tests take into docs/images")


@pytest.hookimpl(tryfirst=True)  # pytest-socket reads its options in the same hook
def pytest_configure(config: pytest.Config) -> None:
    """Localhost and unix sockets only."""
    config.option.allow_hosts = "127.0.0.1,::1,localhost"
    config.option.allow_unix_socket = True


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Let Airflow load the plugins before a test or a conftest imports them.

    It makes each module anew when it first needs a plugin, on 3.x once in the server's code and once in that of tasks.
    Classes that were imported before would then be others than those that the code uses.
    """
    config = session.config
    collects = hasattr(config, "workerinput") or not config.getoption("numprocesses", None)
    paths = [config.invocation_params.dir / argument.partition("::")[0] for argument in config.args]
    if collects and not all(is_pure(path) for path in paths):
        from airflow import plugins_manager

        plugins_manager.ensure_plugins_loaded()
        if not IS_AIRFLOW_2:
            from airflow.sdk import plugins_manager as plugins_of_tasks

            plugins_of_tasks.integrate_macros_plugins()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """Deprecation warnings of Airflow are errors when a test's module is imported …"""
    with warnings.catch_warnings():
        if isinstance(collector, pytest.Module) and not is_pure(collector.path):
            for line in DEPRECATIONS:
                action, message, category = line.split(":", maxsplit=2)
                module, _, name = category.lstrip(":").rpartition(".")
                warnings.filterwarnings(action, message, getattr(importlib.import_module(module), name))
        return (yield)


@pytest.hookimpl(tryfirst=True)  # before -m selects by marker
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """… and when it runs. pytest imports a warning's class to filter it: no such filter for tests without Airflow.

    Slow tests run with --all, or when a path is named that contains them.
    """
    for item in items:
        if not is_pure(item.path):
            for line in DEPRECATIONS:
                item.add_marker(pytest.mark.filterwarnings(line), append=False)
        if any(item.path.is_relative_to(ROOT / folder) for folder in SLOW):
            item.add_marker("slow")
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.option.all_tests:
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for all tests that were skipped for the same reason; pytest has one for each place."""
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.getreports("skipped"))
    if reasons:
        terminalreporter.section("skipped")
        for reason, count in reasons.most_common():
            terminalreporter.write_line(f"{count} skipped: {reason}")


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory of one test: nothing is ever written into the project's own."""
    monkeypatch.setenv("NYC_TAXI_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """A command that a test calls in its own process has handlers of signals; Ctrl-C is to end later tests as ever."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the TLC's real files; a checkout without it passes the rest."""
    if not (REAL_DATA / "tlc" / "trip-data").is_dir():
        pytest.skip(f"no real TLC files in {REAL_DATA} (NYC_TAXI_REAL_DATA says where they are)")
    return REAL_DATA


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What was logged since the last call: 2.11 uses the standard library's logging, 3.x prints."""
    caplog.set_level(logging.INFO)
    return lambda: caplog.text + capsys.readouterr().out


@pytest.fixture
def start_python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `python -c code *arguments` as a process that can import the project; ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path} | environment,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def hold_open(start_python: Callable[..., subprocess.Popen[str]]) -> Callable[[Path], subprocess.Popen[str]]:
    """Have another process open a DuckDB file; it closes it when its standard input is closed."""

    def hold(database: Path) -> subprocess.Popen[str]:
        process = start_python(
            "import duckdb, sys\n"
            "con = duckdb.connect(sys.argv[1])\n"
            "con.execute('CREATE TABLE IF NOT EXISTS held (i INTEGER)')\n"
            "print('open', flush=True)\n"
            "sys.stdin.read()\n",
            database,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        return process

    return hold


@pytest.fixture(scope="session")
def made_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the simulators of all tests keep what they make: each file is made once."""
    return tmp_path_factory.mktemp("tlc-simulator")


@pytest.fixture
def tlc_site(made_files: Path) -> Iterator[TlcSimulator]:
    """The TLC's site on localhost, with made-up files of 2,000 trips."""
    with TlcSimulator(made_files, rows=2000) as simulator:
        yield simulator
