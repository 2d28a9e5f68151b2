"""Airflow 3's processes on this machine: api-server, dag-processor, scheduler, triggerer; on localhost only."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
from typing import IO
from urllib.parse import urlsplit, urlunsplit

import requests

from include.local import component
from include.local.console import last_lines
from include.local.errors import CommandError
from include.local.processes import Started, end_abandoned, home, locked, noted, wait_until
from include.nyc_taxi import settings

START_SECONDS = 180


def lock_scheduler() -> IO[str] | None:
    """Lock this Airflow home for our scheduler; returns the locked file, or None if a scheduler is running.

    A scheduler that a killed command has left running is killed first.
    """
    end_abandoned()
    return locked(home() / "scheduler.lock")


def owner() -> Started | None:
    """The command whose scheduler is running, or None: there is no scheduler, or it is just starting."""
    return next((each for each in noted() if each.has_scheduler and each.owner.is_alive()), None)


class Stack:
    """Starts Airflow's components in order, watches them and stops them. Use it as a context manager.

    Args:
        port: for the api-server; 0 takes a free one.
        command: the command that starts them, as the user typed it.
        extra: environment variables for all components.
        lock: the file from `lock_scheduler`. The scheduler inherits it: the lock lasts as long as the scheduler.
        web_ui: whether the api-server has the web UI and its API, and a triggerer runs. A backfill needs none of them:
            without them the api-server starts with 3 s less of processor time.
    """

    def __init__(self, command: str, port: int, lock: IO[str], *, web_ui: bool, **extra: str) -> None:
        self.port = port or _free_port()
        self._web_ui = web_ui
        self.logs = home() / "logs" / "components"
        self._lock = lock
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._started = Started(command, has_scheduler=True, settings=current_settings())
        self._environment = {
            **os.environ,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": f"http://localhost:{self.port}",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self.port}/execution/",
            # All components must share one secret.
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
            **extra,
        }

    def __enter__(self) -> Stack:
        try:
            self._start("api-server")
            self._start("dag-processor")
            self._start("scheduler")
            self._wait_until_healthy()
            if self._web_ui:
                self.schedule()
                self._start("triggerer")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._started.stop(groups=True)
        self._lock.close()

    def schedule(self) -> None:
        """Let the scheduler begin. Until then nobody writes to SQLite besides the command, which may create runs."""
        stdin = self._processes["scheduler"].stdin
        if stdin and not stdin.closed:
            with contextlib.suppress(BrokenPipeError), stdin:  # it has ended: `check` says why
                stdin.write(b"begin\n")

    def check(self) -> None:
        """Raises CommandError if a component has ended by itself."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                message = f"Airflow's {name} ended by itself (status {process.returncode})"
                raise CommandError(f"{message}:\n{self._tail(name)}")

    def _start(self, name: str) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        options: list[str] = []
        if name in ("scheduler", "triggerer"):
            options = ["--skip-serve-logs"]  # the log server would listen on all interfaces
        if name == "api-server" and not self._web_ui:
            options = ["--apps", "execution"]
        # A task that starts before the api-server answers fails.
        after = f"http://127.0.0.1:{self.port}/execution/health" if name == "scheduler" else ""
        with (self.logs / f"{name}.log").open("wb") as log:
            self._processes[name] = self._started.popen(
                component.command(name, *options, after=after),
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.PIPE if name == "scheduler" else subprocess.DEVNULL,
                pass_fds=(self._lock.fileno(),) if name == "scheduler" else (),
            )

    def _wait_until_healthy(self) -> None:
        if not wait_until(self._is_healthy, self.check, START_SECONDS):
            message = f"Airflow's api-server was not healthy after {START_SECONDS} s"
            raise CommandError(f"{message}:\n{self._tail('api-server')}")

    def _is_healthy(self) -> bool:
        path = "api/v2/monitor/health" if self._web_ui else "execution/health"
        with contextlib.suppress(requests.RequestException):
            answer = requests.get(f"http://127.0.0.1:{self.port}/{path}", timeout=5)
            health = answer.json()["metadatabase"] if self._web_ui else answer.json()
            return answer.ok and health["status"] == "healthy"
        return False

    def _tail(self, name: str) -> str:
        return last_lines((self.logs / f"{name}.log").read_text(errors="replace"), 15)


def current_settings() -> dict[str, str]:
    """The settings that a command must share with the scheduler that it uses."""
    return {"data": str(settings.data_dir().resolve()), "source": source()}


def source() -> str:
    """The address that TlcHook downloads the TLC's files from, without the login that it may contain."""
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
