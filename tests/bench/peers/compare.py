"""Runs the contenders by turns, checks that they have made the same, and compares what they took."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import requests
from tabulate import tabulate

from include.nyc_taxi import catalogue
from include.nyc_taxi.months import month_range
from include.tlc_simulator.server import TlcSimulator
from tests.bench.peers.run import FLEET, ROOT, Task
from tests.bench.table import Row

if TYPE_CHECKING:
    from tests.bench.__main__ import Bench
    from tests.bench.measure import Result

MB, MIB = 1_000_000, 1 << 20
HEADING = ("measured", "bare script")
TITLES = {
    "bare": "bare script",
    "cold": "ours, cold start",
    "services_up": "ours, services up",
    "dagster": "Dagster, cold start",
    "dagster_up": "Dagster, daemon up",
}
TARGETS = {"cold": 2.0, "services_up": 1.5}
"""How many times what the bare script takes ours should take at most."""
LIMITS = {"cold": 3.0, "services_up": 2.6}
"""How many times it may take until the targets are reached: more fails the command. To be tightened with each gain."""
TURNS = ("bare", "cold", "services_up", "dagster", "dagster_up", "bare")
"""Of a round. The script is what all are compared with, so it is run twice."""
REHEARSED = ("bare", "cold", "dagster")
"""With a small month: what they import, the others import too."""
PROCESSES = 4
"""How many tasks, or steps of Dagster, run at once: the Makefile's setting for one machine."""
END_SECONDS = 120.0
DAGSTER = "NYC_TAXI_BENCH_DAGSTER"
DAGSTER_NEEDS = ("dagster", "dagster_duckdb", "duckdb", "requests", "geopandas", "matplotlib")


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        rows: of each month.
        months: first and last.
        rounds: how often each contender does all months, in a new folder.
        rehearse: whether a small month comes first, so that modules are compiled and in memory.
        with_dagster: whether Dagster is asked at all.
    """

    rows: int = 3_066_766  # as the TLC's yellow file of 2023-01
    months: tuple[str, str] = ("2023-01", "2023-12")
    rounds: int = 1
    rehearse: bool = True
    with_dagster: bool = True

    @classmethod
    def of(cls, months: int, rounds: int) -> Size:
        """The true size, with so many months and rounds."""
        if not 2 <= months <= 12:
            raise SystemExit(f"--months: expected a number from 2 to 12, found {months}")
        return cls(months=(cls.months[0], f"2023-{months:02}"), rounds=rounds)


QUICK = Size(rows=2_000, months=("2023-01", "2023-02"), rehearse=False, with_dagster=False)


class Peers:
    """Measures the contenders. `bench` makes the files, which stay in its folder."""

    def __init__(self, bench: Bench, size: Size) -> None:
        self._bench, self._size = bench, size
        if sys.platform != "linux":
            raise SystemExit("make bench PEERS=1 reads /proc and adopts processes: it needs Linux")
        if version("apache-airflow").startswith("2."):
            raise SystemExit("make bench PEERS=1 measures Airflow 3.3 only: leave out AIRFLOW=2")

    def measure(self) -> list[Row]:
        """Measure, and print all that is found; returns the rows of the table."""
        dagster = find_dagster(os.environ.get(DAGSTER)) if self._size.with_dagster else None
        duckdb = self._bench.measure("duckdb_settings", self._bench.scratch / "settings.duckdb")
        print(
            f"  DuckDB in each process of all: {duckdb['threads']} threads, memory_limit {duckdb['memory_limit']}; "
            f"{PROCESSES} tasks at once in Airflow and Dagster, one of them in the warehouse"
        )
        turns = [name for name in TURNS if dagster or not name.startswith("dagster")]
        found: dict[str, list[Result]] = {name: [] for name in TITLES if name in turns}
        if self._size.rehearse:
            with self._site(QUICK.rows, QUICK.months[0]) as url:
                for name in (each for each in REHEARSED if each in found):
                    print(f"  rehearsal of a small month: {TITLES[name]} …")
                    self._run(name, url, QUICK.months[0], QUICK.months[0], duckdb, dagster)
        first, last = self._size.months
        with self._site(self._size.rows, *self._size.months) as url:
            for _ in range(self._size.rounds):
                for name in turns:
                    found[name].append(self._run(name, url, first, last, duckdb, dagster))
                    took = found[name][-1]
                    print(f"  {TITLES[name]}: {took['seconds']:.1f} s, {took['processor_seconds']:.1f} s of processors")
        check_same_work(found)
        best = {name: min(results, key=lambda result: float(result["seconds"])) for name, results in found.items()}
        print("\n" + taken(best))
        print("\n" + month_by_month(best))
        return rows(best)

    @contextmanager
    def _site(self, rows: int, first: str, last: str | None = None) -> Iterator[str]:
        """Serve months of so many rows; yields the URL. The files are in the system's memory, as far as it reaches."""
        months = [str(month) for month in month_range(first, last or first)]
        site = self._bench.folder / f"peers-{rows}"
        print(f"  {len(months)} {'file' if len(months) == 1 else 'files'} of {rows:,} rows: making what is missing …")
        wanted = [(FLEET, month, rows) for month in months]
        self._bench.measure_tasks("make_site", {"site": str(site), "months": wanted}, {})
        with TlcSimulator(site, serve_folder=site) as simulator:
            for month in months:  # the ETag needs the whole file
                requests.head(simulator.url + catalogue.file_path(FLEET, month), timeout=60).raise_for_status()
            yield simulator.url

    def _run(
        self, name: str, url: str, first: str, last: str, duckdb: Mapping[str, object], dagster: str | None
    ) -> Result:
        """Run a contender in a process of its own, which ends whatever it has started, also when we are interrupted."""
        with tempfile.TemporaryDirectory(dir=self._bench.scratch, prefix=f"{name}-") as folder:
            task = Task(url, folder, first, last, duckdb, PROCESSES, dagster)
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.bench.peers.run", name],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            try:
                printed, _ = process.communicate(json.dumps(asdict(task)))
            except BaseException:
                end(process)
                raise
        if process.returncode:
            raise SystemExit(f"{TITLES[name]} failed; its messages are above")
        result: Result = json.loads(printed.splitlines()[-1])
        return result


def find_dagster(python: str | None) -> str | None:
    """The Python that has Dagster; None, after a sentence that says so, where none is named.

    Raises:
        SystemExit: the one that is named lacks something.
    """
    if not python:
        print(f"  Dagster is left out: {DAGSTER} does not name a Python that has {', '.join(DAGSTER_NEEDS)}")
        return None
    code = f"import {', '.join(DAGSTER_NEEDS)}; print(dagster.__version__, duckdb.__version__)"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    except OSError as error:
        raise SystemExit(f"{DAGSTER}: expected a Python's path, found {python}: {error.strerror}") from None
    if done.returncode:
        missing = done.stderr.strip().rpartition("\n")[2]
        raise SystemExit(f"{DAGSTER}: expected a Python with {', '.join(DAGSTER_NEEDS)}; {python} says {missing}")
    print("  Dagster {} with DuckDB {}".format(*done.stdout.split()))
    return python


def end(process: subprocess.Popen[str]) -> None:
    """Have a contender's process stop what it has started, and wait for it."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def check_same_work(found: Mapping[str, Sequence[Result]]) -> None:
    """Check that all have counted the same trips in each month.

    Raises:
        SystemExit: they have not.
    """
    expected = found["bare"][0]["trips"]
    for name, results in found.items():
        for result in results:
            if result["trips"] != expected:
                raise SystemExit(f"{TITLES[name]} has counted {result['trips']}, the bare script {expected}")


def rows(best: Mapping[str, Result]) -> list[Row]:
    """The rows of the table: each contender's seconds against the bare script's."""
    bare = best["bare"]
    return [
        row
        for name, result in best.items()
        if name != "bare"
        for row in (
            Row(TITLES[name], "s", result["seconds"], bare["seconds"], LIMITS.get(name), TARGETS.get(name)),
            Row(f"{TITLES[name]}, processor time", "s", result["processor_seconds"], bare["processor_seconds"]),
        )
    ]


def taken(best: Mapping[str, Result]) -> str:
    """What each has taken, as a table."""
    lines = [
        [
            TITLES[name],
            f"{result['seconds']:.1f} s",
            f"{result['first_task']:.1f} s",
            f"{result['processor_seconds']:.1f} s",
            f"{result['peak_bytes'] / MIB:,.0f} MiB",
            f"{result['largest_bytes'] / MIB:,.0f} MiB",
            f"{result['warehouse_bytes'] / MB:,.0f} MB",
        ]
        for name, result in best.items()
    ]
    heading = ["", "wall", "until first month", "processors", "peak, all", "peak, one process", "warehouse"]
    text = _tabulate(lines, heading)
    if "cold" in best:
        set_up = best["cold"]["set_up"]
        text += f"\nOf the cold start, {set_up:.1f} s made the database of a new AIRFLOW_HOME, once for all commands."
    return text


def month_by_month(best: Mapping[str, Result]) -> str:
    """The seconds that each month's tasks took in each contender's own records, and how they grow."""
    names = list(best)
    months = [month["month"] for month in best["bare"]["months"]]
    busy = {name: [float(month["busy"]) for month in best[name]["months"]] for name in names}
    lines: list[list[str]] = [
        [month, *(f"{busy[name][number]:.1f}" for name in names)] for number, month in enumerate(months)
    ]
    lines.append(["second half ÷ first", *(f"{growth(busy[name]):.2f}" for name in names)])
    return "Seconds of a month's tasks, by their own records\n" + _tabulate(lines, ["", *(TITLES[n] for n in names)])


def growth(seconds: Sequence[float]) -> float:
    """How many times what a month of the first half takes a month of the second half takes."""
    half = len(seconds) // 2
    return (sum(seconds[half:]) / len(seconds[half:])) / (sum(seconds[:half]) / half)


def _tabulate(lines: list[list[str]], heading: list[str]) -> str:
    align = ("left", *("right" for _ in heading[1:]))
    return tabulate(lines, heading, disable_numparse=True, colalign=align)
