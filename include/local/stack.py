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
from urllib.parse import urlsplit, urlunsplit

import requests

from include.local.processes import (
    STOP_SECONDS,
    Process,
    Started,
    end,
    end_abandoned,
    home,
    noted,
)
from include.nyc_taxi import settings

START_SECONDS = 180


class StackError(Exception):
    """A component did not start, or ended by itself; the message ends with the last lines of its log."""


@contextlib.contextmanager
def only_scheduler() -> Iterator[int | None]:
    """Yield a file descriptor that says "a scheduler of ours is running", or None where one is running already.

    The lock is on an open file, which the scheduler inherits: it ends with the last of both processes. A scheduler
    that a killed command has left running is ended first.
    """
    end_abandoned()
    with (home() / "scheduler.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file.fileno()


def owner() -> Started | None:
    """The command whose scheduler is running, and its settings; None where none is, or where it is just starting."""
    return next((each for each in noted() if each.has_scheduler and each.owner.is_alive()), None)


class Stack:
    """Starts the components in order, watches over them and stops them. Use it as a context manager.

    Args:
        port: for the api-server; 0 takes a free one.
        command: that starts them, as the user typed it.
        extra: environment variables for all components.
        lock: a file descriptor that the scheduler keeps open.
        components: which to start after the api-server.
    """

    def __init__(
        self, *, command: str, port: int, extra: Mapping[str, str], lock: int, components: tuple[str, ...]
    ) -> None:
        self.port = port or _free_port()
        self.components = components
        self.logs = home() / "logs" / "components"
        self._lock = lock
        self._processes: dict[str, tuple[subprocess.Popen[bytes], Process]] = {}
        self._started = Started.by_us(
            command, has_scheduler=True, settings={"data": str(settings.data_dir().resolve()), "source": source()}
        )
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
        for name, (process, _) in self._processes.items():
            if process.poll() is not None:
                raise StackError(f"Airflow's {name} ended by itself (status {process.returncode}):\n{self._tail(name)}")

    def stop(self) -> None:
        """Stop all components: first kindly, then for certain."""
        for process, _ in reversed(self._processes.values()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process, leader in self._processes.values():
            end(process, leader, deadline - time.monotonic())
        self._processes.clear()
        self._started.forget()

    def _start(self, name: str) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        command = ["airflow", name]
        if name in ("scheduler", "triggerer"):
            command.append("--skip-serve-logs")  # that server would listen on all interfaces; the UI reads the files
        with (self.logs / f"{name}.log").open("wb") as log:
            self._processes[name] = self._started.popen(
                command,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
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


def source() -> str:
    """The address that the TLC's files come from, as TlcHook finds it: a setting, a connection, or the TLC's own.

    Without a login and a password, which a connection's address may have.
    """
    from tlc_hook import TlcHook

    parts = urlsplit(TlcHook().url(""))
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", "")).rstrip("/")


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
