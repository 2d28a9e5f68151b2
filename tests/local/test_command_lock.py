"""One backfill command at a time: the lock that ends with its process, and what a command does after a killed one."""

import contextlib

import pytest

from include.local import command_lock, runs
from include.local.errors import CommandError
from include.orchestration.compat import IS_AIRFLOW_3

AT_WORK = """
import sys
from include.local import command_lock, runs
runs.is_paused = lambda dag_id: True
with command_lock.only_command(wait=False), command_lock.noted_command("make backfill FLEET=green", "taxi_trips_green"):
    print("at work", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def cancelled(tmp_path, monkeypatch):
    """A home of its own, and of which DAGs what was paused and cancelled."""
    done = []
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setattr(runs, "is_paused", lambda dag_id: True)
    monkeypatch.setattr(runs, "set_paused", lambda dag_id, paused: done.append(("paused", dag_id, paused)))
    monkeypatch.setattr(runs, "cancel_since", lambda dag_id, moment: done.append(("cancelled", dag_id)) or 2)
    return done


@pytest.fixture
def other(start_python, tmp_path, cancelled):
    """Another command that is at work in the same home, for as long as its standard input is open."""
    process = start_python(AT_WORK, AIRFLOW_HOME=str(tmp_path))
    assert process.stdout.readline() == "at work\n"
    return process


ALL_IS_PUT_RIGHT = [
    *([("paused", "taxi_trips_green", True)] if IS_AIRFLOW_3 else []),
    ("cancelled", "taxi_trips_green"),
]


def test_who_must_not_wait_is_told_what_runs_and_leaves_it_alone(other, cancelled):
    words = rf"`make backfill FLEET=green` \(process {other.pid}\) has been running"
    with pytest.raises(CommandError, match=words), command_lock.only_command(wait=False):
        pytest.fail("two at once")
    assert cancelled == []
    assert command_lock.noted().is_alive()


def test_what_a_killed_command_has_left_is_put_right_by_the_next_one(other, cancelled, tmp_path, capsys):
    other.kill()
    other.wait()
    assert command_lock.noted() is not None
    with command_lock.only_command(wait=False):
        assert cancelled == ALL_IS_PUT_RIGHT
        assert command_lock.noted() is None
    assert "was killed; 2 of its runs had not ended and are marked failed" in capsys.readouterr().out


def test_whoever_keeps_a_scheduler_puts_right_only_what_nobody_is_at(other, cancelled):
    command_lock.restore_if_abandoned()
    assert cancelled == []
    other.kill()
    other.wait()
    command_lock.restore_if_abandoned()
    assert cancelled == ALL_IS_PUT_RIGHT
    command_lock.restore_if_abandoned()
    assert cancelled == ALL_IS_PUT_RIGHT


def test_a_command_puts_everything_right_at_its_end_however_it_comes_about(cancelled):
    ending = contextlib.ExitStack()
    ending.enter_context(command_lock.only_command(wait=True))
    ending.enter_context(command_lock.noted_command("make backfill", "taxi_trips_green"))
    assert cancelled == []
    ending.push(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        ending.close()
    assert cancelled == ALL_IS_PUT_RIGHT
    assert command_lock.noted() is None


def test_the_other_is_waited_for(other, cancelled, monkeypatch, capsys):
    def let_it_end(seconds):
        other.kill()  # which ends its lock
        other.wait()

    monkeypatch.setattr(command_lock.time, "sleep", let_it_end)
    with command_lock.only_command(wait=True):
        said = capsys.readouterr().out
    assert f"(process {other.pid}) has been running since" in said
    assert "Waiting for its end" in said
