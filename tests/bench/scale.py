"""`make bench SCALE=1`: how many months a minute do 1, 2 and 4 workers make, and where does the time go?

On a real Airflow with CeleryExecutor, Postgres and Redis (`tests.cluster`), its warehouse a lake, then a file. From
what one worker takes, a model says what more of them take; what is measured with more is its test. With the seconds a
row of the largest months it says what the TLC's whole archive takes.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tabulate import tabulate

from include.nyc_taxi.months import month_range
from include.tlc_simulator.server import TlcSimulator
from tests.bench.table import Row

if TYPE_CHECKING:
    from tests.bench.__main__ import Bench
    from tests.bench.archive import Archive
    from tests.bench.measure import Result
    from tests.cluster.cluster import Cluster, Warehouse

COMMITS_A_MONTH = 3
"""To a lake: the tables, where something is missing; the load; the aggregate."""
POOL_TASKS = ("load", "aggregate")
"""The tasks that open the warehouse: where it is a file, one at a time."""
HEADING = ("measured", "by the model")
OFF = 1.25
"""How many times what the model says a backfill may take."""


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        rows: of each month, by fleet.
        months: first and last, of each fleet.
        workers: numbers of them, one task at a time each; the first must be 1.
        writers, commits: so many processes commit so often, to find how many commits a second a lake takes.
    """

    rows: Mapping[str, int]
    months: tuple[str, str] = ("2023-01", "2023-12")
    workers: tuple[int, ...] = (1, 2, 4)
    writers: int = 4
    commits: int = 50


FULL = Size({"yellow": 1_000_000, "green": 100_000})
QUICK = Size({"yellow": 2_000}, months=("2023-01", "2023-02"), workers=(1, 2), writers=2, commits=3)


@dataclass(frozen=True)
class Used:
    """What a backfill of `months` runs took. Times in seconds.

    Attributes:
        wall: from the first task's entry into the queue to the last task's end.
        slots: that the workers were at a task, together: from taking it to having reported its end.
        work: of that, in our own code.
        pool: from the start to the end of the tasks in the pool `warehouse`, together.
        by_process: that Airflow's processes, each worker with its tasks, and the services kept a processor busy.
    """

    warehouse: str
    workers: int
    months: int
    trips: int
    wall: float
    slots: float
    work: float
    pool: float
    by_process: Mapping[str, float]

    @property
    def processors(self) -> float:
        """That all of them together kept processors busy."""
        return sum(self.by_process.values())

    @property
    def idle(self) -> float:
        """That workers waited: for the pool, or for the scheduler to hand them a task."""
        return self.workers * self.wall - self.slots


@dataclass(frozen=True)
class Model:
    """What a month costs, in seconds: found with one worker.

    Workers go about their months side by side and queue for the processors: a closed queueing network with one queue,
    whose throughput mean value analysis gives (Reiser and Lavenberg, 1980). Where the warehouse is a file, one task at
    a time has it, and a month takes no less than its tasks that do.

    Attributes:
        slot: of a worker, when it is alone, with the pause until it gets its next task.
        processor: of a processor, for all there is.
        alone: of tasks of which one at a time may run; 0 on a lake.
    """

    slot: float
    processor: float
    alone: float

    @classmethod
    def of(cls, one: Used) -> Model:
        alone = one.pool if one.warehouse == "file" else 0.0
        return cls(one.wall / one.months, one.processors / one.months, alone / one.months)

    def seconds(self, months: int, workers: int, processors: int) -> float:
        """That a backfill of so many months takes on machines with so many processors together."""
        at_processors = min(self.slot, self.processor / processors)
        elsewhere, queue, a_month = self.slot - at_processors, 0.0, 0.0
        for count in range(1, workers + 1):
            queued = at_processors * (1 + queue)  # one that comes finds the queue as it is with one worker less
            a_month = (queued + elsewhere) / count
            queue = queued / a_month
        return months * max(a_month, self.alone)


class Scale:
    """Measures clusters. `bench` runs what is measured; made files stay in its folder."""

    def __init__(self, bench: Bench, archive: Archive, size: Size) -> None:
        self._bench, self._archive, self._size = bench, archive, size
        self._months = month_range(*size.months)

    def measure(self) -> list[Row]:
        """Measure, and print all that is found; returns the rows of the table."""
        from tests.cluster.cluster import Cluster

        in_file, in_lake, rows = self._archive.largest_months()
        site = self._make_site()
        used: list[Used] = []
        with TlcSimulator(site, serve_folder=site) as simulator:
            folder = self._bench.scratch / "cluster"
            with Cluster(folder, simulator.url, workers=1, fleets=[*self._size.rows]) as cluster:
                self._run(cluster, "rehearsal: everything is imported for the first time")
                for warehouse in ("lake", "file"):
                    for workers in self._size.workers:
                        cluster.start_over(warehouse=warehouse, workers=workers)
                        used.append(self._used(cluster, warehouse, workers))
                cluster.start_over(warehouse="lake", workers=1)
                commits = self._commits(cluster)
        models = {one.warehouse: Model.of(one) for one in used if one.workers == 1}
        print("\n" + _throughput(used))
        print("\n" + _where_time_goes(used))
        print("\n" + _by_process(used))
        print(f"\nCommits to the lake by {self._size.writers} processes at once: {commits:.1f} a second")
        print("\n" + self._whole_archive(used, in_lake, commits))
        print("\n" + _per_row(in_file, in_lake))
        processors = os.cpu_count() or 1
        return rows + [
            Row(
                f"{one.warehouse}, {one.workers} workers, {one.months} months",
                "s",
                one.wall,
                models[one.warehouse].seconds(one.months, one.workers, processors),
                OFF,
            )
            for one in used
        ]

    # -- a backfill

    def _make_site(self) -> Path:
        site = self._bench.folder / "scale-{}".format("-".join(map(str, self._size.rows.values())))
        months = [(fleet, month, rows) for fleet, rows in self._size.rows.items() for month in self._months]
        self._bench.measure_tasks("make_site", {"site": str(site), "months": months}, {})
        return site

    def _run(self, cluster: Cluster, what: str) -> None:
        print(f"  {what} …")
        for fleet in self._size.rows:
            cluster.backfill(f"taxi_trips_{fleet}", *self._size.months)
        cluster.wait()
        failed = [run.run_id for run in cluster.runs() if run.state != "success"]
        if failed:
            raise SystemExit(f"these runs have failed: {', '.join(failed)}; their logs are in {cluster.logs}")

    def _used(self, cluster: Cluster, warehouse: Warehouse, workers: int) -> Used:
        logs = {name: cluster.logs / "components" / f"{name}.log" for name in cluster.workers}
        before = {name: log.stat().st_size for name, log in logs.items()}
        by_process = cluster.processor_seconds()
        self._run(cluster, f"{warehouse}, {workers} workers")
        by_process = {name: spent - by_process.get(name, 0.0) for name, spent in cluster.processor_seconds().items()}
        slots = sum(_slot_seconds(log.read_bytes()[before[name] :].decode()) for name, log in logs.items())
        tries = [task for task in cluster.tries() if task.queued and task.started and task.ended]
        wall = max(task.ended for task in tries) - min(task.queued for task in tries)
        with cluster.warehouse() as con:
            (trips,) = con.execute("SELECT sum(rows_loaded) FROM latest_loads").fetchone() or (0,)
        return Used(
            warehouse=warehouse,
            workers=workers,
            months=len(self._size.rows) * len(self._months),
            trips=int(trips),
            wall=wall.total_seconds(),
            slots=slots,
            work=sum(map(_work_seconds, cluster.logs.glob("dag_id=*/**/*.log"))),
            pool=sum((task.ended - task.started).total_seconds() for task in tries if task.task_id in POOL_TASKS),
            by_process=by_process,
        )

    def _commits(self, cluster: Cluster) -> float:
        """How many transactions a second are committed to the lake when several processes do nothing else."""
        environment = {**cluster.connections, "NYC_TAXI_DATA_DIR": str(cluster.data_dir)}
        with ThreadPoolExecutor(self._size.writers) as pool:
            done = [
                pool.submit(self._bench.measure_tasks, "commit", {"zone": n, "count": self._size.commits}, environment)
                for n in range(self._size.writers)
            ]
            spans = [future.result() for future in done]
        seconds = max(span["ended"] for span in spans) - min(span["started"] for span in spans)
        return self._size.writers * self._size.commits / seconds

    def _whole_archive(self, used: Sequence[Used], in_lake: Mapping[str, Result], commits: float) -> str:
        """What the archive takes of workers, by the model: what a month costs whatever its rows, and its rows."""
        one = next(one for one in used if one.warehouse == "lake" and one.workers == 1)
        model, kinds = Model.of(one), {kind: _per_million(result) for kind, result in in_lake.items()}
        rows = sum(count * kinds[fleet][0] for fleet, count in self._size.rows.items() if fleet in kinds)
        fixed = model.slot - rows / 1e6 / len(self._size.rows)
        files = [file for file in self._archive.all_files if file.kind in kinds]
        slots = [fixed + kinds[file.kind][0] * file.rows / 1e6 for file in files]
        least = {
            "its longest month": max(slots),
            "commits, one after another": len(files) * COMMITS_A_MONTH / commits,
            "the scheduler, which is one process": len(files) * one.by_process["scheduler"] / one.months,
        }
        lines = [
            [
                workers,
                f"{sum(slots) / workers / 3600:.2f} h",
                f"{max(sum(slots) / workers, *least.values()) / 3600:.2f} h",
            ]
            for workers in (1, 2, 4, 8, 16, 32)
        ]
        size = sum(kinds[file.kind][1] * file.rows / 1e6 for file in files)
        return (
            f"The archive by the model: {len(files)} files, {sum(file.rows for file in files):,} rows; of a worker "
            f"{fixed:.1f} s a month and {(sum(slots) - fixed * len(files)) / 3600:.2f} hours for their rows; "
            f"{size:,.0f} GB in the lake\n"
            + tabulate(lines, ["workers", "of workers", "with all that is scarce"], disable_numparse=True)
            + "\nNever less than: "
            + "; ".join(f"{what} {seconds / 60:.1f} min" for what, seconds in least.items())
        )


# -- reading what Airflow and the system have on record


def _work_seconds(log: Path) -> float:
    """Of a task's log: the seconds that it was in its callable, or a sensor's look. 0 where it did not get so far."""
    begun: datetime | None = None
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        moment = datetime.fromisoformat(entry["timestamp"])
        if entry["event"] == "::endgroup::" and begun is None:  # of "Pre Execute"
            begun = moment
        if entry["event"] == "::group::Post Execute" and begun:
            return (moment - begun).total_seconds()
    return 0.0


def _slot_seconds(log: str) -> float:
    """Of a worker's log: the seconds that its slot was taken."""
    return sum(map(float, re.findall(r" succeeded in ([\d.]+)s:", log)))


# -- what is printed


def _throughput(used: Sequence[Used]) -> str:
    lines = []
    for one in used:
        alone = next(other for other in used if other.warehouse == one.warehouse and other.workers == 1)
        lines.append(
            [
                one.warehouse,
                one.workers,
                f"{one.wall:.0f} s",
                f"{60 * one.months / one.wall:.2f}",
                f"{one.trips / one.wall:,.0f}",
                f"{alone.wall / one.wall:.2f}",
                f"{100 * one.processors / one.wall / (os.cpu_count() or 1):.0f} %",
            ]
        )
    heading = ["warehouse", "workers", "seconds", "months a minute", "trips a second", "speed-up", "processors busy"]
    return f"{used[0].months} months, {used[0].trips:,} trips\n" + _tabulate(lines, heading)


def _where_time_goes(used: Sequence[Used]) -> str:
    lines = [
        [one.warehouse, one.workers]
        + [
            f"{seconds / one.months:.1f} s ({100 * seconds / one.workers / one.wall:.0f} %)"
            for seconds in (one.work, one.slots - one.work, one.idle)
        ]
        for one in used
    ]
    return "Of the workers' time, a month\n" + _tabulate(
        lines, ["warehouse", "workers", "work", "Airflow's overhead", "waiting"]
    )


def _by_process(used: Sequence[Used]) -> str:
    """Processor seconds a month, by process; all workers together."""
    names = sorted({_kind(name) for one in used for name in one.by_process})
    lines = []
    for one in used:
        spent: dict[str, float] = defaultdict(float)
        for name, seconds in one.by_process.items():
            spent[_kind(name)] += seconds / one.months
        lines.append(
            [one.warehouse, one.workers, f"{one.processors / one.months:.1f} s", *(f"{spent[n]:.1f} s" for n in names)]
        )
    return "Processor time a month\n" + _tabulate(lines, ["warehouse", "workers", "all", *names])


def _kind(name: str) -> str:
    return "workers" if name.startswith("worker-") else name


def _per_million(result: Result) -> tuple[float, float]:
    """Seconds, and gigabytes of the table, for a million rows."""
    return 1e6 * result["seconds"] / result["rows"], result["bytes"] / 1e3 / result["rows"]


def _per_row(in_file: Mapping[str, Result], in_lake: Mapping[str, Result]) -> str:
    lines = []
    for kind, lake in in_lake.items():
        file = in_file[kind]
        lines.append(
            [
                kind,
                f"{lake['rows']:,}",
                *(f"{_per_million(one)[0]:.2f} s" for one in (file, lake)),
                *(f"{1000 * _per_million(one)[1]:.1f} MB" for one in (file, lake)),
            ]
        )
    heading = ["largest month of", "rows", "file", "lake", "file", "lake"]
    return "Load of a million rows, and the table's size for them\n" + _tabulate(lines, heading)


def _tabulate(lines: list[list[object]], heading: list[str]) -> str:
    return tabulate(lines, heading, disable_numparse=True, stralign="right", numalign="right")
