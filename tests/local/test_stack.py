"""What Airflow's processes are started with, so that a task costs no more than it must."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from include.local import preloaded, stack

ROOT = Path(__file__).parents[2]


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """The command lines that a stack starts. Nothing runs."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setattr(stack, "current_settings", dict)
    monkeypatch.setattr(stack.Started, "popen", lambda self, command, **options: command)

    def started(name, *, web_ui):
        with (tmp_path / "lock").open("w") as lock:
            it = stack.Stack("make backfill", 1234, lock, ["scheduler"], web_ui=web_ui)
            it._start(name)
            return it._processes[name]

    return started


def test_a_backfill_starts_an_api_server_for_tasks_only_and_standalone_one_with_the_web_ui(commands):
    assert commands("api-server", web_ui=False) == ["airflow", "api-server", "--apps", "execution"]
    assert commands("api-server", web_ui=True) == ["airflow", "api-server"]


def test_the_scheduler_imports_what_tasks_import_before_its_workers_are_forked(commands):
    python, *options, program, name, log_server = commands("scheduler", web_ui=False)
    assert (python, options, name, log_server) == (sys.executable, ["-P"], "scheduler", "--skip-serve-logs")
    assert Path(program) == Path(preloaded.__file__)


PRELOAD_AND_DRAW = """
import os, sys
from include.local import preloaded

def opened():
    files = (os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
    return {os.readlink(file) for file in files if os.path.exists(file)}

before = opened()
preloaded.preload()
assert not (more := opened() - before), f"these stay open: {more}"
assert (threads := len(os.listdir("/proc/self/task"))) == 1, f"{threads} threads"
assert not (absent := set(preloaded.MODULES) - set(sys.modules)), f"not imported: {absent}"
assert not any(name.startswith("include.nyc_taxi") for name in sys.modules), "tasks would not see changes of it"
import duckdb, tenacity  # the scheduler has them from the plugins
loaded = set(sys.modules)
from include.nyc_taxi.reports import by_zone, charts, geography, maps
print(*sorted({name.partition(".")[0] for name in sys.modules.keys() - loaded}))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads Linux's /proc; macOS forks no tasks")
def test_what_is_imported_before_a_fork_starts_no_thread_opens_no_file_and_is_all_that_drawing_needs():
    """`pyproj` opens its database when it is imported, so that each task imports it by itself."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OPENBLAS", "COV"))}
    done = subprocess.run(
        [sys.executable, "-c", PRELOAD_AND_DRAW], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    libraries = set(done.stdout.split()) - sys.stdlib_module_names - {"include"}
    assert {name for name in libraries if not name.startswith("_cython")} <= {"pyproj", "certifi"}


def test_a_library_that_cannot_be_imported_is_left_to_the_task_that_needs_it():
    preloaded.preload(["no_such_library", "json"])
