"""A real Postgres and a real Redis, from Debian's packages, on free ports of 127.0.0.1 and with passwords.

Each keeps all it has in a temporary folder that goes with it. Nothing of this machine's own servers is touched.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

import psycopg2
from psycopg2 import sql

START_SECONDS = 60
STOP_SECONDS = 30
APT = "apt-get install --yes --no-install-recommends postgresql redis-server"


class ServiceError(Exception):
    """A service is not installed, did not start or ended by itself; the message says which and shows its log."""


def missing() -> list[str]:
    """What is not installed of what is needed; empty when all is there. `APT` installs it on Debian."""
    found = {"Postgres": postgres_folder(), "Redis": shutil.which("redis-server")}
    return [name for name, where in found.items() if where is None]


def postgres_folder() -> Path | None:
    """Where the newest Postgres that is installed has its programs; Debian does not put them in PATH."""
    folders = [initdb.parent for initdb in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if not folders and (found := shutil.which("initdb")):
        return Path(found).parent
    return max(folders, key=lambda folder: float(folder.parent.name), default=None)


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens.

    It is none of those that the kernel gives to connections (from 32768 on): while a server is away, to be restarted,
    no client of whatever else runs on this machine gets it.
    """
    for port in random.sample(range(15_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ServiceError("of a hundred ports of 127.0.0.1, none is free")


class Service(ABC):
    """A server process. Use it as a context manager; the port and the password stay the same when it is restarted.

    Attributes:
        port: on 127.0.0.1.
        password: of the administrator.
        log: the file with what it prints.
    """

    name: str

    def __init__(self, log: Path) -> None:
        self.port, self.password, self.log = free_port(), secrets.token_urlsafe(24), log
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix=f"nyc-taxi-{self.name}-"))
        try:
            self._prepare(self._folder)
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def pid(self) -> int | None:
        """Of its first process; None where it does not run."""
        return self._process and self._process.pid

    def start(self) -> None:
        """Start it, and return when it answers."""
        assert self._folder, "enter it first"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = self._launch(self._folder, log)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServiceError(f"{self.name} did not start; its log ends:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self, number: signal.Signals | None = None) -> None:
        """Stop it by a signal: by default the one that ends it in order; SIGKILL stands for a crash."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number or self._stop_signal)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self, number: signal.Signals | None = None) -> None:
        """`stop` and `start`."""
        self.stop(number)
        self.start()

    _stop_signal = signal.SIGTERM

    @abstractmethod
    def _prepare(self, folder: Path) -> None: ...

    @abstractmethod
    def _launch(self, folder: Path, log: BinaryIO) -> subprocess.Popen[bytes]: ...

    @abstractmethod
    def _answers(self) -> bool: ...


class Postgres(Service):
    """An empty Postgres, whose administrator is `postgres`. As root it is run as the user `postgres`, as it demands.

    Args:
        log: where its log goes.
        settings: of postgresql.conf.
    """

    name = "postgres"
    _stop_signal = signal.SIGINT  # as `docker restart` stops its image: clients are disconnected, not waited for

    def __init__(self, log: Path, **settings: str) -> None:
        super().__init__(log)
        self._settings = {"max_connections": "300", **settings}

    def uri(self, database: str, scheme: str = "postgresql", user: str = "postgres", password: str = "") -> str:
        """Where a database is, with the password; the administrator's when no other user is named."""
        return f"{scheme}://{user}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    @contextlib.contextmanager
    def connected(self, database: str) -> Iterator[psycopg2.extensions.connection]:
        """A connection that commits each statement."""
        with contextlib.closing(psycopg2.connect(self.uri(database), connect_timeout=10)) as connection:
            connection.autocommit = True
            yield connection

    def query(self, database: str, text: str | sql.Composable, values: object = None) -> list[tuple[Any, ...]]:
        """Run one statement; returns its rows."""
        with self.connected(database) as connection, connection.cursor() as cursor:
            cursor.execute(text, values)
            return cursor.fetchall() if cursor.description else []

    def create_role(self, name: str, password: str) -> None:
        """A user that may log in."""
        self.query(
            "postgres",
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(password)),
        )

    def create_database(self, name: str, owner: str = "postgres") -> None:
        """A new, empty database; one of that name is dropped, whoever is connected to it."""
        self.query("postgres", sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        self.query(
            "postgres",
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8'").format(
                sql.Identifier(name), sql.Identifier(owner)
            ),
        )

    def _prepare(self, folder: Path) -> None:
        programs = postgres_folder()
        if programs is None:
            raise ServiceError(f"Postgres is not installed: {APT}")
        self._programs = programs
        password = folder / "password"
        password.write_text(self.password)
        user = self._user()
        if user:
            for path in (folder, password):
                shutil.chown(path, user, pwd.getpwnam(user).pw_gid)
        command = [programs / "initdb", "--pgdata", folder / "data", "--username", "postgres", "--pwfile", password]
        command += ["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, **self._as(user))
        password.unlink()
        if done.returncode:
            raise ServiceError(f"initdb failed:\n{done.stdout}{done.stderr}")

    def _launch(self, folder: Path, log: BinaryIO) -> subprocess.Popen[bytes]:
        command = [str(self._programs / "postgres"), "-D", str(folder / "data")]
        for name, value in {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            **self._settings,
        }.items():
            command += ["-c", f"{name}={value}"]
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
            **self._as(self._user()),
        )

    def _answers(self) -> bool:
        try:
            with self.connected("postgres"):
                return True
        except psycopg2.OperationalError:
            return False

    @staticmethod
    def _user() -> str | None:
        """Who is to run it; None for who we are."""
        return "postgres" if os.geteuid() == 0 else None

    @staticmethod
    def _as(user: str | None) -> dict[str, Any]:
        return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}


class Redis(Service):
    """A Redis that keeps nothing on disk."""

    name = "redis"

    @property
    def uri(self) -> str:
        """Its first database, with the password."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def _prepare(self, folder: Path) -> None:
        if shutil.which("redis-server") is None:
            raise ServiceError(f"Redis is not installed: {APT}")

    def _launch(self, folder: Path, log: BinaryIO) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            ["redis-server", "-"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
        )
        assert process.stdin
        # By standard input: on the command line every process of the machine could read the password.
        settings = f'bind 127.0.0.1\nport {self.port}\nrequirepass {self.password}\nsave ""\nappendonly no\n'
        process.stdin.write(settings.encode())
        process.stdin.close()
        return process

    def _answers(self) -> bool:
        import redis

        with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
            client = redis.Redis(host="127.0.0.1", port=self.port, password=self.password, socket_timeout=5)
            with contextlib.closing(client):
                return bool(client.ping())
        return False
