"""That `make bench` works. What it measures is not asserted: a test machine has other things to do."""

from pathlib import Path

import pytest

from tests.bench.archive import fit, read_files
from tests.bench.table import Row, table


def test_the_archive_needs_its_list_of_files(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="NYC_TAXI_REAL_DATA says"):
        read_files(tmp_path, None)


def test_fit_finds_what_a_month_is_made_of_whatever_disturbs_it() -> None:
    kinds = [("yellow", "green")[number % 2] for number in range(400)]
    rows = [(number * 7919) % 100_000 for number in range(400)]
    seconds = [
        (0.5 if kind == "yellow" else 0.3) + (4 if kind == "yellow" else 2) * count / 1e6 + 0.02 * number / 100
        for number, (kind, count) in enumerate(zip(kinds, rows, strict=True))
    ]
    disturbed = [value + (9 if number % 20 == 0 else 0) for number, value in enumerate(seconds)]
    found = fit(kinds, rows, disturbed)
    assert found.per_100_months == pytest.approx(0.02, abs=0.002)
    assert found.fixed == pytest.approx({"yellow": 0.5, "green": 0.3}, abs=0.01)
    assert found.per_million == pytest.approx({"yellow": 4, "green": 2}, abs=0.1)
    assert found.seconds("yellow", 1_000_000) == pytest.approx(4.5, abs=0.1)


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (Row("a", "s", 1.10, 1.0, 1.10), "ok"),
        (Row("a", "s", 1.11, 1.0, 1.10), "TOO SLOW"),
        (Row("a", "s", 9.0, 1.0), "-"),
        (Row("a", "ms", 100, None, 100), "ok"),
        (Row("a", "ms", 100.1, None, 100), "TOO SLOW"),
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
