"""One backfill command at a time: the lock that ends with its process, and what a killed one has left."""

import contextlib
import signal
import subprocess
import sys

import pytest

from include.local import processes, runs, turn
from include.local.processes import Process, Started
from include.orchestration.compat import IS_AIRFLOW_3

AT_WORK = """
import sys
from include.local import runs, turn
runs.is_paused = lambda dag_id: True
with turn.in_line(wait=False), turn.at_work("make backfill FLEET=green", "taxi_trips_green"):
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
    with pytest.raises(turn.BusyError, match=words), turn.in_line(wait=False):
        pytest.fail("two at once")
    assert cancelled == []
    assert turn.noted().is_alive()


def test_what_a_killed_command_has_left_is_put_right_by_the_next_one(other, cancelled, tmp_path, capsys):
    other.kill()
    other.wait()
    assert turn.noted() is not None
    with turn.in_line(wait=False):
        assert cancelled == ALL_IS_PUT_RIGHT
        assert turn.noted() is None
    assert "was killed; 2 of its runs had not ended and are marked failed" in capsys.readouterr().out


def test_whoever_keeps_a_scheduler_puts_right_only_what_nobody_is_at(other, cancelled):
    turn.put_right_if_abandoned()
    assert cancelled == []
    other.kill()
    other.wait()
    turn.put_right_if_abandoned()
    assert cancelled == ALL_IS_PUT_RIGHT
    turn.put_right_if_abandoned()
    assert cancelled == ALL_IS_PUT_RIGHT


def test_a_command_puts_everything_right_at_its_end_however_it_comes_about(cancelled):
    ending = contextlib.ExitStack()
    ending.enter_context(turn.in_line(wait=True))
    ending.enter_context(turn.at_work("make backfill", "taxi_trips_green"))
    assert cancelled == []
    ending.push(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        ending.close()
    assert cancelled == ALL_IS_PUT_RIGHT
    assert turn.noted() is None


def test_the_other_is_waited_for(other, cancelled, monkeypatch, capsys):
    def let_it_end(seconds):
        other.kill()  # which ends its lock
        other.wait()

    monkeypatch.setattr(turn.time, "sleep", let_it_end)
    with turn.in_line(wait=True):
        said = capsys.readouterr().out
    assert f"(process {other.pid}) has been running since" in said
    assert "Waiting for its end" in said


class TestWhatACommandHasStarted:
    SLEEPERS = (
        "import subprocess; p = subprocess.Popen(['sleep', '600'], process_group=0); print(p.pid, flush=True); p.wait()"
    )

    @pytest.fixture(autouse=True)
    def _home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))

    def test_it_is_killed_whole_when_it_does_not_end_when_told_to(self):
        started = Started.by_us("make backfill")
        deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {self.SLEEPERS}"
        process, leader = started.popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
        child = Process.of(int(process.stdout.readline()))
        process.send_signal(signal.SIGTERM)
        processes.end(process, leader, seconds=0)
        assert process.returncode == -signal.SIGKILL
        assert not child.is_alive()

    def test_the_next_command_ends_what_outlives_its_own(self, start_python, tmp_path, capsys):
        command = start_python(
            "import sys, time\n"
            "from include.local.processes import Started\n"
            f"process, leader = Started.by_us('make standalone').popen([sys.executable, '-c', {self.SLEEPERS!r}])\n"
            "print(leader.pid, flush=True)\n"
            "time.sleep(600)\n",
            AIRFLOW_HOME=str(tmp_path),
        )
        command.stdout.readline()
        (noted,) = processes.noted()
        processes.end_abandoned()
        assert noted.sessions[0].is_alive()  # its command is at work

        command.kill()
        command.wait()
        processes.end_abandoned()
        assert not noted.sessions[0].is_alive()
        assert processes.noted() == []
        assert "`make standalone`" in capsys.readouterr().out

    def test_a_process_that_has_got_an_old_ones_number_is_left_alone(self, start_python):
        innocent = start_python("import sys; print('here', flush=True); sys.stdin.read()")
        innocent.stdout.readline()
        assert processes.kill_session(Process(innocent.pid, began=1.0)) == 0
        assert innocent.poll() is None


def test_a_further_signal_does_not_break_off_the_stopping(start_python):
    code = (
        "import os, signal\n"
        "from include.local.processes import interrupt_once\n"
        "for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):\n"
        "    signal.signal(number, interrupt_once)\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "except KeyboardInterrupt:\n"
        "    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):\n"
        "        os.kill(os.getpid(), number)\n"
        "    print('stopped in order', flush=True)\n"
    )
    assert start_python(code).stdout.readline() == "stopped in order\n"
