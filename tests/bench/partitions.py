"""`make bench PARTITIONS=50000`: what grows with the number of loaded months, and does anything grow faster than it?

Worlds of a hundredth, a tenth and all of so many months, 500 to a fleet, are made in bulk (see `many_months`). What
reads them is then measured in each, every measurement in a process of its own. What looks at all months, such as the
page's grid, may cost ten times as much in a world ten times as large. A step, such as the next month's load, may not:
it costs what its month costs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from tests.bench.table import Row
from tests.bench.tasks import connection, lake_connection

if TYPE_CHECKING:
    from tests.bench.__main__ import Bench
    from tests.bench.measure import Result

MONTHS_OF_A_FLEET = 500
MIB = 1 << 20
ALLOWANCE = 1.25
"""How many times linear the growth of what looks at all months may be, from the middle to the largest world."""
STEP = 5.0
"""How many times as much a step may cost in the largest world, which has ten times as many months and fleets. It would
be 1 if nothing but its own month counted: but a task that has written looks for changes with one query on all
bookkeeping rows, and knows the tables of all fleets."""
SMALLEST = 0.02
"""Seconds. What costs less is compared as if it cost so much: growth from nothing to little says nothing."""
HEADING = ("growth", "if linear")


@dataclass(frozen=True)
class World:
    """So many fleets, each with so many loaded months."""

    fleets: int
    months: int

    @property
    def partitions(self) -> int:
        return self.fleets * self.months

    @classmethod
    def of(cls, partitions: int) -> World:
        fleets = max(1, partitions // MONTHS_OF_A_FLEET)
        return cls(fleets, partitions // fleets)


@dataclass(frozen=True)
class Work:
    """Something that is measured.

    Attributes:
        measurement, part: of `many_months`; `part` is the name of one of several results, or empty.
        is_step: whether it concerns one month, or one fleet, and must not cost what all of them cost.
    """

    what: str
    measurement: str
    part: str = ""
    is_step: bool = False


WORKS = (
    Work("snapshot of the whole warehouse", "snapshot_from_nothing"),
    Work("a visit that changes nothing", "visit", is_step=True),
    Work("load of the next month", "next_month", "load", is_step=True),
    Work("aggregate of the next month", "next_month", "aggregate", is_step=True),
    Work("page: the grid, first look", "page", "grid, first"),
    Work("page: the grid, asked again", "page", "grid, again"),
    Work("page: a month's panel", "page", "month, again", is_step=True),
    Work("page: the shared resources", "page", "resource"),
    Work("page: a fleet's outputs", "outputs"),
    Work("make status, all fleets", "status"),
    Work("make status, one fleet", "status_of_one"),
    Work("make quality, a month", "quality", is_step=True),
    Work("the daily check for editions", "editions"),
    Work("the months that a mart lacks", "marts_due"),
    Work("reading dags/taxi_trips.py", "dag_files"),
    Work("the same in a task", "dag_file_in_a_task", is_step=True),
)


def sizes_of(partitions: int) -> tuple[World, World, World]:
    """The worlds to compare: a hundredth, a tenth, and all.

    Raises:
        SystemExit: fewer than 100 are too few.
    """
    if partitions < 100:
        raise SystemExit(f"PARTITIONS={partitions}: expected 100 or more, for example PARTITIONS=50000")
    small, middle, large = (World.of(partitions // share) for share in (100, 10, 1))
    return small, middle, large


def judged(work: Work, middle: float, large: float, factor: float) -> Row:
    """The row of the table for the processor seconds of a work in the middle and in the largest world.

    Args:
        factor: how many times as many months the largest world has.
    """
    growth = max(large, SMALLEST) / max(middle, SMALLEST)
    return Row(work.what, "times", growth, 1.0 if work.is_step else factor, STEP if work.is_step else ALLOWANCE)


class Partitions:
    """Makes worlds and measures them. `bench` runs what is measured, in its folder.

    Args:
        in_lake: whether the warehouse is a lake, with a file for each month, and not a file.
    """

    def __init__(self, bench: Bench, partitions: int, *, in_lake: bool = False) -> None:
        self._bench, self._worlds, self._in_lake = bench, sizes_of(partitions), in_lake

    def measure(self) -> list[Row]:
        """Measure, print what was found, and return the rows of the table."""
        found = [self._measure(world) for world in self._worlds]
        lines = []
        for work in WORKS:
            results = [of_world[work] for of_world in found]
            seconds = [f"{result['processor_seconds']:,.3f}" for result in results]
            peaks = [f"{result['peak_bytes'] / MIB:,.0f}" for result in results]
            lines.append((work.what, *seconds, *peaks))
        names = [f"{world.partitions:,}" for world in self._worlds]
        heading = ("what", *(f"{name}, s" for name in names), *(f"{name}, MiB" for name in names))
        print("\nProcessor seconds, and peak memory of the process:\n")
        print(tabulate(lines, heading, disable_numparse=True, colalign=("left", *["right"] * 6)))
        print("\n" + self._sizes(found))
        _, middle, large = self._worlds
        factor = large.partitions / middle.partitions
        return [
            judged(work, found[1][work]["processor_seconds"], found[2][work]["processor_seconds"], factor)
            for work in WORKS
        ]

    def _sizes(self, found: Sequence[Mapping[Work, Result]]) -> str:
        def of(measurement: str, part: str, name: str) -> str:
            work = next(work for work in WORKS if (work.measurement, work.part) == (measurement, part))
            return ", ".join(f"{of_world[work][name] / 1e6:,.1f}" for of_world in found)

        return (
            f"MB of the snapshot: {of('snapshot_from_nothing', '', 'bytes')}; "
            f"of the grid's JSON: {of('page', 'grid, again', 'answer_bytes')}"
        )

    def _measure(self, world: World) -> dict[Work, Result]:
        print(f"  {world.partitions:,} months: {world.fleets} fleets, {world.months} months each …")
        environment = self._make(world)
        fleet, last = "fleet000", "2041-10"
        arguments: dict[str, dict[str, Any]] = {
            "next_month": {"fleet": fleet, "month": last},
            "status": {"count": world.fleets},
            "status_of_one": {"count": 1},
            "quality": {"fleet": fleet, "month": "2000-03"},
        }
        results: dict[str, Result] = {}
        for name in dict.fromkeys(work.measurement for work in WORKS):
            measurement = "status" if name == "status_of_one" else name
            results[name] = self._run(world, measurement, arguments.get(name, {}), environment)
        return {work: results[work.measurement].get(work.part, results[work.measurement]) for work in WORKS}

    def _make(self, world: World) -> dict[str, str]:
        folder = self._bench.scratch / f"{world.partitions}-months"
        environment = {
            "AIRFLOW_HOME": str(folder / "airflow"),
            "NYC_TAXI_DATA_DIR": str(folder / "data"),
            "AIRFLOW_CONN_WAREHOUSE": (lake_connection if self._in_lake else connection)(f"{folder}/data"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        }
        (folder / "data").mkdir(parents=True)
        subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env={name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")} | environment,
            check=True,
            capture_output=True,
        )
        for name in ("make_warehouse", "make_files", "make_runs"):
            self._run(world, name, {"fleets": world.fleets, "months": world.months}, environment)
        return environment

    def _run(self, world: World, name: str, arguments: dict[str, Any], environment: dict[str, str]) -> Result:
        return self._bench.measure_in(
            "tests.bench.many_months", name, arguments | {"catalogue": world.fleets}, environment
        )
