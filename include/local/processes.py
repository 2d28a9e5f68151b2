"""The processes that these commands start: recorded in a file, recognised later, and stopped for certain."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import psutil

from include.local.console import say
from include.nyc_taxi.files import replacing

STOP_SECONDS = 20

CLOCK_SECONDS = 2.0
"""Two readings of a process's start time may differ by this much, because the system clock may be adjusted."""

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def interrupt_once(number: int, frame: object) -> None:  # noqa: ARG001 - a signal handler's signature
    """Signal handler: make this command stop what it has started, and ignore further signals, which would disturb that.

    Raises:
        KeyboardInterrupt: always.
    """
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Postpone the signals that end this command until the block has ended, so that nothing is left half recorded."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    postponed: list[int] = []
    for number, handler in handlers.items():
        if handler is not signal.SIG_IGN:  # a child would not ignore it either
            signal.signal(number, lambda number, _: postponed.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if postponed:
            signal.raise_signal(postponed[0])


def home() -> Path:
    """Airflow's home directory, which the Makefile sets."""
    return Path(os.environ["AIRFLOW_HOME"])


def locked(path: Path) -> IO[str] | None:
    """The opened file, which this process has locked; None if another process has.

    The lock ends when the file is closed, by this process and by those that inherited it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def wait_until(done: Callable[[], bool], check: Callable[[], None], seconds: float) -> bool:
    """Wait until `done()`, but not longer than `seconds`; `check` may raise an error. Returns whether it is done."""
    deadline = time.monotonic() + seconds
    while not done():
        check()
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


@dataclass(frozen=True)
class Process:
    """A process that can be recognised later: by its id and its start time, since ids are reused."""

    pid: int
    began: float

    @classmethod
    def of(cls, pid: int) -> Process:
        """The living process with this id.

        Raises:
            psutil.NoSuchProcess: there is none.
        """
        return cls(pid, psutil.Process(pid).create_time())

    def exists(self) -> bool:
        """Whether the id still belongs to this process, alive or zombie."""
        with contextlib.suppress(psutil.Error):
            return bool(abs(psutil.Process(self.pid).create_time() - self.began) < CLOCK_SECONDS)
        return False

    def is_alive(self) -> bool:
        """Whether it is still running; a zombie is not."""
        with contextlib.suppress(psutil.Error):
            return self.exists() and psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        return False


def kill_session(leader: Process) -> int:
    """Kill all processes of the session that `leader` began, in any process group; returns how many.

    While a process of the session lives, the system does not reuse the leader's id: the members are its own, even when
    the leader is dead. When this returns, they no longer hold files or locks.
    """
    if psutil.pid_exists(leader.pid) and not leader.exists():
        return 0
    killed: set[int] = set()
    deadline = time.monotonic() + STOP_SECONDS
    # Repeated, because a process may fork before it is killed; limited, because the kernel may hold one back.
    while (members := list(_living_members(leader.pid))) and time.monotonic() < deadline:
        for pid in members:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        time.sleep(0.05)
    return len(killed)


def _living_members(session: int) -> Iterator[int]:
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
            if os.getsid(pid) == session and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                yield pid


@dataclass
class Started:
    """What a command has started. A file in Airflow's home records it, so that the next command can stop what is left.

    Attributes:
        command: as the user typed it.
        has_scheduler: whether it runs a scheduler that other commands may use.
        settings: the scheduler's settings, by name.
        owner: the command's process.
        since: when it began, UTC, in ISO format.
        sessions: the first process of each session that it began.
    """

    command: str
    has_scheduler: bool = False
    settings: dict[str, str] = field(default_factory=dict)
    owner: Process = field(default_factory=lambda: Process.of(os.getpid()))
    since: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
    sessions: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []

    def popen(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a process in its own session, and record it. Ctrl-C does not reach it: `stop` stops it in order."""
        with uninterrupted():
            process: subprocess.Popen[bytes] = subprocess.Popen(
                command, start_new_session=True, **{"stdin": subprocess.DEVNULL, **options}
            )
            self._running.append(process)
            self.sessions.append(Process.of(process.pid))
            with replacing(self.path) as temporary:
                temporary.write_text(json.dumps(asdict(self)))
        return process

    def stop(self, number: int = signal.SIGTERM, *, groups: bool = False, seconds: float = STOP_SECONDS) -> None:
        """Tell the processes to stop, the last one first; after `seconds`, kill what is left. Remove the record.

        Args:
            groups: send the signal to their process groups instead.
        """
        for process in reversed(self._running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number) if groups else process.send_signal(number)
        deadline = time.monotonic() + seconds
        try:
            for process in self._running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.1, deadline - time.monotonic()))
        finally:
            for process, leader in zip(self._running, self.sessions, strict=False):
                kill_session(leader)
                process.wait()
                if process.stdin:
                    process.stdin.close()
            self._running.clear()
            self.path.unlink(missing_ok=True)

    @property
    def path(self) -> Path:
        """The record's file."""
        return home() / "started" / f"{self.owner.pid}.json"

    def __str__(self) -> str:
        began = datetime.fromisoformat(self.since)
        return f"`{self.command}` (process {self.owner.pid}, since {began:%Y-%m-%d %H:%M:%S} UTC)"


def noted() -> list[Started]:
    """The records of all commands in this Airflow home, including commands that were killed."""
    found = []
    for path in sorted((home() / "started").glob("[0-9]*.json")):
        with contextlib.suppress(FileNotFoundError):  # the command has just ended
            facts = json.loads(path.read_text())
            owner, sessions = facts.pop("owner"), facts.pop("sessions")
            found.append(Started(**facts, owner=Process(**owner), sessions=[Process(**each) for each in sessions]))
    return found


def end_abandoned() -> None:
    """Kill what a killed command has left running: nobody watches it, and its settings may differ from ours."""
    for started in noted():
        if started.owner.is_alive():
            continue
        killed = sum(kill_session(leader) for leader in reversed(started.sessions))
        started.path.unlink(missing_ok=True)
        if killed:
            say(f"{started} was killed; the {killed} processes that it left running have been killed too")


def airflow_commands(*words: str) -> list[int]:
    """Ids of other living processes in our Airflow home whose command line contains all the words."""
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
