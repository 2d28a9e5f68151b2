"""That `make bench ARCHIVE=1` works: a minute, and nothing of it is asserted but that it ends with its tables."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def test_quick_run_of_the_archive(tmp_path: Path) -> None:
    """Two years of each fleet, and one of yellow coordinates; the list of files is made up."""
    fleets = {"fhv": (2018, 2019), "fhvhv": (2020, 2021), "green": (2018, 2019), "yellow": (2010, 2020)}
    months = [(fleet, f"{year}-{month:02}") for fleet, years in fleets.items() for year in years for month in (1, 2)]
    reference = tmp_path / "real" / "reference" / "tlc_files.csv"
    reference.parent.mkdir(parents=True)
    lines = ["fleet,month,rows,bytes", *(f"{fleet},{month},{10_000_000 + 7},1" for fleet, month in months)]
    reference.write_text("\n".join(lines))
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--archive", "--quick", "--folder", str(tmp_path / "made")],
        cwd=ROOT,
        env=os.environ | {"NYC_TAXI_REAL_DATA": str(tmp_path / "real")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
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
        assert part in done.stdout, part
    assert {path.name for path in (tmp_path / "made").iterdir()} == {
        "archive-0.0002",
        "yellow_tripdata_2010-01_2000.parquet",
    }
