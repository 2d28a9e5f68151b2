"""What a command has started ends with it, or with the next command, whatever happens."""

import signal
import subprocess
import sys

import psutil
import pytest

from include.local import processes
from include.local.processes import Process, Started

SLEEPERS = (
    "import subprocess; p = subprocess.Popen(['sleep', '600'], process_group=0); print(p.pid, flush=True); p.wait()"
)


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))


def start_sleepers(started, code=SLEEPERS):
    """Start a process and its child, which has its own process group; returns both."""
    process = started.popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    return process, Process.of(int(process.stdout.readline()))


def test_it_is_killed_whole_when_it_does_not_end_when_told_to():
    started = Started("make backfill")
    process, child = start_sleepers(started, f"import signal; signal.signal(15, signal.SIG_IGN); {SLEEPERS}")
    started.stop(seconds=0)
    assert process.returncode == -signal.SIGKILL
    assert not child.is_alive()
    assert processes.noted() == []


def test_it_is_asked_to_end_first(tmp_path):
    started = Started("make backfill")
    code = "import signal, sys; signal.signal(15, lambda *_: sys.exit(7)); print(1, flush=True); signal.pause()"
    process = started.popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    process.stdout.readline()
    started.stop()
    assert process.returncode == 7


def test_a_process_that_is_forked_while_the_others_are_killed_is_killed_too(monkeypatch):
    started = Started("make backfill")
    _, child = start_sleepers(started)
    (leader,) = started.sessions
    seen = psutil.pids
    answers = [[leader.pid]]  # the first time, the child is not among them
    monkeypatch.setattr(psutil, "pids", lambda: answers.pop() if answers else seen())
    assert processes.kill_session(leader) == 2
    assert not child.is_alive()
    started.stop()


def test_a_signal_while_a_process_is_started_waits_until_it_is_recorded(start_python, tmp_path):
    command = start_python(
        "import os, signal, sys\n"
        "from include.local import processes\n"
        "for number in processes.SIGNALS:\n"
        "    signal.signal(number, processes.interrupt_once)\n"
        "of = processes.Process.of\n"
        "def interrupted(pid):\n"
        "    if pid != os.getpid():\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return of(pid)\n"
        "processes.Process.of = interrupted\n"
        "started = processes.Started('make backfill')\n"
        "try:\n"
        "    started.popen(['sleep', '600'])\n"
        "except KeyboardInterrupt:\n"
        "    print(started.sessions[0].pid, len(processes.noted()), flush=True)\n"
        "    started.stop()\n"
        "    print(started.sessions[0].is_alive(), len(processes.noted()), flush=True)\n",
        AIRFLOW_HOME=str(tmp_path),
    )
    pid, recorded = command.stdout.readline().split()
    assert recorded == "1"
    assert command.stdout.readline() == "False 0\n"
    assert not psutil.pid_exists(int(pid))


def test_the_next_command_ends_what_outlives_its_own(start_python, tmp_path, capsys):
    command = start_python(
        "import sys, time\n"
        "from include.local.processes import Started\n"
        f"process = Started('make standalone').popen([sys.executable, '-c', {SLEEPERS!r}])\n"
        "print(process.pid, flush=True)\n"
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


def test_a_process_that_has_got_an_old_ones_number_is_left_alone(start_python):
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
