"""`make bench ARCHIVE=1`: the TLC's whole archive at one hundredth of its size, and its largest months at their own."""

from __future__ import annotations

import csv
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tabulate import tabulate

from include.nyc_taxi import catalogue
from include.nyc_taxi.months import Month
from include.tlc_simulator.server import TlcSimulator
from tests.bench.table import Row
from tests.bench.tasks import connection, lake_connection

if TYPE_CHECKING:
    from tests.bench.__main__ import Bench
    from tests.bench.measure import Result

MIB = 1 << 20
QUERY_MS, PEAK_MIB, GROWTH = 100, 2048, 1.25
HEADING = ("measured", "in a new warehouse")


@dataclass(frozen=True)
class TlcFile:
    """A file that the TLC has published: its number of rows and of bytes."""

    fleet: str
    month: str
    rows: int
    bytes: int

    @property
    def kind(self) -> str:
        """Files of a kind cost the same a row: those of a fleet, and apart from them those that have coordinates."""
        return self.fleet if catalogue.fleet(self.fleet).layout(self.month).has_zones else f"{self.fleet}, coordinates"


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        share, big_share: of a file's true rows, for the archive and for the largest months.
        big_kinds: of so many kinds of files the largest month is loaded; None for all.
        files: so many of the archive's, evenly spread; None for all.
        rounds: how often the next month is run.
        query_rounds: how often a question is asked.
    """

    share: float = 0.01
    big_share: float = 1.0
    big_kinds: int | None = None
    files: int | None = None
    rounds: int = 7
    query_rounds: int = 15


QUICK = Size(share=0.0002, big_share=0.0002, big_kinds=1, files=10, rounds=2, query_rounds=2)


@dataclass(frozen=True)
class Fit:
    """Seconds of a month, as they depend on its kind, its rows, and how many months have been loaded before it.

    Attributes:
        fixed: what a month of a kind costs whatever its rows.
        per_million: what a million of its rows adds.
        per_100_months: what a hundred months loaded before add: the slope.
    """

    fixed: dict[str, float]
    per_million: dict[str, float]
    per_100_months: float

    def seconds(self, kind: str, rows: int) -> float:
        """Of a month of so many rows that is the first."""
        return self.fixed[kind] + self.per_million[kind] * rows / 1e6


def read_files(real_data: Path, count: int | None) -> list[TlcFile]:
    """What the TLC has published by mid-2024, in order of time; `count` of them, evenly spread, or all.

    Raises:
        SystemExit: the list is not there.
    """
    path = real_data / "reference" / "tlc_files.csv"
    if not path.exists():
        raise SystemExit(f"no list of the TLC's files at {path}: NYC_TAXI_REAL_DATA says in which folder reference/ is")
    with path.open(newline="", encoding="utf-8") as file:
        found = [TlcFile(r["fleet"], r["month"], int(r["rows"]), int(r["bytes"])) for r in csv.DictReader(file)]
    found.sort(key=lambda file: (file.month, file.fleet))
    if count is None or count >= len(found):
        return found
    return [found[round(number * (len(found) - 1) / (count - 1))] for number in range(count)]


def fit(kinds: Sequence[str], rows: Sequence[int], seconds: Sequence[float]) -> Fit:
    """Fit the seconds of months, in the order in which they were run.

    Least squares, again and again with less weight for what lies far off (Huber's weights): a machine that was busy
    with something else for a while does not tilt the slope.
    """
    names = sorted(set(kinds))
    of_kind = np.array([[kind == name for name in names] for kind in kinds], dtype=float)
    design = np.hstack([of_kind, of_kind * np.array(rows)[:, None] / 1e6, np.arange(len(rows))[:, None] / 100])
    wanted, weights = np.array(seconds), np.ones(len(seconds))
    for _ in range(50):
        root = np.sqrt(weights)[:, None]
        found, *_ = np.linalg.lstsq(design * root, wanted * root[:, 0], rcond=None)
        off = np.abs(wanted - design @ found)
        usual = max(1.4826 * float(np.median(off)), 1e-9)
        weights = np.minimum(1, 1.345 * usual / np.maximum(off, 1e-12))
    count = len(names)
    return Fit(
        fixed=dict(zip(names, map(float, found[:count]), strict=True)),
        per_million=dict(zip(names, map(float, found[count : 2 * count]), strict=True)),
        per_100_months=float(found[-1]),
    )


class Archive:
    """Measures the archive. `bench` runs what is measured; made files stay in its folder."""

    def __init__(self, bench: Bench, real_data: Path, size: Size) -> None:
        self._bench, self._size, self._url = bench, size, ""
        self._files = read_files(real_data, size.files)
        self.all_files = read_files(real_data, None)

    def measure(self, *, big_only: bool) -> list[Row]:
        """Measure, and print all that is found; returns the rows that have limits."""
        big, _, big_rows = self.largest_months()
        if big_only:
            return big_rows
        self._site = self._make_site()
        with TlcSimulator(self._site, serve_folder=self._site) as simulator:
            self._url = simulator.url
            print(f"Running the tasks of {len(self._files)} files, {sum(map(self._rows, self._files)):,} rows")
            done = self._tasks("run_archive", data_dir=self._folder("archive"), months=self._listed(self._files))
            print("\nSeconds per file, by year\n" + self._by_year(done["months"]))
            whole = self._fit(done["months"], [sum(month["seconds"].values()) for month in done["months"]])
            print("\n" + self._sizes(done, big))
            print("\n" + self._extrapolated(whole, done, big))
            print("\n" + self._slopes(done["months"], whole))
            rows = self._growth() + self._queries()
        return rows + big_rows

    # -- the largest months

    def largest_months(self) -> tuple[dict[str, Result], dict[str, Result], list[Row]]:
        """Load the month with the most rows of each kind into a new warehouse and over itself; and into a new lake.

        Returns:
            What `tasks.load` measured of the first load, by kind: in a file, in a lake; and rows for the table.
        """
        most: dict[str, TlcFile] = {}
        for file in self.all_files:
            most[file.kind] = max(most.get(file.kind, file), file, key=lambda one: one.rows)
        in_file: dict[str, Result] = {}
        in_lake: dict[str, Result] = {}
        rows: list[Row] = []
        with TlcSimulator(self._bench.scratch / "zones-site") as simulator:
            self._url = simulator.url
            for kind, file in sorted(most.items(), reverse=True)[: self._size.big_kinds]:
                count = max(1000, round(file.rows * self._size.big_share))
                path = self._bench.folder / f"{file.fleet}_tripdata_{file.month}_{count}.parquet"
                print(f"Loading {file.fleet} {file.month}, {count:,} rows: the largest month of {kind}")
                self._tasks("make_file", path=str(path), fleet=file.fleet, month=file.month, rows=count)
                for place, lake, found in (
                    ("", False, in_file),
                    (" over itself", False, {}),
                    (" into a lake", True, in_lake),
                ):
                    data_dir = self._data_dir("big")
                    if place != " over itself":
                        (Path(self._folder("big")) / "raw").mkdir()
                        (Path(data_dir) / "raw" / catalogue.file_name(file.fleet, file.month)).symlink_to(path)
                        # A process of its own: what reads the zones' shapes takes memory that no load does.
                        self._tasks("load_zones", lake, data_dir=data_dir)
                    result = self._tasks("load", lake, data_dir=data_dir, fleet=file.fleet, month=file.month)
                    print(
                        f"  load{place}: {result['seconds']:.1f} s (processors {result['processor_seconds']:.1f} s), "
                        f"peak {result['peak_bytes'] / MIB:,.0f} MiB, warehouse {result['file_bytes'] / 1e6:,.0f} MB"
                    )
                    what = f"{file.fleet} {file.month}, {count / 1e6:.1f} M rows{place}, peak memory"
                    rows.append(Row(what, "MiB", result["peak_bytes"] / MIB, None, PEAK_MIB))
                    found[kind] = result
                shutil.rmtree(data_dir)
        return in_file, in_lake, rows

    # -- the archive

    def _make_site(self) -> Path:
        site = self._bench.folder / f"archive-{self._size.share:g}"
        missing = [
            file for file in self._files if not Path(f"{site}{catalogue.file_path(file.fleet, file.month)}").exists()
        ]
        if missing:
            print(f"Making {len(missing)} files, {sum(map(self._rows, missing)):,} rows, in {site} …")
        self._tasks("make_site", site=str(site), months=self._listed(missing))
        return site

    def _rows(self, file: TlcFile) -> int:
        return max(300, round(file.rows * self._size.share))

    def _listed(self, files: Iterable[TlcFile]) -> list[tuple[str, str, int]]:
        return [(file.fleet, file.month, self._rows(file)) for file in files]

    def _fit(self, months: list[Result], seconds: list[float]) -> Fit:
        kinds = [TlcFile(month["fleet"], month["month"], 0, 0).kind for month in months]
        return fit(kinds, [month["rows"] for month in months], seconds)

    def _by_year(self, months: list[Result]) -> str:
        years = defaultdict(list)
        for month in months:
            years[month["month"][:4]].append(month)
        tasks = list(months[0]["seconds"])
        lines = []
        for year, found in sorted(years.items()):
            means = [sum(month["seconds"][task] for month in found) / len(found) for task in tasks]
            rows = sum(month["rows"] for month in found)
            lines.append([year, f"{len(found)}", f"{rows:,}", *(f"{mean:.3f}" for mean in means), f"{sum(means):.3f}"])
        return tabulate(lines, ["year", "files", "rows", *tasks, "all"], disable_numparse=True, stralign="right")

    def _slopes(self, months: list[Result], whole: Fit) -> str:
        tasks = {task: self._fit(months, [month["seconds"][task] for month in months]) for task in months[0]["seconds"]}
        processor = self._fit(months, [month["processor_seconds"] for month in months])
        lines = [
            [name, f"{1000 * found.per_100_months:+.1f} ms", *(f"{value:.3f} s" for value in found.fixed.values())]
            for name, found in {**tasks, "all": whole, "all, processor time": processor}.items()
        ]
        heading = ["task", "100 months more", *(f"fixed, {kind}" for kind in whole.fixed)]
        return "Slope, at equal rows, and what a month costs whatever its rows\n" + tabulate(
            lines, heading, disable_numparse=True, stralign="right"
        )

    def _sizes(self, done: Result, big: dict[str, Result]) -> str:
        loaded: dict[str, int] = defaultdict(int)
        for month in done["months"]:
            loaded[month["fleet"]] += month["rows"]
        lines = []
        for fleet, rows in sorted(loaded.items()):
            of_big = [result for kind, result in big.items() if kind.split(",")[0] == fleet]
            true = " / ".join(f"{result['bytes'] / result['rows']:.1f} MB" for result in of_big)
            lines.append(
                [
                    fleet,
                    f"{rows:,}",
                    f"{done['bytes'][fleet] / 1e6:,.0f} MB",
                    f"{done['bytes'][fleet] / rows:.1f} MB",
                    true,
                ]
            )
        heading = ["fleet", "trips", "table", "per million trips", "largest months alone"]
        return f"Size of the warehouse: {done['file_bytes'] / 1e6:,.0f} MB\n" + tabulate(
            lines, heading, disable_numparse=True, stralign="right"
        )

    def _extrapolated(self, whole: Fit, done: Result, big: dict[str, Result]) -> str:
        """What the archive is at its full size: each file's fixed cost and rows, and its table's bytes a row."""
        loaded: dict[str, int] = defaultdict(int)
        for month in done["months"]:
            loaded[month["fleet"]] += month["rows"]
        known = [file for file in self.all_files if file.kind in whole.fixed]
        fixed = sum(whole.fixed[file.kind] for file in known)
        by_rows = sum(whole.per_million[file.kind] * file.rows / 1e6 for file in known)
        slope = sum(whole.per_100_months * number / 100 for number in range(len(known)))
        size = sum(done["bytes"][file.fleet] / loaded[file.fleet] * file.rows for file in known)
        load = self._fit(done["months"], [month["seconds"]["load"] for month in done["months"]])
        lines = [
            [
                kind,
                f"{result['rows']:,}",
                f"{load.per_million[kind]:.2f} s",
                f"{load.seconds(kind, result['rows']):.1f} s",
                f"{result['seconds']:.1f} s",
            ]
            for kind, result in big.items()
            if kind in load.fixed
        ]
        return (
            f"At full size, {len(known)} files with {sum(file.rows for file in known):,} rows: "
            f"{(fixed + by_rows + slope) / 3600:.1f} hours "
            f"(fixed {fixed / 3600:.2f}, by rows {by_rows / 3600:.2f}, slope {slope / 3600:+.2f}) one after another, "
            f"and {size / 1e9:,.0f} GB\n"
            "Load of the largest months, as the archive's fit says and as measured\n"
            + tabulate(
                lines, ["kind", "rows", "a million rows", "fit", "measured"], disable_numparse=True, stralign="right"
            )
        )

    def _growth(self) -> list[Row]:
        """Run the month after the last, with all loaded and in a warehouse of its own."""
        last = max((file for file in self._files if file.fleet == "yellow"), key=lambda file: file.month)
        month = Month(last.month).next
        self._tasks("make_site", site=str(self._site), months=[("yellow", month, self._rows(last))])
        print(f"\nRunning yellow {month}, {self._rows(last):,} rows, {self._size.rounds} rounds")
        found = self._tasks(
            "next_month",
            full=self._data_dir("archive"),
            empty=self._folder("empty"),
            fleet="yellow",
            month=month,
            rounds=self._size.rounds,
        )
        full, empty = ({task: min(times) for task, times in found[place].items()} for place in ("full", "empty"))
        return [
            *(Row(f"next month, {task}", "s", full[task], empty[task]) for task in full),
            Row("next month, all tasks", "s", sum(full.values()), sum(empty.values()), GROWTH),
        ]

    def _queries(self) -> list[Row]:
        found = self._tasks("ask", data_dir=self._data_dir("archive"), rounds=self._size.query_rounds)
        return [Row(name, "ms", 1000 * min(seconds), None, QUERY_MS) for name, seconds in found.items()]

    # -- where and how

    def _data_dir(self, name: str) -> str:
        return str(self._bench.scratch / name)

    def _folder(self, name: str) -> str:
        """A new data directory."""
        shutil.rmtree(self._data_dir(name), ignore_errors=True)
        Path(self._data_dir(name)).mkdir()
        return self._data_dir(name)

    def _tasks(self, name: str, lake: bool = False, **arguments: object) -> Result:
        data_dir = str(arguments.get("data_dir") or arguments.get("full") or self._bench.scratch)
        return self._bench.measure_tasks(
            name,
            arguments,
            {
                "NYC_TAXI_DATA_DIR": data_dir,
                "NYC_TAXI_TLC_URL": self._url,
                "AIRFLOW_CONN_WAREHOUSE": lake_connection(data_dir) if lake else connection(data_dir),
                "AIRFLOW_CONN_TLC": '{"conn_type": "http"}',
                "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
            },
        )
