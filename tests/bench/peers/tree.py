"""All processes that a command starts, as one: what they take together, and that none of them stays. Linux only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from tests.bench.measure import Result

SAMPLE_SECONDS = 0.5
STOP_SECONDS = 60.0
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # from <linux/prctl.h>


class Tree:
    """Use it as a context manager, in a process that has no other children.

    That process adopts descendants whose parent has ended, in whatever session they are: so each of them is seen until
    it ends, and what it took is counted. At the end of the block those that still run are stopped.

    Attributes:
        peak_bytes: the most memory that all processes together had at one of the moments when it was looked at. Pages
            that several of them share count once.
        largest_bytes: the most that one process had.
    """

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise SystemExit("make bench PEERS=1 reads /proc and adopts processes: it needs Linux")
        self.peak_bytes = self.largest_bytes = self._most_resident = 0
        self._started: dict[subprocess.Popen[bytes], Path] = {}  # with its log

    def __enter__(self) -> Tree:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._started):
            self.stop(process)
        self._kill_the_rest()

    def start(self, command: Sequence[str], log: Path, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command in a session of its own, which Ctrl-C in this terminal does not reach."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )
        self._started[process] = log
        return process

    def wait(self, process: subprocess.Popen[bytes], *services: subprocess.Popen[bytes]) -> None:
        """Return when the process has ended.

        Raises:
            SystemExit: it has failed, or one of the services has ended before it.
        """
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SAMPLE_SECONDS)
                break
            self._sample()
            self._check(*services)
        if process.returncode:
            self._check(*services)  # which may be why
            raise self._failure(process, f"has failed with status {process.returncode}")

    def wait_until(self, done: Callable[[], bool], seconds: float, what: str, process: subprocess.Popen[bytes]) -> None:
        """Return when it is `done` by a process, which goes on.

        Raises:
            SystemExit: it is not, after so many seconds, or the process has ended before.
        """
        deadline = time.monotonic() + seconds
        while not done():
            if process.poll() is not None and not done():
                self._check(process)
            if time.monotonic() > deadline:
                raise self._failure(process, f"has not come to this within {seconds:.0f} s: {what}")
            time.sleep(SAMPLE_SECONDS)
            self._sample()

    def is_idle(self, seconds: float = 3.0, share: float = 0.2) -> bool:
        """Whether all processes together take less than this share of a processor for so many seconds."""
        before = self.processor_seconds()
        time.sleep(seconds)
        return self.processor_seconds() - before < share * seconds

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Have a command that was started end in its own way; kill it if it does not."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def processor_seconds(self) -> float:
        """Of processor time that all processes so far have taken, those that have ended and those that run."""
        self._reap()
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = ended.ru_utime + ended.ru_stime
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                seconds += sum(process.cpu_times()[:4])  # its own, and of its children that have ended
        return seconds

    @contextlib.contextmanager
    def measured(self) -> Iterator[Result]:
        """Yields a result that has, after the block: `began` (epoch), seconds, processor seconds, and memory in bytes.

        What ran before the block does not count, but for memory that is still in use.
        """
        result: Result = {"began": time.time()}
        self.peak_bytes = self.largest_bytes = self._most_resident = 0
        started, processor_started = time.perf_counter(), self.processor_seconds()
        yield result
        result["seconds"] = time.perf_counter() - started
        result["processor_seconds"] = self.processor_seconds() - processor_started
        # The system has the largest of the processes that have ended, also of those that came and went unseen.
        largest = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        result |= {"peak_bytes": max(self.peak_bytes, largest), "largest_bytes": max(self.largest_bytes, largest)}

    def _sample(self) -> None:
        self._reap()
        resident: dict[psutil.Process, int] = {}
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                resident[process] = process.memory_info().rss
        self.largest_bytes = max(self.largest_bytes, *resident.values(), 0)
        # What is shared takes milliseconds to find out, of a processor that is being measured: so only where it counts.
        if sum(resident.values()) <= self._most_resident:
            return
        self._most_resident = sum(resident.values())
        together = 0
        for process in resident:
            with contextlib.suppress(psutil.Error):
                together += process.memory_full_info().pss
        self.peak_bytes = max(self.peak_bytes, together)

    def _reap(self) -> None:
        """Take note of the end of processes that were adopted; nobody else does."""
        ours = {process.pid for process in self._started}
        for child in psutil.Process().children():
            if child.pid not in ours:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child.pid, os.WNOHANG)

    def _check(self, *services: subprocess.Popen[bytes]) -> None:
        for service in services:
            if service.poll() is not None:
                raise self._failure(service, f"has ended by itself with status {service.returncode}")

    def _failure(self, process: subprocess.Popen[bytes], what: str) -> SystemExit:
        command = " ".join(map(str, process.args))  # type: ignore[arg-type]
        return SystemExit(f"`{command}` {what}:\n{tail(self._started[process])}")

    def _kill_the_rest(self) -> None:
        # Repeated, because a process may fork before it is killed.
        while children := psutil.Process().children(recursive=True):
            for process in children:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            self._reap()
            time.sleep(0.05)


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process."""
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value}) failed")


def tail(log: Path, lines: int = 25) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
