"""What Airflow's processes are started with, so that a task costs no more than it must."""

import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from include.local import component, stack

ROOT = Path(__file__).parents[2]


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """The command lines that a stack starts. Nothing runs."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setattr(stack, "current_settings", dict)
    monkeypatch.setattr(stack.Started, "popen", lambda self, command, **options: command)

    def started(name, *, web_ui):
        with (tmp_path / "lock").open("w") as lock:
            it = stack.Stack("make backfill", 1234, lock, web_ui=web_ui)
            it._start(name)
            python, option, program, *words = it._processes[name]
            assert (python, option, Path(program)) == (sys.executable, "-P", Path(component.__file__))
            return words

    return started


def test_a_backfill_starts_an_api_server_for_tasks_only_and_standalone_one_with_the_web_ui(commands):
    assert commands("api-server", web_ui=False) == ["api-server", "--apps", "execution"]
    assert commands("api-server", web_ui=True) == ["api-server"]


@pytest.mark.parametrize("web_ui", [True, False])
def test_the_scheduler_waits_for_the_api_server_and_serves_no_logs(commands, web_ui):
    url = "http://127.0.0.1:1234/execution/health"
    assert commands("scheduler", web_ui=web_ui) == [url, "scheduler", "--skip-serve-logs"]


class Health(BaseHTTPRequestHandler):
    """Answers with the statuses in the server's list, one after the other, and then always with the last one."""

    def do_GET(self):
        left = self.server.statuses
        self.send_response(left.pop(0) if len(left) > 1 else left[0])
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def health():
    """A server on localhost; its `statuses` are what it answers."""
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def url_of(server):
    return f"http://127.0.0.1:{server.server_port}/execution/health"


def test_a_component_waits_until_the_api_server_is_healthy_and_asks_it_without_a_proxy(health, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.delenv("no_proxy", raising=False)
    health.statuses = [503, 500, 200]
    component.wait_for(url_of(health), seconds=60)
    assert health.statuses == [200]


def test_a_component_gives_up_if_the_api_server_never_becomes_healthy(health):
    health.statuses = [503]
    with pytest.raises(SystemExit, match=r"execution/health did not answer within 0\.3 s: .*503.*see api-server\.log"):
        component.wait_for(url_of(health), seconds=0.3)
    health.shutdown()
    health.server_close()
    with pytest.raises(SystemExit, match="refused"):
        component.wait_for(url_of(health), seconds=0)


RUN_COMPONENT = """
import gc, runpy, sys, types
main = types.ModuleType("airflow.__main__"); sys.modules["airflow"] = types.ModuleType("airflow")
main.main = lambda: print(sys.argv[1:], gc.get_threshold(), "numpy" in sys.modules, repr(sys.stdin.readline()))
sys.modules["airflow.__main__"] = main
program = sys.argv.pop(1)
runpy.run_path(program, run_name="__main__")
"""


def run_component(*arguments, told):
    """Run a component of an Airflow that only prints what it was given."""
    command = [sys.executable, "-c", RUN_COMPONENT, component.__file__, *arguments]
    return subprocess.run(command, cwd=ROOT, input=told, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("name", "is_preloaded"), [("api-server", False), ("scheduler", True)])
def test_a_component_runs_airflow_with_few_collections_of_garbage(name, is_preloaded):
    done = run_component(name, "--option", told="")
    assert done.stdout == f"{[name, '--option']} (700, 10, 1000) {is_preloaded} ''\n"


def test_a_component_that_waits_begins_when_it_is_told_and_ends_when_nobody_is_left_to_tell_it(health):
    health.statuses = [200]
    done = run_component(url_of(health), "scheduler", told="begin\nmore\n")
    assert done.stdout == "['scheduler'] (700, 10, 1000) True ''\n"
    done = run_component(url_of(health), "scheduler", told="")
    assert (done.returncode, done.stdout) == (1, "")
    assert "the command that was to say when to begin has ended" in done.stderr.lower()


PRELOAD_AND_DRAW = """
import os, sys
from include.local import component

def opened():
    files = (os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
    return {os.readlink(file) for file in files if os.path.exists(file)}

before = opened()
component.preload()
assert not (more := opened() - before), f"these stay open: {more}"
assert (threads := len(os.listdir("/proc/self/task"))) == 1, f"{threads} threads"
assert not (absent := set(component.OF_TASKS) - set(sys.modules)), f"not imported: {absent}"
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
    component.preload(["no_such_library", "json"])
