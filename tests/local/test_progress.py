"""What a backfill shows while it runs: a bar in a terminal, lines elsewhere."""

from datetime import date
from pathlib import Path

import pytest

from include.local import progress, runs
from include.local.backfill import Job
from include.local.progress import Progress
from include.local.runs import Run, Try

JOB = Job("green", "taxi_trips_green", {f"2023-0{n}": date(2023, n, 1) for n in (1, 2, 3)}, lambda *_: "")


class Airflow:
    """What Airflow's database says of the job, one state after the other."""

    def __init__(self):
        self.runs, self.tasks, self.failed = [], {}, []

    def has(self, states, tasks, failed=()):
        self.runs = [Run(name, name, state, None, False) for name, state in zip(JOB.partitions, states, strict=False)]
        self.tasks, self.failed = tasks, list(failed)


@pytest.fixture
def airflow(monkeypatch):
    told = Airflow()
    monkeypatch.setattr(runs, "read_runs", lambda *_: told.runs)
    monkeypatch.setattr(runs, "count_tasks", lambda *_: told.tasks)
    monkeypatch.setattr(runs, "failed_tries", lambda *_: told.failed)
    return told


def test_lines_say_what_has_changed_once(airflow, capsys):
    with Progress(JOB) as shown:
        assert not shown.show()
        airflow.has(["running"] * 3, {"done": 4, "waiting": 14})
        assert not shown.show()
        assert not shown.show()
        airflow.has(["success"] * 3, {"done": 18})
        assert shown.show()
    assert [line.split("] ")[1] for line in capsys.readouterr().out.splitlines()] == [
        "0 of 3 runs done; tasks: none yet",
        "0 of 3 runs done; tasks: 4 done, 14 waiting",
        "3 of 3 runs done; tasks: 18 done",
    ]


def test_after_minutes_without_progress_the_reasons_are_said(airflow, capsys, monkeypatch):
    monkeypatch.setattr(progress, "reasons", lambda *_: ["still waiting: a reason"])
    monkeypatch.setattr(progress, "QUIET_SECONDS", -1)
    with Progress(JOB) as shown:
        shown.show()
        shown.show()
    assert capsys.readouterr().out.splitlines()[1].endswith("] still waiting: a reason")


def test_a_failed_try_is_reported_once_with_its_log(airflow, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "log_folder", lambda: Path(tmp_path))
    airflow.has(["running"], {"failed": 1}, [Try("taxi_trips_green", "load", "2023-01", "a", 2, True)])
    with Progress(JOB) as shown:
        shown.show()
        shown.show()
    said = capsys.readouterr().out
    assert said.count("taxi_trips_green.load for 2023-01, try 2: FAILED") == 1
    assert f"  | (no log at {tmp_path}/dag_id=taxi_trips_green/run_id=a/task_id=load/attempt=2.log)" in said


class TestBar:
    def test_it_has_runs_tasks_time_and_estimate(self, airflow, in_terminal, capsys):
        with Progress(JOB) as shown:
            airflow.has(["success", "running", "running"], {"done": 12, "running": 2, "waiting": 4})
            shown.show()
            assert shown._bar.tasks[0].completed == pytest.approx(2.0)  # 12 of 18 tasks, of three runs
        drawn = capsys.readouterr().out
        assert "starting …" in drawn
        assert "1 of 3 runs done" in drawn
        assert "━" in drawn
        assert "elapsed" in drawn
        assert "left" in drawn
        assert "  tasks: 12 done, 2 running, 4 waiting" in drawn

    def test_runs_that_are_done_already_count_for_the_bar_but_not_for_the_estimate(self, airflow, in_terminal):
        with Progress(JOB) as shown:
            airflow.has(["success", "success", "running"], {"done": 12, "waiting": 6})
            shown.show()
            assert shown._bar.tasks[0].completed == pytest.approx(2.0)
            assert not shown._bar.tasks[0].speed

    def test_what_is_printed_meanwhile_stands_above_it(self, airflow, in_terminal, capsys):
        with Progress(JOB) as shown:
            airflow.has(["running"], {"failed": 1}, [Try("taxi_trips_green", "load", "2023-01", "a", 1, False)])
            shown.show()
            print("printed by somebody else")  # noqa: T201
        drawn = capsys.readouterr().out
        assert drawn.index("will be tried again") < drawn.rindex("0 of 3 runs done")
        assert drawn.index("printed by somebody else") < drawn.rindex("0 of 3 runs done")

    def test_it_ends_with_the_block_also_after_an_error(self, airflow, in_terminal):
        shown = Progress(JOB)
        with pytest.raises(KeyboardInterrupt), shown:
            raise KeyboardInterrupt
        assert not shown._bar.live.is_started
