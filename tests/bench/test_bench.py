"""That `make bench` works. What it measures is not asserted: a test machine has other things to do."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.__main__ import ROOT
from tests.bench.table import Row, table

FIGURE = re.compile(r"[\d,]+(\.\d{3})? (s|MiB)")


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


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (Row("a", "s", 1.10, 1.0, 1.10), "ok"),
        (Row("a", "s", 1.11, 1.0, 1.10), "TOO SLOW"),
        (Row("a", "s", 9.0, 1.0), "-"),
        (Row("a", "MiB", 1024, 1, 1024), "ok"),
        (Row("a", "MiB", 1025, None, 1024), "TOO MUCH"),
    ],
)
def test_a_row_is_judged_by_its_limit(row: Row, verdict: str) -> None:
    assert row.cells()[-1] == verdict
    assert row.exceeded == verdict.startswith("TOO")


def test_table_aligns_its_columns() -> None:
    lines = table([Row("load", "s", 1.5, 1.0, 1.15), Row("peak", "MiB", 1000, None, 1024)]).splitlines()
    assert lines == [
        "what  ours, month 60  bare, month 1  ratio      limit",
        "load         1.500 s        1.000 s  1.500       1.15  TOO SLOW",
        "peak       1,000 MiB              -      -  1,024 MiB  ok",
    ]
