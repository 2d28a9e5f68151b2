"""Airflow 3's processes on this machine: api-server, dag-processor, scheduler, triggerer; on localhost only."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import requests

STOP_SECONDS = 20
START_SECONDS = 180


class StackError(Exception):
    """A component did not start, or ended by itself; the message ends with the last lines of its log."""


def home() -> Path:
    """Airflow's home directory, which the Makefile sets."""
    return Path(os.environ["AIRFLOW_HOME"])


@contextlib.contextmanager
def only_scheduler() -> Iterator[int | None]:
    """Yield a file descriptor that says "a scheduler of ours is running", or None where one is running already.

    The lock is on an open file, which the scheduler inherits: it ends with the last of both processes.
    """
    with (home() / "scheduler.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file.fileno()


class Stack:
    """Starts the components in order, watches over them and stops them. Use it as a context manager.

    Args:
        port: for the api-server; 0 takes a free one.
        extra: environment variables for all components.
        lock: a file descriptor that the scheduler keeps open.
        components: which to start after the api-server.
    """

    def __init__(self, *, port: int, extra: Mapping[str, str], lock: int, components: tuple[str, ...]) -> None:
        self.port = port or _free_port()
        self.components = components
        self.logs = home() / "logs" / "components"
        self._lock = lock
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = {
            **os.environ,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": f"http://localhost:{self.port}",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self.port}/execution/",
            # One secret for all components, and for as long as they run.
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
            **extra,
        }

    def __enter__(self) -> Stack:
        try:
            self._start("api-server")
            if "dag-processor" in self.components:
                self._start("dag-processor")
            # A task that starts before the api-server listens fails: the scheduler comes last.
            self._wait_until_healthy()
            for name in self.components:
                if name not in self._processes:
                    self._start(name)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def check(self) -> None:
        """Raises StackError when a component has ended by itself."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise StackError(f"Airflow's {name} ended by itself (status {process.returncode}):\n{self._tail(name)}")

    def stop(self) -> None:
        """Stop all components: first kindly, then for certain."""
        for process in reversed(self._processes.values()):
            signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            signal_group(process, signal.SIGKILL)  # whoever of its group is left
            process.wait()
        self._processes.clear()

    def _start(self, name: str) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        command = ["airflow", name]
        if name in ("scheduler", "triggerer"):
            command.append("--skip-serve-logs")  # that server would listen on all interfaces; the UI reads the files
        with (self.logs / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us, who then stop them in order
                pass_fds=(self._lock,) if name == "scheduler" else (),
            )

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.check()
            with contextlib.suppress(requests.RequestException):
                health = requests.get(f"http://127.0.0.1:{self.port}/api/v2/monitor/health", timeout=5)
                if health.ok and health.json()["metadatabase"]["status"] == "healthy":
                    return
            time.sleep(0.5)
        raise StackError(f"Airflow's api-server was not healthy after {START_SECONDS} s:\n{self._tail('api-server')}")

    def _tail(self, name: str, lines: int = 15) -> str:
        text = (self.logs / f"{name}.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])


def signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to the process and all of its group, if any is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def port_in_use(port: int) -> bool:
    """Whether something listens on a port of localhost."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
