"""Celery workers that write one lake at once, on a real Postgres and a real Redis: what they make is what
`make backfill` makes in a DuckDB file, whatever ends in the midst of it. See docs/explanation/reliability.md.

To catch loads in the midst, a test locks the table of the lake's catalog into which every commit writes: loads have
then written their files and wait at their commit, for as long as the test wants.
"""

import contextlib
import itertools
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import psutil
import psycopg2
import pytest

from include.nyc_taxi.warehouse import lake
from include.orchestration.compat import IS_AIRFLOW_3
from include.tlc_simulator.server import TlcSimulator
from tests.cluster.cluster import LAKE, METADATA, NOT_FOR_WORKERS, Cluster, Try
from tests.cluster.services import Postgres
from tests.integration.project import MONTHS, Project
from tests.integration.real_services import require
from tests.long.fingerprint import differences, fingerprint

pytestmark = [
    pytest.mark.skipif(not IS_AIRFLOW_3, reason="the Celery stack is for Airflow 3.3"),
    pytest.mark.xdist_group("undisturbed"),  # one backfill for the three files
]

GREEN = "taxi_trips_green"
FLEETS = ("yellow", "green")
FOUR_MONTHS = [f"2023-{number:02}" for number in range(1, 5)]
"""Enough for two fleets to keep two workers busy for minutes, with each other's commits in between."""
SLOTS = 2
"""Of each of the two workers."""


@pytest.fixture(scope="module", autouse=True)
def services() -> None:
    """Both."""
    require("Postgres", "Redis")


@pytest.fixture(scope="module")
def four_months(services: None, site: TlcSimulator) -> Iterator[TlcSimulator]:
    """The site with the first four months of 2023 published, until these tests have ended."""
    for fleet in FLEETS:
        for month in FOUR_MONTHS[3:]:
            site.publish(fleet, month)
    yield site
    for fleet in FLEETS:
        for month in FOUR_MONTHS[3:]:
            site.withdraw(fleet, month)


@pytest.fixture(scope="module")
def on_a_file(
    four_months: TlcSimulator, set_up: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Future[Project]]:
    """The runs of the four months in a DuckDB file, one by one in one process, while the first tests wait for a retry.

    That `make backfill`, with a process for each of its tasks, makes the same is what those tests see.
    """
    runs = f"""
from airflow.dag_processing.dagbag import DagBag
from tests.dags.running import run

dags = DagBag("dags").dags
for fleet in {FLEETS}:
    for month in {FOUR_MONTHS}:
        assert run(dags["taxi_trips_" + fleet], month + "-01").state == "success", (fleet, month)
"""

    def run_all() -> Project:
        folder = tmp_path_factory.mktemp("on-a-file")
        project = Project(folder, four_months.url, set_up, NYC_TAXI_FLEETS=",".join(FLEETS))
        (folder / "runs.py").write_text(runs)
        project.shell(f"airflow dags reserialize\nPYTHONPATH=. '{sys.executable}' -P '{folder}/runs.py'")
        return project

    with ThreadPoolExecutor() as pool:
        yield pool.submit(run_all)


@pytest.fixture(scope="module")
def running(four_months: TlcSimulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster for all tests."""
    with Cluster(
        tmp_path_factory.mktemp("cluster"), four_months.url, workers=2, concurrency=SLOTS, fleets=FLEETS
    ) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    """Two workers and an empty warehouse."""
    running.start_over(workers=2)
    return running


@pytest.fixture
def with_zones(cluster: Cluster) -> Cluster:
    """The warehouse has the zones: whatever else is written is a month's."""
    cluster.trigger("taxi_zones", "2023-01")
    cluster.wait()
    return cluster


@contextlib.contextmanager
def commits_held(postgres: Postgres) -> Iterator[None]:
    """While the block runs nobody can commit to the lake; all can read it. A restarted Postgres has forgotten it."""
    with contextlib.closing(psycopg2.connect(postgres.uri(LAKE))) as con:
        con.cursor().execute("LOCK TABLE ducklake_snapshot IN EXCLUSIVE MODE")
        yield


def waiting_loads(cluster: Cluster) -> list[Try]:
    """The tries of `load` that wait at their commit."""
    waiting = cluster.postgres.query(
        "postgres",
        "SELECT client_port FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'",
        [LAKE],
    )
    return [
        load
        for load in cluster.tries(task_id="load")
        if load.state == "running" and load.pid and {(port,) for port in ports_of(load.pid)} & set(waiting)
    ]


def ports_of(pid: int) -> set[int]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return {connection.laddr.port for connection in psutil.Process(pid).net_connections() if connection.laddr}
    return set()


def wait_for_loads(cluster: Cluster, count: int) -> list[Try]:
    """Return when so many loads wait at their commit."""
    found: list[Try] = []

    def enough() -> bool:
        found[:] = waiting_loads(cluster)
        return len(found) >= count

    cluster.wait(until=enough)
    return found


def assert_same(reference: Project, cluster: Cluster) -> None:
    """All runs are a success, and what is there is what `make backfill` has made in a file."""
    assert {run.state for run in cluster.runs()} == {"success"}
    with cluster.warehouse() as con:
        assert differences(fingerprint(reference.data_dir), fingerprint(cluster.data_dir, con)) == []


def assert_tidied(reference: Project, cluster: Cluster) -> None:
    """What loads that ended in the midst have left of files, maintenance removes; it changes nothing else."""
    with cluster.warehouse() as con:
        for _ in range(2):  # what the first time is old is removed the second time
            lake.maintain(con, keep=timedelta(0), abandoned_after=timedelta(0))
        found = con.execute("SELECT data_file FROM ducklake_list_files('warehouse', 'green_trips')").fetchall()
    assert {Path(file) for (file,) in found} == set((cluster.lake_files / "main" / "green_trips").rglob("*.parquet"))
    assert_same(reference, cluster)


def test_a_task_of_a_killed_worker_is_run_again_by_another(
    with_zones: Cluster, undisturbed: tuple[Project, str], on_a_file: Future[Project]
) -> None:
    cluster = with_zones
    with commits_held(cluster.postgres):
        cluster.backfill(GREEN, MONTHS["FROM"], MONTHS["TO"])
        loads = wait_for_loads(cluster, 3)
        killed = loads[0].worker
        commands = cluster.kill_worker(killed)
        lost = [load for load in loads if load.worker == killed]
        assert len([command for command in commands if "airflow" in command]) > len(lost)
        cluster.start_worker()
    cluster.wait()

    loads = cluster.tries(GREEN, "load")
    for load in lost:
        first, *others = (other for other in loads if other.run_id == load.run_id)
        assert (first.worker, first.number) == (killed, 1)
        assert first.state != "success"
        assert others[-1].state == "success"
        assert others[-1].worker in cluster.workers
    assert_same(undisturbed[0], cluster)
    assert_tidied(undisturbed[0], cluster)


def test_a_backfill_goes_on_when_postgres_was_restarted(with_zones: Cluster, undisturbed: tuple[Project, str]) -> None:
    cluster = with_zones
    with commits_held(cluster.postgres):
        cluster.backfill(GREEN, MONTHS["FROM"], MONTHS["TO"])
        cut_off = wait_for_loads(cluster, 3)
        cluster.postgres.restart()
    cluster.wait()

    tries = {(load.run_id, load.number): load.state for load in cluster.tries(GREEN, "load")}
    assert "success" not in {tries[load.run_id, load.number] for load in cut_off}
    assert_same(undisturbed[0], cluster)
    assert_tidied(undisturbed[0], cluster)


def test_two_runs_that_load_the_same_month_at_once_make_one_result(
    with_zones: Cluster, undisturbed: tuple[Project, str]
) -> None:
    cluster = with_zones
    with commits_held(cluster.postgres):
        cluster.backfill(GREEN, MONTHS["FROM"], MONTHS["TO"])
        for month in ("2023-01", "2023-02", "2023-03"):
            cluster.trigger(GREEN, month)
        months = [load.month for load in wait_for_loads(cluster, 2 * SLOTS)]
        assert len(months) > len(set(months))  # of four loads, two are of one month
    cluster.wait()

    assert [run.kind for run in cluster.runs(GREEN)].count("manual") == 3
    assert_same(undisturbed[0], cluster)
    with cluster.warehouse() as con:  # and if a value were not the same, it would have been seen
        con.execute("UPDATE green_trips SET fare_amount = fare_amount + 0.01 WHERE partition_month = '2023-02-01'")
        found = differences(fingerprint(undisturbed[0].data_dir), fingerprint(cluster.data_dir, con))
    assert found == ["different: table green_trips"]


def test_four_months_of_two_fleets_are_the_same_as_on_a_file(cluster: Cluster, on_a_file: Future[Project]) -> None:
    reference = on_a_file.result()
    for fleet in FLEETS:
        cluster.backfill(f"taxi_trips_{fleet}", FOUR_MONTHS[0], FOUR_MONTHS[-1])
    cluster.wait()

    tries = cluster.tries()
    assert {task.worker for task in tries if task.task_id == "load"} == set(cluster.workers)
    assert {(run.dag_id, run.month) for run in cluster.runs()} == {
        (f"taxi_trips_{fleet}", month) for fleet in FLEETS for month in FOUR_MONTHS
    }
    assert_same(reference, cluster)
    with cluster.warehouse() as con:
        counted = con.execute(
            "SELECT fleet, count(*), count(DISTINCT partition_month) FROM trips GROUP BY ALL ORDER BY 1"
        )
        assert counted.fetchall() == [("green", 4000, 4), ("yellow", 4000, 4)]
        assert con.execute("SELECT count(*) FROM loads").fetchone() == (8,)


def test_workers_neither_have_the_password_of_airflows_records_nor_connect_to_them(with_zones: Cluster) -> None:
    cluster = with_zones
    given = cluster.environment_of_worker
    assert not given.keys() & NOT_FOR_WORKERS
    for name, secret in cluster.secrets.items():
        assert (secret in "".join(given.values())) == (name in ("Redis", LAKE)), name

    with commits_held(cluster.postgres):
        cluster.trigger(GREEN, "2023-01")
        (load,) = wait_for_loads(cluster, 1)
        assert load.pid
        task = psutil.Process(load.pid)
        parents = itertools.takewhile(lambda process: process.pid != os.getpid(), task.parents())
        processes = [task, *parents]
        assert len(processes) > 2  # the task, what supervises it, and Celery's
        ports = {port for process in processes for port in ports_of(process.pid)}
        asked = "SELECT client_port FROM pg_stat_activity WHERE datname = %s"
        answers = {name: cluster.postgres.query("postgres", asked, [name]) for name in (LAKE, METADATA)}
        connected = {name: {port for (port,) in rows} for name, rows in answers.items()}
        assert ports & connected[LAKE]
        assert connected[METADATA]
        assert not ports & connected[METADATA]
    cluster.wait()
    assert {run.state for run in cluster.runs()} == {"success"}


def test_no_log_has_a_password_or_a_key(with_zones: Cluster) -> None:
    """Of tasks and of processes, of this test and of all before it."""
    logs = [path for path in with_zones.logs.rglob("*") if path.is_file()]
    names = {path.stem for path in logs}
    assert names >= {"attempt=1", "postgres", "redis", "scheduler", "api-server", "dag-processor", "worker-1"}
    for path in logs:
        content = path.read_bytes()
        for what, secret in with_zones.secrets.items():
            assert secret.encode() not in content, f"{path} has what is secret: {what}"
