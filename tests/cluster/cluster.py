"""Airflow 3 with CeleryExecutor on this machine, as docker-compose.yaml has it on many.

    with Cluster(folder, site.url, workers=2) as cluster:
        cluster.backfill("taxi_trips_yellow", "2023-01", "2023-12")
        cluster.wait()
        with cluster.warehouse() as con: ...

Postgres (Airflow's records and the lake's catalog), Redis, api-server, dag-processor, scheduler, and workers that stand
for machines: each has a working directory, an Airflow home, a temporary folder and a name of its own, and shares with
the others only what they share by compose's volumes: the data directory, the lake's files, the folder of logs.

What ends by itself is started again, as by compose's `restart: unless-stopped`, and is then in `Cluster.restarts`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote

import duckdb
import psycopg2
import requests

from include.nyc_taxi.months import Month
from include.nyc_taxi.warehouse import lake
from tests.cluster import naming, processes
from tests.cluster.services import Postgres, Redis, free_port

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 240
STOP_SECONDS = 15
PATIENCE_SECONDS = 900
RESTART_AFTER_SECONDS = 1.0
TOO_OFTEN = 10
FINISHED = frozenset({"success", "failed"})
METADATA, LAKE = "airflow", "lake"
"""The databases in Postgres, and the users that own them."""

NOT_FOR_WORKERS = frozenset(
    {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
        "AIRFLOW__CORE__FERNET_KEY",
        "AIRFLOW__API_AUTH__JWT_SECRET",
        "AIRFLOW__API__SECRET_KEY",
    }
)
"""Settings that workers do without, as in docker-compose.yaml: their tasks ask the api-server."""

Warehouse = Literal["lake", "file"]


class ClusterError(Exception):
    """Something did not start, or ends again and again; the message ends with the last lines of its log."""


@dataclass(frozen=True)
class Run:
    """A run of a DAG. Times are in UTC; None for what has not been yet.

    Attributes:
        month: of its logical date.
        kind: "backfill", "manual" or "scheduled".
    """

    dag_id: str
    run_id: str
    month: str
    kind: str
    state: str
    started: datetime | None
    ended: datetime | None


@dataclass(frozen=True)
class Try:
    """One try of a task, also of those that were tried again. Times are in UTC; None for what has not been yet.

    Attributes:
        month: of the run's logical date.
        number: from 1.
        worker: the name of the worker that ran it; empty where none has.
        pid: of the task's own process.
        scheduled, queued: when its dependencies were met, and when the executor got it.
    """

    dag_id: str
    run_id: str
    month: str
    task_id: str
    number: int
    state: str | None
    worker: str
    pid: int | None
    scheduled: datetime | None
    queued: datetime | None
    started: datetime | None
    ended: datetime | None


class Cluster:
    """Use it as a context manager; entered, it is ready to run backfills, and DAGs are paused.

    Args:
        folder: for all of it, made if needed, and left as it is in the end. Services keep their data elsewhere.
        tlc_url: where the TLC's files are.
        workers: how many to begin with.
        concurrency: tasks at a time on each.
        warehouse: "lake" has its catalog in Postgres; "file" is `warehouse.duckdb` in the data directory.
        fleets: to make DAGs for.
        extra: more environment variables, for all processes; they win.

    Attributes:
        data_dir, lake_files: what all workers share. The lake's files are not in the data directory.
        logs: tasks' logs in `dag_id=…`, those of processes in `components`.
        restarts: names of the processes that had ended by themselves, in order.
        postgres, redis: the services, to be restarted.
    """

    def __init__(
        self,
        folder: Path,
        tlc_url: str,
        *,
        workers: int = 2,
        concurrency: int = 1,
        warehouse: Warehouse = "lake",
        fleets: Sequence[str] = ("yellow", "green"),
        extra: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.concurrency = folder, concurrency
        self.data_dir, self.lake_files, self.logs = folder / "data", folder / "lake", folder / "logs"
        self.restarts: list[str] = []
        components = self.logs / "components"
        self.postgres, self.redis = Postgres(components / "postgres.log"), Redis(components / "redis.log")
        self._warehouse, self._count = warehouse, workers
        self._passwords = {name: secrets.token_urlsafe(24) for name in (METADATA, LAKE, "admin")}
        self._tlc_url, self._fleets, self._extra = tlc_url, tuple(fleets), dict(extra or {})
        self._port = free_port()
        self._made = 0
        self._starts_over = 0
        self._components: dict[str, _Component] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._ending = contextlib.ExitStack()
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy

    # -- life

    def __enter__(self) -> Self:
        try:
            for folder in (self.data_dir, self.lake_files, self.logs / "components"):
                folder.mkdir(parents=True, exist_ok=True)
            self._ending.enter_context(self.redis)
            self._ending.enter_context(self.postgres)
            self._ending.callback(self._stop)  # before the services
            for name in (METADATA, LAKE):
                self.postgres.create_role(name, self._passwords[name])
                self.postgres.create_database(name, owner=name)
            self._environment = self._make_environment()
            self._run("migrate", "-m", "airflow", "db", "migrate")
            threading.Thread(target=self._supervise, daemon=True).start()
            self._start("api-server", "api-server")
            self._start("dag-processor", "dag-processor")
            self._set_pool()
            for _ in range(self._count):
                self._start_worker()
            self._log_in()
            self._start("scheduler", "scheduler", "--skip-serve-logs")  # a task must not start before the api-server
            for fleet in self._fleets:
                self._until(f"the DAG taxi_trips_{fleet}", lambda fleet=fleet: self._knows(f"taxi_trips_{fleet}"))
            self._wait_for_workers()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def start_over(self, *, warehouse: Warehouse | None = None, workers: int | None = None) -> None:
        """A new lake, an empty data directory, no runs; DAGs are paused. Where runs had not ended, workers are killed.

        The logs so far go to `logs/before-1` and so on.

        Args:
            warehouse: another one; the workers are then started anew.
            workers: another number of them. Killed ones are not counted.
        """
        wanted = len(self.workers) if workers is None else workers
        if any(run.state not in FINISHED for run in self.runs()):
            for name in self.workers:
                self.kill_worker(name)
        for dag in self._ask("GET", "dags?paused=false").json()["dags"]:
            self._pause(dag["dag_id"], True)
        for dag_id in {run.dag_id for run in self.runs()}:
            for backfill in self._ask("GET", f"backfills?dag_id={dag_id}").json()["backfills"]:
                if not backfill["completed_at"]:
                    self._ask("PUT", f"backfills/{backfill['id']}/cancel")
        for run in self.runs():
            self._ask("DELETE", f"dags/{run.dag_id}/dagRuns/{quote(run.run_id, safe='')}")
        self._starts_over += 1
        before = self.logs / f"before-{self._starts_over}"
        before.mkdir()
        for path in self.logs.glob("dag_id=*"):  # tries are numbered anew
            path.rename(before / path.name)
        self.postgres.create_database(LAKE, owner=LAKE)
        for folder in (self.data_dir, self.lake_files):
            shutil.rmtree(folder)
            folder.mkdir()
        if warehouse not in (None, self._warehouse):
            self._warehouse = warehouse
            self._environment = self._make_environment()
            for name in self.workers:
                self.stop_worker(name)
            self._set_pool()
        for name in self.workers[wanted:]:
            self.stop_worker(name)
        for _ in range(wanted - len(self.workers)):
            self._start_worker()
        self._wait_for_workers()

    # -- workers

    @property
    def workers(self) -> list[str]:
        """Names of those that are to be running, in the order of their start."""
        return [name for name in self._components if name.startswith("worker-")]

    def start_worker(self) -> str:
        """Start one more, and return when it takes tasks; returns its name, which no other has had."""
        name = self._start_worker()
        self._wait_for_workers()
        return name

    def stop_worker(self, name: str) -> None:
        """Stop one in order: it finishes what it is at."""
        self._take(name).stop(STOP_SECONDS)

    def kill_worker(self, name: str) -> list[str]:
        """SIGKILL to all of its processes at once, as when its machine loses power; it is not started again.

        Returns:
            Of each process, its command as /proc has it: what was killed.
        """
        return self._take(name).kill()

    # -- runs

    def backfill(
        self, dag_id: str, first: str, last: str, *, reprocess: str = "completed", max_active_runs: int = 4
    ) -> None:
        """Create a backfill of the months from `first` to `last` ("2023-01"), and let it run."""
        body = {
            "dag_id": dag_id,
            "from_date": f"{Month(first).first_day}T00:00:00Z",
            "to_date": f"{Month(last).first_day}T00:00:00Z",
            "reprocess_behavior": reprocess,
            "max_active_runs": max_active_runs,
        }
        self._ask("POST", "backfills", json=body)
        self._pause(dag_id, False)

    def trigger(self, dag_id: str, month: str, *, logical_date: str | None = None) -> str:
        """Create a manual run of a month, and let it run; returns its id.

        Args:
            logical_date: ISO 8601; no other run of the DAG may have it. The month's second day, if None.
        """
        date = logical_date or Month(month).first_day.replace(day=2).isoformat() + "T00:00:00Z"
        made = self._ask("POST", f"dags/{dag_id}/dagRuns", json={"logical_date": date, "conf": {"month": month}})
        self._pause(dag_id, False)
        return str(made.json()["dag_run_id"])

    def runs(self, dag_id: str | None = None) -> list[Run]:
        """All runs, or those of one DAG, in order of DAG and logical date."""
        found = self.metadata(
            "SELECT dag_id, run_id, coalesce(to_char(logical_date AT TIME ZONE 'UTC', 'YYYY-MM'), ''), run_type, "
            "state, start_date, end_date FROM dag_run WHERE dag_id = coalesce(%s, dag_id) ORDER BY 1, logical_date",
            (dag_id,),
        )
        return [Run(*row) for row in found]

    def tries(self, dag_id: str | None = None, task_id: str | None = None) -> list[Try]:
        """All tries of all tasks, or of one DAG's or task's, that have begun or are to; in order of run, task, number.

        A try that was cleared or tried again is of a state in which it then was, as Airflow's history has it.
        """
        columns = "task_id, try_number, {0}.state, coalesce(hostname, ''), pid, scheduled_dttm, queued_dttm"
        select = (
            "SELECT run.dag_id, run.run_id, coalesce(to_char(logical_date AT TIME ZONE 'UTC', 'YYYY-MM'), ''), "
            f"{columns}, {{0}}.start_date, {{0}}.end_date FROM {{0}} JOIN dag_run AS run USING (dag_id, run_id) "
            "WHERE run.dag_id = coalesce(%s, run.dag_id) AND task_id = coalesce(%s, task_id)"
        )
        text = " UNION ".join(select.format(table) for table in ("task_instance", "task_instance_history"))
        return [Try(*row) for row in self.metadata(f"{text} ORDER BY 1, 2, 4, 5", (dag_id, task_id) * 2)]

    def wait(self, *, until: Callable[[], object] | None = None, seconds: float = PATIENCE_SECONDS) -> None:
        """Return when `until` is true; without it when there are runs, and all have ended, well or not.

        Raises:
            TimeoutError: `seconds` have gone by; says which runs and tasks are in which state.
            ClusterError: a process ends again and again.
        """
        deadline = time.monotonic() + seconds
        while not (self._have_ended() if until is None else until()):
            self._check()
            if time.monotonic() > deadline:
                tasks = [f"{t.task_id} {t.month} {t.state}" for t in self.tries() if t.state not in FINISHED]
                raise TimeoutError(f"after {seconds:g} s: {[(r.run_id, r.state) for r in self.runs()]}; {tasks}")
            time.sleep(0.5 if until is None else 0.1)  # each look is a connection to Postgres

    def metadata(self, text: str, values: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """Ask Airflow's own records; waits while Postgres is away."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return self.postgres.query(METADATA, text, values)
            except psycopg2.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def processor_seconds(self) -> dict[str, float]:
        """How long each process that is to be running, with all that it has started, has kept a processor busy."""
        leaders = {name: component.pid for name, component in self._components.items()}
        leaders |= {service.name: service.pid for service in (self.postgres, self.redis)}
        return {name: processes.busy_seconds(pid) for name, pid in leaders.items() if pid}

    # -- what is made

    @contextlib.contextmanager
    def warehouse(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the warehouse, to look at it or to maintain it; as a worker does."""
        if self._warehouse == "file":
            with contextlib.closing(duckdb.connect(str(self.data_dir / "warehouse.duckdb"))) as con:
                yield con
            return
        with contextlib.closing(duckdb.connect()) as con:
            lake.attach(con, "ducklake:postgres:", f"{self.lake_files}/", catalog=self.catalog_secret)
            yield con

    @property
    def catalog_secret(self) -> lake.Secret:
        """The way to the lake's catalog."""
        values: dict[str, str | int] = {"host": "127.0.0.1", "port": self.postgres.port, "database": LAKE, "user": LAKE}
        return lake.Secret("postgres", values | {"password": self._passwords[LAKE]})

    @property
    def connections(self) -> dict[str, str]:
        """The Airflow connections of the workers, as environment variables."""
        if self._warehouse == "file":
            # Also where it is the default: a task that finds no connection asks the api-server, which may have another.
            file = {"conn_type": "duckdb", "host": str(self.data_dir / "warehouse.duckdb")}
            return {"AIRFLOW_CONN_WAREHOUSE": json.dumps(file)}
        catalog = self.postgres.uri(LAKE, user=LAKE, password=self._passwords[LAKE])
        database = f"{quote('ducklake:postgres:', safe='')}?catalog_conn_id=warehouse_catalog"
        return {
            "AIRFLOW_CONN_WAREHOUSE": f"duckdb://{database}&data_path={quote(f'{self.lake_files}/', safe='')}",
            "AIRFLOW_CONN_WAREHOUSE_CATALOG": catalog,
        }

    @property
    def environment_of_worker(self) -> dict[str, str]:
        """What a worker is started with."""
        return self._on_machine(self.workers[0])[0]

    @property
    def secrets(self) -> dict[str, str]:
        """What must be in no log, by what it is for."""
        keys = ("AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__API__SECRET_KEY")
        return {
            "Postgres": self.postgres.password,
            "Redis": self.redis.password,
            **self._passwords,
            **{key: self._environment[key] for key in keys},
        }

    # -- processes

    def _make_environment(self) -> dict[str, str]:
        """What all processes have: the settings of docker-compose.yaml, and some to lose less time."""
        mine = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_OURS)}
        metadata = self.postgres.uri(METADATA, "postgresql+psycopg2", METADATA, self._passwords[METADATA])
        before = getattr(self, "_environment", {})

        def secret(name: str, make: Callable[[], str]) -> str:
            return before.get(name) or make()

        passwords = self.folder / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({"admin": self._passwords["admin"]}) + "\n")
        bundle = {
            "name": "nyc_taxi",
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(ROOT)},
        }
        return {
            **mine,
            "PYTHONPATH": str(ROOT),
            "no_proxy": "*",
            # As docker-compose.yaml has it.
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CORE__PARALLELISM": "32",
            "AIRFLOW__CELERY__BROKER_URL": self.redis.uri,
            "AIRFLOW__CELERY__RESULT_BACKEND": self.redis.uri.removesuffix("/0") + "/1",
            "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(self.concurrency),
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "15",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
            "AIRFLOW__CORE__FERNET_KEY": secret("AIRFLOW__CORE__FERNET_KEY", _fernet_key),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self._port}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata,
            "AIRFLOW__API_AUTH__JWT_SECRET": secret("AIRFLOW__API_AUTH__JWT_SECRET", _key),
            "AIRFLOW__API__SECRET_KEY": secret("AIRFLOW__API__SECRET_KEY", _key),
            "AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE": "200",
            "NYC_TAXI_DATA_DIR": str(self.data_dir),
            "NYC_TAXI_TLC_URL": self._tlc_url,
            "NYC_TAXI_FLEETS": ",".join(self._fleets),
            **self.connections,
            # Several machines on one.
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self._port),
            "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{self._port}",
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": f"{naming.__name__}.{naming.machine_name.__name__}",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.logs),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            # Nothing runs but what is asked for; what is dead is taken for dead soon; files do not change.
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "AIRFLOW__CELERY__SYNC_PARALLELISM": "1",  # tasks are handed over in the scheduler's own process
            **self._extra,
        }

    def _on_machine(self, machine: str) -> tuple[dict[str, str], Path]:
        """The environment of a machine's processes, and their working directory."""
        folder = self.folder / "machines" / machine
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        own = {"AIRFLOW_HOME": folder / "airflow", "TMPDIR": folder / "tmp", "MPLCONFIGDIR": folder / "tmp"}
        given = {k: v for k, v in self._environment.items() if machine == "server" or k not in NOT_FOR_WORKERS}
        return {**given, naming.VARIABLE: machine, **{k: str(v) for k, v in own.items()}}, folder

    def _run(self, name: str, *arguments: str) -> None:
        environment, cwd = self._on_machine("server")
        log = self.logs / "components" / f"{name}.log"
        with log.open("ab") as out:
            command = [sys.executable, *arguments]
            done = subprocess.run(
                command, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False
            )
        if done.returncode:
            raise ClusterError(f"`{' '.join(arguments)}` failed:\n{_tail(log)}")

    def _set_pool(self) -> None:
        self._run("pool", "-m", "include.local", "pool")

    def _start_worker(self) -> str:
        self._made += 1
        name = f"worker-{self._made}"
        arguments = ["--celery-hostname", f"{name}@127.0.0.1", "--without-mingle", "--without-gossip"]
        self._start(name, "celery", "worker", "--skip-serve-logs", *arguments, machine=name)
        return name

    def _start(self, name: str, *arguments: str, machine: str = "server") -> None:
        environment, cwd = self._on_machine(machine)
        component = _Component(name, arguments, environment, cwd, self.logs / "components" / f"{name}.log")
        component.start()
        with self._lock:
            self._components[name] = component

    def _take(self, name: str) -> _Component:
        with self._lock:
            return self._components.pop(name)

    def _supervise(self) -> None:
        while not self._closing.wait(RESTART_AFTER_SECONDS):
            with self._lock:
                for component in self._components.values():
                    if not component.runs:
                        self.restarts.append(component.name)
                        component.kill()  # what is left of it
                        component.start()

    def _check(self) -> None:
        for name in set(self.restarts):
            if self.restarts.count(name) > TOO_OFTEN:
                raise ClusterError(f"{name} ends again and again:\n{_tail(self._components[name].log)}")

    def _stop(self) -> None:
        self._closing.set()
        with self._lock:
            components = list(self._components.values())
            self._components.clear()
        # First those that hand out work, and that would miss the others.
        for component in components:
            component.signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for component in components:
            component.stop(max(0.1, deadline - time.monotonic()))

    # -- asking Airflow

    def _have_ended(self) -> bool:
        states = [run.state for run in self.runs()]
        return bool(states) and FINISHED.issuperset(states)

    def _until(self, what: str, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            self._check()
            if time.monotonic() > deadline:
                logs = "\n".join(f"{name}:\n{_tail(c.log)}" for name, c in self._components.items())
                raise ClusterError(f"waited {START_SECONDS} s for {what}\n{logs}")
            time.sleep(0.1)

    def _wait_for_workers(self) -> None:
        for name in self.workers:
            log = self._components[name].log
            self._until(f"{name} to be ready", lambda log=log: " ready." in log.read_text(errors="replace"))

    def _log_in(self) -> None:
        login = {"username": "admin", "password": self._passwords["admin"]}

        def answered() -> bool:
            with contextlib.suppress(requests.RequestException, ValueError, KeyError):
                answer = self._session.post(f"http://127.0.0.1:{self._port}/auth/token", json=login, timeout=30)
                self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
                return True
            return False

        self._until("the api-server", answered)

    def _knows(self, dag_id: str) -> bool:
        return bool(self.metadata("SELECT 1 FROM serialized_dag WHERE dag_id = %s", (dag_id,)))

    def _pause(self, dag_id: str, paused: bool) -> None:
        self._ask("PATCH", f"dags/{dag_id}", json={"is_paused": paused})

    def _ask(self, method: str, path: str, *, attempts: int = 10, json: object = None) -> requests.Response:
        """Ask Airflow's API; again where it is not there, or its database is not."""
        for attempt in range(1, attempts + 1):
            try:
                answer = self._session.request(
                    method, f"http://127.0.0.1:{self._port}/api/v2/{path}", timeout=120, json=json
                )
            except requests.ConnectionError:
                if attempt == attempts:
                    raise
            else:
                if answer.ok:
                    return answer
                if answer.status_code < 500 or attempt == attempts:
                    raise ClusterError(f"{method} {path}: {answer.status_code} {answer.text[:1000]}")
            time.sleep(1)
        raise AssertionError


class _Component:
    """An Airflow process, with all the processes that it starts: they are in one session, whatever their groups."""

    def __init__(
        self, name: str, arguments: Collection[str], environment: Mapping[str, str], cwd: Path, log: Path
    ) -> None:
        self.name, self.log = name, log
        self._arguments, self._environment, self._cwd = arguments, environment, cwd
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "airflow", *self._arguments],
                env=dict(self._environment),
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int | None:
        return self._process and self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(number)

    def stop(self, seconds: float) -> None:
        """In order; by force what is left after so many seconds."""
        self.signal(signal.SIGTERM)
        if self._process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self.kill()

    def kill(self) -> list[str]:
        """All at once: none may see another die, and react."""
        if self._process is None:
            return []
        killed = processes.kill(self._process.pid)
        self._process.wait()
        return killed


_NOT_OURS = ("AIRFLOW", "_AIRFLOW", "NYC_TAXI_", "MAKE", "MFLAGS", "PYTHONDONTWRITEBYTECODE", "PYTEST")
"""Variables of whoever starts a cluster that are not for it."""


def _tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""


def _key() -> str:
    return secrets.token_urlsafe(64)


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
