"""The processes that these commands start on this machine: noted, recognised later, ended for certain."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil

from include.nyc_taxi.files import replacing

STOP_SECONDS = 20

CLOCK_SECONDS = 2.0
"""Two readings of when a process began may differ by so much: the second is counted from the machine's clock."""


def interrupt_once(number: int, frame: object) -> None:  # noqa: ARG001 - a signal handler's signature
    """Have this command stop what it has started; a further signal would break that off, and is ignored.

    Raises:
        KeyboardInterrupt: always.
    """
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def home() -> Path:
    """Airflow's home directory, which the Makefile sets."""
    return Path(os.environ["AIRFLOW_HOME"])


@dataclass(frozen=True)
class Process:
    """A process that can be recognised later: its id, and when it began (ids are given out again)."""

    pid: int
    began: float

    @classmethod
    def of(cls, pid: int) -> Process:
        """The living process with this id.

        Raises:
            psutil.NoSuchProcess: there is none.
        """
        return cls(pid, psutil.Process(pid).create_time())

    def is_alive(self) -> bool:
        """Whether it is still the same process, and no zombie."""
        with contextlib.suppress(psutil.Error):
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.began) < CLOCK_SECONDS
            return same and found.status() != psutil.STATUS_ZOMBIE
        return False


def kill_session(leader: Process) -> int:
    """Kill what is left of the session that the process has begun, whatever groups it has formed; returns how many.

    An id is not given out again while a session has it: members of a dead leader's session are its own.
    """
    if psutil.pid_exists(leader.pid) and not _is_same(leader):
        return 0
    killed, waited_for = 0, []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            if os.getsid(pid) == leader.pid:
                process = psutil.Process(pid)
                if process.ppid() != os.getpid():  # the status of a child of ours is left to who has started it
                    waited_for.append(process)
                os.kill(pid, signal.SIGKILL)
                killed += 1
    psutil.wait_procs(waited_for, timeout=STOP_SECONDS)  # what they held is free when they have gone
    return killed


def _is_same(process: Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return abs(psutil.Process(process.pid).create_time() - process.began) < CLOCK_SECONDS
    return False


def end(process: subprocess.Popen[bytes], leader: Process, seconds: float = STOP_SECONDS) -> None:
    """Wait for the end of a process that has been told to end, but not for ever; kill what its session has left."""
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.1, seconds))
    finally:
        kill_session(leader)
        process.wait()


@dataclass
class Started:
    """What a command has started, noted in a file in Airflow's home, so that the next command can end what outlives it.

    Attributes:
        command: as the user typed it.
        owner: the command's process.
        since: when it began, UTC, in ISO format.
        has_scheduler: whether it runs a scheduler that others may use, and then
        settings: with which settings, by name.
        sessions: the first process of each session it has begun.
    """

    command: str
    owner: Process
    since: str
    has_scheduler: bool
    settings: dict[str, str]
    sessions: list[Process] = field(default_factory=list)

    @classmethod
    def by_us(cls, command: str, *, has_scheduler: bool = False, settings: dict[str, str] | None = None) -> Started:
        """Nothing yet, by this process."""
        now = datetime.now(UTC).isoformat()
        return cls(command, Process.of(os.getpid()), now, has_scheduler, settings or {})

    def popen(self, command: list[str], **options: object) -> tuple[subprocess.Popen[bytes], Process]:
        """Start a process in a session of its own (Ctrl-C is for us, who end it in order), and note it."""
        process: subprocess.Popen[bytes] = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            **options,  # type: ignore[call-overload]
        )
        leader = Process.of(process.pid)
        self.sessions.append(leader)
        with replacing(self._path) as temporary:
            temporary.write_text(json.dumps(asdict(self)))
        return process, leader

    def forget(self) -> None:
        """All has ended."""
        self._path.unlink(missing_ok=True)

    @property
    def _path(self) -> Path:
        return home() / "started" / f"{self.owner.pid}.json"

    def __str__(self) -> str:
        began = datetime.fromisoformat(self.since)
        return f"`{self.command}` (process {self.owner.pid}, since {began:%Y-%m-%d %H:%M:%S} UTC)"


def noted() -> list[Started]:
    """What commands have started in this Airflow home; also of those that were killed."""
    found = []
    for path in sorted((home() / "started").glob("[0-9]*.json")):
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            facts = json.loads(path.read_text())
            owner, sessions = facts.pop("owner"), facts.pop("sessions")
            found.append(Started(**facts, owner=Process(**owner), sessions=[Process(**each) for each in sessions]))
    return found


def end_abandoned() -> None:
    """Kill what a command that was killed itself has left running: nobody watches it, and its settings are not ours."""
    for started in noted():
        if started.owner.is_alive():
            continue
        killed = sum(kill_session(leader) for leader in reversed(started.sessions))
        started.forget()
        if killed:
            print(f"{started} was killed; {killed} processes that it has left are ended", flush=True)


def airflow_commands(*words: str) -> list[int]:
    """Ids of other living processes whose command line has all the words, and whose Airflow home is ours."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if (
                process.pid != os.getpid()
                and all(word in command for word in words)
                and process.environ().get("AIRFLOW_HOME") == os.environ.get("AIRFLOW_HOME")
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process.pid)
    return found
