"""What `make bench SCALE=1` makes of what it has measured; that it runs is tested in `tests/long/test_benches.py`."""

import json
from pathlib import Path

import pytest

from tests.bench import scale
from tests.bench.scale import Model, Used


def used(warehouse: str = "lake", workers: int = 1, wall: float = 100.0, processors: float = 80.0) -> Used:
    """Ten months."""
    return Used(
        warehouse=warehouse,
        workers=workers,
        months=10,
        trips=1_000_000,
        wall=wall,
        slots=90.0,
        work=30.0,
        pool=30.0,
        by_process={"scheduler": processors / 4, "worker-1": processors / 2, "worker-2": processors / 4},
    )


def test_workers_are_scarce_then_processors() -> None:
    model = Model.of(used())
    assert model.seconds(months=10, workers=1, processors=4) == pytest.approx(100)
    # Two on 4000 processors are not in each other's way, a hundred on 4 take all of them.
    assert model.seconds(months=10, workers=2, processors=4000) == pytest.approx(50, rel=0.001)
    assert model.seconds(months=10, workers=100, processors=4) == pytest.approx(80 / 4, rel=0.001)
    # Two on 4 processors: at them a month is 2 s of 10, and the second finds the first there one time in five.
    assert model.seconds(months=10, workers=2, processors=4) == pytest.approx(10 * (2 * 1.2 + 8) / 2)


def test_on_a_file_a_month_takes_no_less_than_its_tasks_that_have_it_alone() -> None:
    assert Model.of(used("file")).seconds(months=10, workers=100, processors=4000) == pytest.approx(30)
    assert Model.of(used("lake")).seconds(months=10, workers=100, processors=4000) == pytest.approx(1, rel=0.01)


def test_the_work_of_a_task_is_what_its_log_has_between_two_groups(tmp_path: Path) -> None:
    events = [
        ("::group::Pre Execute", "00.5"),
        ("::endgroup::", "01.0"),
        ("loading", "02.0"),
        ("::group::Post Execute", "03.25"),
        ("::endgroup::", "09.0"),
    ]

    def work(count: int) -> float:
        lines = [
            json.dumps({"event": event, "timestamp": f"2026-11-25T10:00:{second}Z"}) for event, second in events[:count]
        ]
        (tmp_path / "log").write_text("\n".join(lines))
        return scale._work_seconds(tmp_path / "log")

    assert work(5) == 2.25
    assert work(3) == 0  # killed


def test_a_workers_log_says_how_long_its_slot_was_taken() -> None:
    log = (
        "[INFO] Task execute_workload[a] received\n"
        "[INFO] Task execute_workload[a] succeeded in 1.5s: None\n"
        "[INFO] Task execute_workload[b] succeeded in 2.25s: None\n"
    )
    assert scale._slot_seconds(log) == 3.75


def test_the_tables_say_what_they_are_about() -> None:
    found = [used(), used(workers=2, wall=50.0)]
    assert "10 months, 1,000,000 trips" in scale._throughput(found)
    assert "12.00" in scale._throughput(found)  # months a minute
    assert "3.0 s (30 %)" in scale._where_time_goes(found)
    assert "6.0 s" in scale._by_process(found)  # of all workers
