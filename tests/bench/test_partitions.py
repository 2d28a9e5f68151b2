"""The bench of many months: which worlds it compares, and how it judges growth."""

from itertools import pairwise

import pytest

from tests.bench import many_months
from tests.bench.partitions import ALLOWANCE, STEP, WORKS, Work, World, judged, sizes_of

ALL, A_STEP = Work("all", "x"), Work("step", "x", is_step=True)


def test_compares_a_hundredth_and_a_tenth_with_all() -> None:
    assert sizes_of(50_000) == (World(1, 500), World(10, 500), World(100, 500))
    assert sizes_of(100) == (World(1, 1), World(1, 10), World(1, 100))
    with pytest.raises(SystemExit, match="expected 100 or more"):
        sizes_of(99)


@pytest.mark.parametrize(
    ("work", "growth", "exceeded"),
    [
        (ALL, 10, False),
        (ALL, 10 * ALLOWANCE * 1.01, True),
        (A_STEP, 1, False),
        (A_STEP, STEP * 1.01, True),
    ],
)
def test_what_looks_at_all_months_may_grow_with_them_and_a_step_may_not(
    work: Work, growth: float, exceeded: bool
) -> None:
    assert judged(work, 1.0, growth, 10).exceeded is exceeded


def test_growth_from_nothing_to_little_says_nothing() -> None:
    assert not judged(A_STEP, 0.0001, 0.015, 10).exceeded


def test_every_work_is_a_measurement_that_there_is() -> None:
    known = {*many_months.MEASUREMENTS, "status_of_one"}
    assert {work.measurement for work in WORKS} <= known
    assert len({(work.measurement, work.part) for work in WORKS}) == len(WORKS)


def test_500_months_have_ended_and_follow_one_another() -> None:
    months = many_months.months_of(500)
    assert all(before.next == after for before, after in pairwise(months))
    assert months[-1].end <= many_months.TODAY.date()
    assert months[-1].next.end > many_months.TODAY.date()
