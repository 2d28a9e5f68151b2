"""What `make bench SCALE=1` makes of what it has measured; that it runs is tested in `tests/long/test_benches.py`."""

import json
from pathlib import Path

import pytest

from tests.bench import scale
from tests.bench.scale import Model, Used


def used(warehouse: str = "lake", workers: int = 1, wall: float = 100.0, processors: float = 80.0) -> Used:
    """Ten months of six tasks; each task runs for a second, and its worker is at it for 1.5 s."""
    return Used(
        warehouse=warehouse,
        workers=workers,
        months=10,
        trips=1_000_000,
        wall=wall,
        slots=90.0,
        work=30.0,
        running=60.0,
        pool=30.0,
        tasks=60,
        pool_tasks=30,
        by_process={"scheduler": processors / 4, "worker-1": processors / 2, "worker-2": processors / 4},
    )


def test_workers_are_scarce_then_processors() -> None:
    model = Model.of(used())
    assert model.seconds(months=10, workers=1, processors=4) == pytest.approx(100)
    assert model.seconds(months=20, workers=4, processors=4) == pytest.approx(50)
    assert model.seconds(months=10, workers=100, processors=4) == pytest.approx(20)


def test_a_file_has_one_task_of_the_pool_at_a_time_with_what_comes_between_two() -> None:
    # 40 s of 100 are between 60 tasks, so 20 s of them between the 30 of the pool.
    assert Model.of(used("file")).seconds(months=10, workers=100, processors=100) == pytest.approx(30 + 20)
    assert Model.of(used("lake")).pool == 0


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
