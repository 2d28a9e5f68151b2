"""What a task costs besides its work: `python -m tests.bench.task_cost`, in `make shell`. Airflow 3.3, Linux.

Processor time, the least of several forks of a process that has imported what the scheduler has. A fork of it is what a
task of the LocalExecutor is.
"""

import importlib
import importlib.util
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import requests
from tabulate import tabulate

from include.local import component
from include.local.stack import _free_port

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 5
START_SECONDS = 180
WANTED = "_AIRFLOW_PARSING_CONTEXT_DAG_ID"
"""The environment variable in which Airflow tells a task's process which DAG it wants."""
SCHEDULER = ("airflow.jobs.scheduler_job_runner", "airflow.executors.local_executor", "airflow.dag_processing.dagbag")
OF_TASKS = {
    "download": ["source.download", "web.uses"],
    "load": ["trips.load", "trips.up_to_date", "trips.zones", "reports.by_week", "source.download", "web.visit"],
    "aggregate": ["reports.by_zone", "reports.geography", "web.visit"],
    "map": ["reports.maps", "reports.by_week", "reports.charts"],
}
"""What the callables of `taxi_trips_<fleet>` import of `include.nyc_taxi`."""


def cost(work: Callable[[], object], prepare: Callable[[], object] = lambda: None) -> float:
    """Milliseconds of processor time that `work` takes in a fork of this process, the least of `ROUNDS`."""
    least = float("inf")
    for _ in range(ROUNDS):
        reading, writing = os.pipe()
        if not (pid := os.fork()):
            prepare()
            started = time.process_time()
            work()
            os.write(writing, str(time.process_time() - started).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            least = min(least, 1000 * float(answer.read()))
        os.waitpid(pid, 0)
    return least


def run_dag_file(name: str) -> None:
    """Run a DAG file, as a task does."""
    spec = importlib.util.spec_from_file_location(f"dag_file_{name}", ROOT / "dags" / f"{name}.py")
    assert spec
    assert spec.loader
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def imports(task: str) -> None:
    """Import what the task's callable imports."""
    for module in OF_TASKS[task]:
        importlib.import_module(f"include.nyc_taxi.{module}")


def api_server(*command: str, path: str) -> float:
    """Milliseconds of processor time of an api-server that is stopped when it has answered the first call of a task."""
    port = _free_port()
    own = {
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API_AUTH__JWT_SECRET": "x" * 64,
    }
    before = _of_children()
    server = subprocess.Popen(command, env={**os.environ, **own}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        for call in (path, "execution/task-instances"):
            while True:
                try:
                    requests.get(f"http://127.0.0.1:{port}/{call}", timeout=START_SECONDS)
                    break
                except requests.ConnectionError:
                    assert server.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
    finally:
        server.terminate()
        server.wait()
    return _of_children() - before


def set_up(*commands: Sequence[str]) -> float:
    """Milliseconds of processor time of commands that set up a new Airflow home."""
    before = _of_children()
    with tempfile.TemporaryDirectory() as home:
        for command in commands:
            place = {**os.environ, "AIRFLOW_HOME": home}
            subprocess.run(command, cwd=ROOT, env=place, check=True, capture_output=True)
    return _of_children() - before


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (used.ru_utime + used.ru_stime)


def main() -> None:
    """Measure, and print the table."""
    logging.disable(logging.WARNING)
    for module in SCHEDULER:
        importlib.import_module(module)
    from airflow.plugins_manager import get_timetables_plugins

    get_timetables_plugins()  # as the scheduler does, which puts the plugins folder on the path, too

    def dag_file() -> None:
        run_dag_file("taxi_trips")

    rows: list[tuple[str, float, float]] = []
    for name in ("taxi_trips", "trips_by_week"):
        every = cost(lambda name=name: run_dag_file(name), dag_file)
        os.environ[WANTED] = f"{name}_yellow"
        rows.append((f"DAG file {name}: all fleets, one", every, cost(lambda name=name: run_dag_file(name), dag_file)))
        del os.environ[WANTED]
    before = {task: cost(lambda task=task: imports(task), dag_file) for task in OF_TASKS}
    once = cost(component.preload)
    component.preload()
    after = {task: cost(lambda task=task: imports(task), dag_file) for task in OF_TASKS}
    rows += [(f"imports of {task}: by itself, shared", before[task], after[task]) for task in OF_TASKS]
    health, local = "execution/health", [sys.executable, "-m", "include.local"]
    whole = api_server("airflow", "api-server", path="api/v2/monitor/health")
    for_tasks = api_server("airflow", "api-server", "--apps", "execution", path=health)
    ours = api_server(*component.command("api-server", "--apps", "execution"), path=health)
    rows.append(("api-server, from its start to its end: all, for tasks", whole, for_tasks))
    rows.append(("the same for tasks: by itself, with few collections of garbage", for_tasks, ours))
    apart = set_up(["airflow", "db", "migrate"], [*local, "pool"])
    rows.append(("set-up: two processes, one", apart, set_up([*local, "set-up"])))
    print(tabulate(rows, ["processor time, ms", "before", "now"], floatfmt=".0f"))
    print(f"\nImporting what is shared takes {once:.0f} ms, once.")


if __name__ == "__main__":
    sys.exit(main())
