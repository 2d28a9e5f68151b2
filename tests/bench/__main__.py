"""`make bench`: is a load as fast and lean as it should be, and does month 60 cost what month 1 cost?

With --archive: does the whole archive's last month cost what its first did, and do its largest months fit in memory?
With --scale: what do more workers give, in a file and in a lake?
With --peers: what do twelve months take as a bare script, here, and in Dagster?
With --partitions: what grows with the number of loaded months, and does anything grow faster than it?

Whatever else the machine does disturbs every figure. So what is compared runs by turns, in one run, and of several
rounds the fastest counts (in memory, the largest). The exit status is 1 when a limit is exceeded.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from include.local.processes import SIGNALS, interrupt_once
from include.nyc_taxi.months import month_range
from tests.bench import archive, partitions, scale
from tests.bench.measure import FLEET, MONTH, Result
from tests.bench.peers import compare
from tests.bench.table import HEADING, Row, table

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
LOAD_RATIO, MONTHS_RATIO, PEAK_MIB = 1.6, 1.10, 1024


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        load_rows, load_rounds: rows of the file to load, and how often it is loaded.
        month_rows, month_rounds: rows of each month to aggregate and draw, and how often that is done.
        task_rounds: how often the month's tasks are run as processes of their own.
        first_month: of the warehouse with many months; the last one is `MONTH`.
    """

    load_rows: int = 3_066_766  # as the TLC's yellow file of 2023-01
    load_rounds: int = 5
    month_rows: int = 300_000
    month_rounds: int = 15
    task_rounds: int = 5
    first_month: str = "2018-02"  # 60 months


QUICK = Size(load_rows=20_000, load_rounds=1, month_rows=2_000, month_rounds=1, task_rounds=1, first_month="2022-11")


class Bench:
    """Runs measurements; made files stay in `folder`, databases go when it is left."""

    def __init__(self, folder: Path, size: Size, threads: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._size, self._threads = folder, size, threads
        self._temporary = tempfile.TemporaryDirectory(dir=folder)
        self.scratch = Path(self._temporary.name)

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        self._temporary.cleanup()

    def loads(self) -> list[Row]:
        """Load the large file into an empty table, with bare DuckDB and with ours; then with ours over itself."""
        file = self._file(self._size.load_rows)
        results: dict[str, list[Result]] = defaultdict(list)
        for number in range(self._size.load_rounds):
            bare, ours = (str(self.scratch / f"{name}-{number}.duckdb") for name in ("bare", "ours"))
            self.measure("make_tables", ours)
            turns = [("bare", "bare_load", bare), ("ours", "our_load", ours), ("again", "our_load", ours)]
            for name, measurement, database in turns if number % 2 == 0 else turns[1:] + turns[:1]:
                results[name].append(self.measure(measurement, database, file, self._threads))
            latest = {name: found[-1] for name, found in results.items()}
            print(f"  round {number + 1}: " + ", ".join(f"{n} {r['seconds']:.2f} s" for n, r in sorted(latest.items())))
            for database in (bare, ours):
                Path(database).unlink()
        print("  threads: " + ", ".join(f"{name} {found[0]['threads']}" for name, found in results.items()))

        def least(name: str, figure: str) -> float:
            return min(result[figure] for result in results[name])

        unaudited = min(result["seconds"] - result["audit_seconds"] for result in results["ours"])

        def peak(name: str) -> float:
            return max(result["peak_bytes"] for result in results[name]) / MIB

        return [
            Row("load, without its audit", "s", unaudited, least("bare", "seconds")),
            Row("load", "s", least("ours", "seconds"), least("bare", "seconds"), LOAD_RATIO),
            Row("load, processor time", "s", least("ours", "processor_seconds"), least("bare", "processor_seconds")),
            Row("load over itself", "s", least("again", "seconds"), least("bare", "seconds")),
            Row("load, peak memory", "MiB", peak("ours"), peak("bare"), PEAK_MIB),
            Row("load over itself, peak memory", "MiB", peak("again"), peak("bare"), PEAK_MIB),
        ]

    def months(self) -> list[Row]:
        """Aggregate and draw a month that is alone in its warehouse, and the same after many others.

        The limit is for the task: a process of its own, from start to end. The part within, from connect to close and
        after imports, is shown for information.
        """
        file = self._file(self._size.month_rows)
        first, sixtieth = self.scratch / "first", self.scratch / "sixtieth"
        for folder, first_month in ((first, MONTH), (sixtieth, self._size.first_month)):
            print(f"  filling a warehouse with {len(month_range(first_month, MONTH))} months …")
            folder.mkdir()
            self.measure("fill", folder, file, first_month)
        result = self.measure("aggregate_and_map", first, sixtieth, self._size.month_rounds)
        print(f"  {result['trips first']:,} trips with a zone in month 1, {result['trips sixtieth']:,} in month 60")
        rows = []
        for task in ("aggregate", "map"):
            seconds: dict[Path, list[float]] = {first: [], sixtieth: []}
            for number in range(self._size.task_rounds):
                for folder in (first, sixtieth) if number % 2 else (sixtieth, first):
                    started = time.perf_counter()
                    self.measure(f"{task}_task", folder)
                    seconds[folder].append(time.perf_counter() - started)
            within = (min(result[f"{task} {place}"]) for place in ("sixtieth", "first"))
            rows.append(Row(task, "s", min(seconds[sixtieth]), min(seconds[first]), MONTHS_RATIO))
            rows.append(Row(f"{task}, after imports", "s", *within))
        return rows

    def _file(self, rows: int) -> Path:
        path = self.folder / f"{FLEET}_tripdata_{MONTH}_{rows}.parquet"
        if not path.exists():
            print(f"  making {path.name} …")
            self.measure("make_file", path, rows)
        return path

    def measure(self, name: str, *arguments: object) -> Result:
        """Run a measurement of `measure` in a process of its own, apart from this machine's Airflow."""
        done = self._run("tests.bench.measure", [name, *map(str, arguments)], "", {}, stderr=subprocess.PIPE)
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
        result: Result = json.loads(done.stdout.splitlines()[-1])
        return result

    def measure_tasks(self, name: str, arguments: Mapping[str, object], environment: Mapping[str, str]) -> Result:
        """Run a measurement of `tasks` likewise; what it says on stderr is shown."""
        return self.measure_in("tests.bench.tasks", name, arguments, environment)

    def measure_in(
        self, module: str, name: str, arguments: Mapping[str, object], environment: Mapping[str, str]
    ) -> Result:
        """Run a measurement of any such module."""
        done = self._run(module, [name], json.dumps(arguments), environment, stderr=None)
        if done.returncode:
            raise SystemExit(f"{name} failed; its messages are above\n{done.stdout[-3000:]}")
        result: Result = json.loads(done.stdout.splitlines()[-1])
        return result

    def _run(
        self, module: str, arguments: list[str], text: str, environment: Mapping[str, str], stderr: int | None
    ) -> subprocess.CompletedProcess[str]:
        foreign = ("AIRFLOW", "NYC_TAXI_", "PYTHONDONTWRITEBYTECODE")
        own = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
        own |= {
            "AIRFLOW_HOME": str(self.scratch / "airflow"),
            "AIRFLOW_CONN_WAREHOUSE": '{"conn_type": "duckdb"}',
            **environment,
        }
        if self._size is not QUICK:
            # So that no process but the first compiles Airflow, whoever owns the virtual environment.
            own["PYTHONPYCACHEPREFIX"] = str(self.scratch / "pycache")
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=own,
            input=text,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            check=False,
        )


def main() -> int:
    """Measure, print the table, and return the exit status; 130 if interrupted, after everything is cleaned up."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt_once)
    try:
        return _measure()
    except KeyboardInterrupt:
        print("\nInterrupted: nothing that was started is left, and made files stay", file=sys.stderr)
        return 130


def _measure() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small files, one round: shows that the bench works")
    parser.add_argument("--rounds", type=int, help="rounds of loads (default: 5), or of --peers (default: 1)")
    parser.add_argument("--threads", default="", help="for both sides of a load (default: what DuckDB takes, on both)")
    parser.add_argument("--archive", action="store_true", help="in place of that: the whole archive, at a hundredth")
    parser.add_argument("--big", action="store_true", help="in place of that: the archive's largest months only")
    parser.add_argument("--scale", action="store_true", help="in place of that: 1, 2 and 4 workers, a file and a lake")
    parser.add_argument("--peers", action="store_true", help="in place of that: a bare script, this project, Dagster")
    parser.add_argument("--months", type=int, default=12, help="of --peers: so many, from 2023-01 on (default: 12)")
    parser.add_argument("--partitions", type=int, help="in place of that: so many loaded months, 500 to a fleet")
    parser.add_argument("--in-lake", action="store_true", help="with --partitions: in a lake")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "bench", help="for the files that it makes")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else Size(**({"load_rounds": arguments.rounds} if arguments.rounds else {}))
    sys.stdout.reconfigure(line_buffering=True)
    print(
        f"{os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f}: the figures are of use when that is low"
    )
    with Bench(arguments.folder.absolute(), size, arguments.threads) as bench:
        real_data = Path(os.environ.get("NYC_TAXI_REAL_DATA") or ROOT.parent / "shared" / "data")
        if arguments.archive or arguments.big or arguments.scale:
            files = archive.Archive(bench, real_data, archive.QUICK if arguments.quick else archive.Size())
        if arguments.partitions is not None:
            heading = partitions.HEADING
            count = 100 if arguments.quick else arguments.partitions
            rows = partitions.Partitions(bench, count, in_lake=arguments.in_lake).measure()
        elif arguments.scale:
            heading = scale.HEADING
            rows = scale.Scale(bench, files, scale.QUICK if arguments.quick else scale.FULL).measure()
        elif arguments.archive or arguments.big:
            heading = archive.HEADING
            rows = files.measure(big_only=not arguments.archive)
        elif arguments.peers:
            heading = compare.HEADING
            of_peers = compare.QUICK if arguments.quick else compare.Size.of(arguments.months, arguments.rounds or 1)
            rows = compare.Peers(bench, of_peers).measure()
        else:
            heading = HEADING
            what = f"{size.load_rows:,} rows, {size.load_rounds} rounds"
            print(f"Loading {what}; seconds from connect to close, after imports")
            rows = bench.loads()
            print(f"Aggregating and drawing a month of {size.month_rows:,} rows, {size.month_rounds} rounds")
            rows += bench.months()
    print("\n" + table(rows, heading))
    if arguments.quick:
        print("\nQuick: these files are too small to judge by; the exit status is 0 whatever the figures are.")
        return 0
    return int(any(row.exceeded for row in rows))


if __name__ == "__main__":
    sys.exit(main())
