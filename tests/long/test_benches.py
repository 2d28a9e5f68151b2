"""That `make bench` works, alone and with ARCHIVE=1, SCALE=1, PEERS=1 and PARTITIONS=: that it ends with its tables."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from include.orchestration.compat import IS_AIRFLOW_3
from tests.bench.partitions import WORKS
from tests.conftest import ROOT

FIGURE = re.compile(r"[\d,]+(\.\d{3})? (s|MiB)")


@pytest.fixture
def bench(tmp_path: Path) -> Callable[[str], str]:
    """Run a bench quickly; returns what it printed. The list of files is made up.

    It has two years of each fleet, and one of yellow coordinates.
    """
    fleets = {"fhv": (2018, 2019), "fhvhv": (2020, 2021), "green": (2018, 2019), "yellow": (2010, 2020)}
    months = [(fleet, f"{year}-{month:02}") for fleet, years in fleets.items() for year in years for month in (1, 2)]
    reference = tmp_path / "real" / "reference" / "tlc_files.csv"
    reference.parent.mkdir(parents=True)
    lines = ["fleet,month,rows,bytes", *(f"{fleet},{month},{10_000_000 + 7},1" for fleet, month in months)]
    reference.write_text("\n".join(lines))

    def run(which: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench", which, "--quick", "--folder", str(tmp_path / "made")],
            cwd=ROOT,
            env=os.environ | {"NYC_TAXI_REAL_DATA": str(tmp_path / "real")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_quick_run_ends_with_the_table(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--quick", "--folder", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n\n")[1].splitlines()
    rows = {cells[0]: cells[1:] for cells in (re.split(r"\s{2,}", line) for line in lines[1:])}
    assert list(rows) == [
        "load, without its audit",
        "load",
        "load, processor time",
        "load over itself",
        "load, peak memory",
        "load over itself, peak memory",
        "aggregate",
        "aggregate, after imports",
        "map",
        "map, after imports",
    ]
    for ours, other, ratio, limit, verdict in rows.values():
        assert FIGURE.fullmatch(ours)
        assert FIGURE.fullmatch(other)
        assert float(ratio) > 0
        assert (limit == "-") == (verdict == "-")
    assert [path.suffix for path in tmp_path.iterdir()] == [".parquet", ".parquet"]  # databases do not stay


def test_quick_run_of_the_archive(bench: Callable[[str], str], tmp_path: Path) -> None:
    printed = bench("--archive")
    for part in (
        "Loading yellow 2010-01, 2,000 rows: the largest month of yellow, coordinates",
        "Running the tasks of 10 files, 20,000 rows",
        "Seconds per file, by year",
        "Size of the warehouse: ",
        "At full size, 16 files with 160,000,112 rows: ",
        "Slope, at equal rows",
        "all, processor time",
        "next month, all tasks",
        "make status, all fleets",
        "yellow 2010-01, 0.0 M rows over itself, peak memory",
    ):
        assert part in printed, part
    assert {path.name for path in (tmp_path / "made").iterdir()} == {
        "archive-0.0002",
        "yellow_tripdata_2010-01_2000.parquet",
    }


@pytest.mark.skipif(not IS_AIRFLOW_3, reason="the Celery stack is for Airflow 3")
def test_quick_run_of_workers(bench: Callable[[str], str]) -> None:
    printed = bench("--scale")
    for part in (
        "2 months, 4,000 trips",
        "Of the workers' time, a month",
        "Processor time a month",
        "Commits to the lake by 2 processes at once: ",
        "The archive by the model: 2 files, 20,000,014 rows; ",
        "Load of a million rows, and the table's size for them",
        "lake, 2 workers, 2 months",
        "file, 2 workers, 2 months",
    ):
        assert part in printed, part


@pytest.mark.skipif(not IS_AIRFLOW_3, reason="on 2.11 a backfill has no services that may be up")
def test_quick_run_of_peers(bench: Callable[[str], str], tmp_path: Path) -> None:
    printed = bench("--peers")
    for part in (
        "DuckDB in each process of all: ",
        "until first month",
        "Of the cold start, ",
        "Seconds of a month's tasks, by their own records",
        "second half ÷ first",
        "ours, cold start, processor time",
        "ours, services up, processor time",
    ):
        assert part in printed, part
    assert "Dagster" not in printed
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["peers-2000"]


def test_quick_run_of_the_partitions(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--partitions", "100", "--quick", "--folder", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(done.stdout.count(f"\n{work.what} ") == 2 for work in WORKS)
