"""One contender each, in a process of its own: `python -m tests.bench.peers.run <name>`, a `Task` as JSON on stdin.

The last line that it prints is its result as JSON: what `Tree.measured` has, `first_task` (seconds until the first
month began), `months` (each with `month`, and the seconds `busy` of its tasks, as the contender itself has recorded
them), `trips` (of Manhattan, by month), and `warehouse_bytes`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.local.processes import SIGNALS, interrupt_once
from include.nyc_taxi.months import Month
from tests.bench.peers.tree import PR_SET_PDEATHSIG, Tree, prctl, tail

if TYPE_CHECKING:
    from tests.bench.measure import Result

ROOT = Path(__file__).resolve().parents[3]
FLEET = "yellow"
OF_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL")
OF_OUR_MAKEFILE = (
    *(
        "ARCHIVE",
        "ARGS",
        "BIG",
        "DBT",
        "DEMO",
        "FLEET",
        "FROM",
        "MONTH",
        "PARTITIONS",
        "PEERS",
        "PORT",
        "REPROCESS",
        "SCALE",
    ),
    *("STATE", "TO", "VENV", "WAIT"),
)
START_SECONDS, RUN_SECONDS = 240.0, 3600.0
DAGSTER_PROJECT = ["-m", "tests.bench.peers.dagster_project"]
DAGSTER_DAEMON = ["dagster-daemon", "run", *DAGSTER_PROJECT]
DAGSTER_YAML = """\
concurrency:
  runs: {{max_concurrent_runs: {processes}}}
  pools: {{default_limit: 1, granularity: op}}
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config: {{dequeue_interval_seconds: 1}}
telemetry: {{enabled: false}}
"""


@dataclass(frozen=True)
class Task:
    """What a contender is to do, and with what.

    Attributes:
        site: the URL of the simulated site.
        folder: an empty folder for all that is made.
        first, last: the first and last month, YYYY-MM.
        duckdb: DuckDB's settings, `threads` and `memory_limit`.
        processes: so many tasks at once.
        dagster: Dagster's Python.
    """

    site: str
    folder: str
    first: str
    last: str
    duckdb: Mapping[str, Any]
    processes: int
    dagster: str | None = None

    @property
    def data(self) -> Path:
        """The folder of the warehouse, the files and the outputs."""
        return Path(self.folder) / "data"

    @property
    def log(self) -> Path:
        """What the contender prints."""
        return Path(self.folder) / "log.txt"


# -- a script


def bare(task: Task) -> Result:
    """Run the bare script."""
    task.data.mkdir()
    command = [sys.executable, "-m", "tests.bench.peers.bare", task.site, str(task.data), task.first, task.last]
    with Tree() as tree, tree.measured() as result:
        script = tree.start([*command, json.dumps(task.duckdb)], task.log, cwd=ROOT, env=_environment())
        tree.wait(script)
    months = [json.loads(line) for line in task.log.read_text().splitlines() if line.startswith("{")]
    return _with_records(result, task, [month | {"busy": month["ended"] - month["started"]} for month in months])


# -- this project


def cold(task: Task) -> Result:
    """`make backfill` where no Airflow runs, in a new AIRFLOW_HOME: the command first makes Airflow's database.

    Returns:
        Besides: `set_up`, the seconds for that database, which a second command would not need.
    """
    with Tree() as tree, tree.measured() as result:
        backfill = tree.start(_make(task, "backfill"), task.log, **_place(task))
        tree.wait(backfill)
    result["set_up"] = (_state(task) / ".ready").stat().st_mtime - result["began"]
    return _with_records(result, task, _airflows_records(task))


def services_up(task: Task) -> Result:
    """`make backfill` beside a `make standalone` whose Airflow has read all DAG files and has nothing to do.

    What Airflow takes counts as long as the command runs.
    """
    services_log = Path(task.folder) / "services.txt"
    with Tree() as tree:
        set_up = tree.start(_make(task, "setup"), task.log, **_place(task))
        tree.wait(set_up)
        services = tree.start(_make(task, "standalone", f"PORT={_free_port()}"), services_log, **_place(task))
        tree.wait_until(lambda: _is_parsed(task) and tree.is_idle(), START_SECONDS, "Airflow is up and idle", services)
        with tree.measured() as result:
            backfill = tree.start(_make(task, "backfill"), task.log, **_place(task))
            tree.wait(backfill, services)
    return _with_records(result, task, _airflows_records(task))


def _make(task: Task, target: str, *words: str) -> list[str]:
    variables = [f"FLEET={FLEET}", f"FROM={task.first}", f"TO={task.last}"] if target == "backfill" else []
    variables += [f"STATE={_state(task)}", f"AIRFLOW__CORE__PARALLELISM={task.processes}", *words]
    return ["make", target, *variables]


def _place(task: Task) -> dict[str, Any]:
    settings = {"NYC_TAXI_TLC_URL": task.site, "NYC_TAXI_DATA_DIR": str(task.data)}
    return {"cwd": ROOT, "env": _environment() | settings}


def _state(task: Task) -> Path:
    return Path(task.folder) / "airflow"


def _is_parsed(task: Task) -> bool:
    return bool(_query(_state(task) / "airflow.db", "SELECT 1 FROM dag WHERE dag_id = ?", f"taxi_trips_{FLEET}"))


def _airflows_records(task: Task) -> list[dict[str, Any]]:
    tasks = _query(
        _state(task) / "airflow.db",
        "SELECT logical_date, start_date, end_date FROM task_instance JOIN "
        "(SELECT dag_id, run_id, logical_date FROM dag_run) USING (dag_id, run_id) WHERE dag_id = ?",
        f"taxi_trips_{FLEET}",
    )
    return _by_month((date[:7], _epoch(started), _epoch(ended)) for date, started, ended in tasks)


def _by_month(tasks: Iterable[tuple[str, float, float]]) -> list[dict[str, Any]]:
    """From (month, start, end) of tasks to one record a month."""
    months: dict[str, dict[str, Any]] = {}
    for month, started, ended in tasks:
        so_far = months.setdefault(month, {"month": month, "started": started, "ended": ended, "busy": 0.0})
        so_far["started"], so_far["ended"] = min(so_far["started"], started), max(so_far["ended"], ended)
        so_far["busy"] += ended - started
    return [months[month] for month in sorted(months)]


def _epoch(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


# -- Dagster


def dagster(task: Task) -> Result:
    """`dagster job backfill` and Dagster's daemon, from a cold start, in a new DAGSTER_HOME.

    The daemon starts as soon as the command has made Dagster's databases: two that make them at once would be in each
    other's way.
    """
    home, place = _dagster_home(task)
    log = Path(task.folder) / "daemon.txt"
    with Tree() as tree:
        with tree.measured() as result:
            backfill = tree.start(_dagster_backfill(task), task.log, **place)
            schedules = home / "schedules" / "schedules.db"  # the last one that it makes
            tree.wait_until(
                lambda: bool(_query(schedules, "SELECT 1 FROM alembic_version")),
                START_SECONDS,
                "Dagster's databases are made",
                backfill,
            )
            daemon = tree.start(DAGSTER_DAEMON, log, **place)
            tree.wait(backfill, daemon)
            _wait_for_dagster(tree, home, daemon)
            tree.stop(daemon)
        return _with_records(result, task, _dagsters_records(task, place, log))


def dagster_up(task: Task) -> Result:
    """The same with a daemon that is up and has nothing to do; what it takes counts as long as there are runs."""
    home, place = _dagster_home(task)
    log = Path(task.folder) / "daemon.txt"
    with Tree() as tree:
        daemon = tree.start(DAGSTER_DAEMON, log, **place)
        tree.wait_until(
            lambda: "configured with the following daemons" in log.read_text() and tree.is_idle(),
            START_SECONDS,
            "Dagster's daemon is up and idle",
            daemon,
        )
        with tree.measured() as result:
            tree.wait(tree.start(_dagster_backfill(task), task.log, **place), daemon)
            _wait_for_dagster(tree, home, daemon)
        return _with_records(result, task, _dagsters_records(task, place, log))


def _dagster_backfill(task: Task) -> list[str]:
    span = ["--from", task.first, "--to", task.last]
    return ["dagster", "job", "backfill", *DAGSTER_PROJECT, "-j", "taxi_trips_by_month", *span, "--noprompt"]


def _dagster_home(task: Task) -> tuple[Path, dict[str, Any]]:
    """Make a DAGSTER_HOME; returns it, and where and with what to start Dagster's programs."""
    assert task.dagster
    home = Path(task.folder) / "dagster"
    for folder in (home, task.data):
        folder.mkdir()
    (home / "dagster.yaml").write_text(DAGSTER_YAML.format(processes=task.processes))
    settings = {
        "site": task.site,
        "folder": str(task.data),
        "first": task.first,
        "end": f"{Month(task.last).end:%Y-%m}",
        "duckdb": dict(task.duckdb),
        "processes": task.processes,
    }
    environment = _environment() | {
        "DAGSTER_HOME": str(home),
        "PEERS_SETTINGS": json.dumps(settings),
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(task.dagster).parent}:{os.environ['PATH']}",
    }
    return home, {"cwd": home, "env": environment}


def _wait_for_dagster(tree: Tree, home: Path, daemon: subprocess.Popen[bytes]) -> None:
    """Return when all runs have ended; those of a backfill are there when its command has ended."""
    runs = home / "history" / "runs.db"

    def have_ended() -> bool:
        states = {state for (state,) in _query(runs, "SELECT DISTINCT status FROM runs")}
        return bool(states) and states <= {"SUCCESS", "FAILURE", "CANCELED"}

    tree.wait_until(have_ended, RUN_SECONDS, "all runs have ended", daemon)


def _dagsters_records(task: Task, place: Mapping[str, Any], log: Path) -> list[dict[str, Any]]:
    command = [str(task.dagster), "-m", "tests.bench.peers.dagster_records"]
    done = subprocess.run(command, capture_output=True, check=True, text=True, **place)
    months = json.loads(done.stdout.splitlines()[-1])
    if failed := [month["month"] for month in months if month["state"] != "SUCCESS"]:
        raise SystemExit(f"Dagster's runs of {', '.join(failed)} have failed:\n{tail(log)}")
    return sorted(months, key=lambda month: str(month["month"]))


# -- all of them


def _with_records(result: Result, task: Task, months: list[dict[str, Any]]) -> Result:
    """Add what the contender has recorded and made."""
    stats = {path.stem.rpartition("_")[2]: path for path in task.data.glob("outputs/**/manhattan_stats_*.geojson")}
    maps = {path.stem.rpartition("_")[2] for path in task.data.glob("outputs/**/manhattan_map_*.png")}
    wanted = [month["month"] for month in months]
    if sorted(stats) != wanted or maps != set(wanted):
        raise SystemExit(f"runs of {', '.join(wanted)} have made {sorted(stats)} and maps of {sorted(maps)}")
    features = {month: json.loads(path.read_text())["features"] for month, path in stats.items()}
    return result | {
        "first_task": min(month["started"] for month in months) - result["began"],
        "months": months,
        "trips": {month: sum(each["properties"]["num_trips"] for each in features[month]) for month in wanted},
        "warehouse_bytes": sum(path.stat().st_size for path in task.data.glob("warehouse.duckdb*") if path.is_file()),
    }


def _environment() -> dict[str, str]:
    """Ours, without what this machine's Airflow, the `make` that runs the bench, and Python's settings would change."""
    foreign = ("AIRFLOW", "_AIRFLOW", "NYC_TAXI_", "DAGSTER", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    for name in (*OF_MAKE, *OF_OUR_MAKEFILE):
        kept.pop(name, None)
    return kept | {"MPLBACKEND": "Agg", "no_proxy": "*"}


def _query(database: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    """Ask an SQLite database that another process writes; nothing while it is being made, or busy."""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as con:
            return con.execute(query, values).fetchall()
    except sqlite3.OperationalError:
        return []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


CONTENDERS = {function.__name__: function for function in (bare, cold, services_up, dagster, dagster_up)}

if __name__ == "__main__":
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # should the bench be killed
    for number in SIGNALS:
        signal.signal(number, interrupt_once)
    try:
        print(json.dumps(CONTENDERS[sys.argv[1]](Task(**json.loads(sys.stdin.read())))))
    except KeyboardInterrupt:
        sys.exit(130)
