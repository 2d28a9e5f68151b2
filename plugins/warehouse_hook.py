"""The hook for the warehouse: the official DuckDB hook, plus what tasks that share one warehouse need.

`include` is imported where it is used: Airflow also loads plugins in processes without the DAG bundle on their path.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import tempfile
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import duckdb
from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException, mask_secret
from airflow.providers.duckdb.hooks.duckdb import DuckDBHook
from current_user import current_user
from tenacity import RetryCallState, Retrying, wait_exponential

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.providers.common.compat.sdk import Connection
    from duckdb import DuckDBPyConnection

    from include.nyc_taxi.warehouse.lake import Secret
    from include.nyc_taxi.web.snapshot import Place, Setting
    from include.nyc_taxi.web.uses import User

LAKE = "ducklake:"
CATALOG_TIMEOUT_SECONDS = 60.0
"""How long to retry a lake's catalog that does not answer: enough for a restart, and a limit for a wrong address."""
WRITERS = 16
"""Default for the number of tasks that write to a lake at once; each holds connections to the catalog."""
LOCK_TIMEOUT_SECONDS = 600.0
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 5.0
MEMORY_MB, MEMORY_MB_PER_THREAD, LEAST_MEMORY_MB = 1000, 250, 125
"""Default for DuckDB's memory: 1 GB, or more for more than four threads, but at most half of what the machine has for
each task that may have the warehouse open at once. DuckDB needs 125 MB per thread."""


class WarehouseLockedError(AirflowException):
    """Another process kept the warehouse's file open for longer than the hook may wait."""


class WarehouseHook(DuckDBHook):
    """Opens the warehouse that the connection `warehouse` defines: a DuckDB file, a DuckLake, or one at MotherDuck.

    - A path: a DuckDB file. Without a connection, it is `warehouse.duckdb` in the data directory. A missing folder is
      created. DuckDB lets only one process at a time open a file, even to read it: the hook waits for its turn with
      growing pauses, and gives up after `lock_timeout` seconds.
    - `ducklake:…`: a DuckLake; `ducklake:postgres:` allows many writers. The connection's extra has `data_path`, the
      folder or URL of its Parquet files; `catalog_conn_id`, the Airflow connection (postgres) to its catalog; and
      `storage_conn_id`, the one (aws) for a `data_path` in S3. DuckDB's extensions come from their Python packages.
    - `md:…`: MotherDuck, as in the official hook.

    Connections bind values without importing pandas (see include/nyc_taxi/without_pandas.py).

    Args:
        lock_timeout: seconds to wait for another process; else the connection's extra `lock_timeout`, else 600.

    All arguments of DuckDBHook apply too. `threads` and `memory_limit` depend on the machine and on the limits of its
    container, unless the argument or the extra sets them.
    """

    default_conn_name = "warehouse"
    hook_name = "NYC taxi warehouse"

    def __init__(self, *args: Any, lock_timeout: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lock_timeout = lock_timeout

    @property
    def lock_timeout(self) -> float:
        """Seconds to wait for another process."""
        return float(self.resolve_parameter("lock_timeout", self._lock_timeout, LOCK_TIMEOUT_SECONDS))

    @property
    def memory_limit(self) -> str | None:
        """The memory that DuckDB may use before it spills to disk."""
        return super().memory_limit or f"{self._default_memory()}MB"

    @property
    def threads(self) -> int | None:
        """The number of DuckDB's threads: all processors that the process may use, if there is memory for them."""
        from include.nyc_taxi import machine

        if chosen := super().threads:
            return chosen
        if super().memory_limit:
            return machine.processors()
        return max(1, min(machine.processors(), self._default_memory() // LEAST_MEMORY_MB))

    def _default_memory(self) -> int:
        """The default for DuckDB's memory, in megabytes."""
        from include.nyc_taxi import machine

        wanted = max(MEMORY_MB, MEMORY_MB_PER_THREAD * int(super().threads or machine.processors()))
        share = machine.memory() // machine.MB // 2 // self._tasks_at_once
        return max(LEAST_MEMORY_MB, min(wanted, share))

    @property
    def _tasks_at_once(self) -> int:
        """How many tasks may have the warehouse open on this machine at once."""
        from airflow.providers.common.compat.sdk import conf

        executor = conf.get("core", "executor", fallback="")
        if "Kubernetes" in executor and "Celery" not in executor:
            return 1  # each task has a machine of its own: its pod
        section, key = ("celery", "worker_concurrency") if "Celery" in executor else ("core", "parallelism")
        return max(1, min(self.writers, int(conf.getint(section, key, fallback=self.writers))))

    @property
    def temp_directory(self) -> str | None:
        """The folder for spilled data: by default beside a file, and for a lake in this machine's temporary folder."""
        return super().temp_directory or (f"{tempfile.gettempdir()}/nyc_taxi-{os.getpid()}" if self.is_lake else None)

    @property
    def is_lake(self) -> bool:
        """Whether the warehouse is a DuckLake."""
        return self.get_database().startswith(LAKE)

    @property
    def writers(self) -> int:
        """How many processes may have the warehouse open at once, which is the number of slots for its pool.

        The connection's extra `writers` sets it for a server; a file has one writer whatever the extra says.
        """
        database = self.get_database()
        if database.startswith(("md:", f"{LAKE}postgres:", f"{LAKE}mysql:")):
            return int(self.resolve_parameter("writers", None, WRITERS))
        return 1  # a file, or a lake whose catalog is a file

    @cached_property
    def airflow_connection(self) -> Connection | None:
        """The connection, or None if the default one is not defined. Looked up when the hook is first used.

        Raises:
            SettingError: it is defined but invalid.
        """
        from usable_connection import usable

        try:
            connection = usable(self.get_connection, self.get_conn_id(), self.conn_type)
            _check_extra(self.get_conn_id(), connection.extra_dejson)
            return connection
        except AirflowNotFoundException:
            if self.get_conn_id() != self.default_conn_name:
                raise
            return None

    def get_database(self) -> str:
        """The database to open: the connection's, or the default file if there is no connection.

        The official hook falls back to an in-memory database, which would silently lose a task's work.

        Raises:
            SettingError: the connection names no database.
        """
        from include.nyc_taxi import settings
        from include.nyc_taxi.errors import SettingError

        connection = self.airflow_connection
        if connection is None and not self.database:
            return str(settings.warehouse_path())
        if connection and not self.database and (connection.host or "").startswith(LAKE):
            _check_absolute(self.get_conn_id(), str(connection.host))
            return str(connection.host)  # the official hook would take a password for a MotherDuck token
        database = super().get_database()
        if database != ":memory:":
            if connection and not self.database:
                _check_absolute(self.get_conn_id(), database)
            return database
        if connection and not connection.host and connection.schema:
            return f"/{connection.schema.lstrip('/')}"  # Airflow reads the path in `duckdb:///path` as a schema
        raise SettingError(
            f"the connection {self.get_conn_id()!r} names no file: expected a path in its field `host`, for example "
            """AIRFLOW_CONN_WAREHOUSE='{"conn_type": "duckdb", "host": "/srv/nyc_taxi/warehouse.duckdb"}'"""
        )

    def exists(self) -> bool:
        """Whether the warehouse may exist: False only if its file is missing. Does not open it."""
        database = self.get_database()
        return not _is_file(database) or Path(database).exists()

    def get_conn(self) -> DuckDBPyConnection:
        """Open the warehouse, waiting while another process has it open.

        Raises:
            WarehouseLockedError: it is still open elsewhere after `lock_timeout` seconds; names the file and the pid.
            LakeError: the lake cannot be opened because its catalog does not answer.
            LakeStateError: an extension is missing, or the connection contradicts the lake.
        """
        from include.nyc_taxi.warehouse.lake import passwords_in

        database = self.get_database()
        for password in passwords_in(database):  # DuckDB repeats them in errors, and not only in those of opening
            mask_secret(password)
        if _is_file(database):
            Path(database).absolute().parent.mkdir(parents=True, exist_ok=True)
        backoff, waiting_for = wait_exponential(FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS), ""

        def left(state: RetryCallState) -> float:
            return self._patience(state)[0] - (state.seconds_since_start or 0)

        def log_wait(state: RetryCallState) -> None:
            nonlocal waiting_for
            reason = self._patience(state)[1]
            waiting_for = f"{self.place}, which {reason}"
            self.log.info("%s %s; waiting", self.place, reason)

        def sleep(seconds: float) -> None:
            try:
                time.sleep(seconds)
            except BaseException as ended:  # the task's time limit, which does not know what it interrupts
                ended.add_note(f"waiting for {waiting_for}")
                raise

        return Retrying(
            stop=lambda state: left(state) <= 0,
            wait=lambda state: min(backoff(state), left(state)),
            before_sleep=log_wait,
            sleep=sleep,
            reraise=True,
        )(self._open, database)

    def _patience(self, state: RetryCallState) -> tuple[float, str]:
        """Seconds to keep trying after the last error, and what the warehouse is doing; 0 where waiting cannot help."""
        error = state.outcome and state.outcome.exception()
        if isinstance(error, WarehouseLockedError):
            return self.lock_timeout, f"is open in process {_holder(error.__cause__)}"
        if self.is_lake and "Unable to connect to Postgres" in str(error):
            return min(self.lock_timeout, CATALOG_TIMEOUT_SECONDS), "does not answer"
        return 0, ""

    def _open(self, database: str) -> DuckDBPyConnection:
        try:
            return self._open_lake(database) if self.is_lake else self._open_database(database)
        except Exception as error:
            if "Could not set lock" not in str(error):
                raise
            raise WarehouseLockedError(_locked_message(self.place, self.lock_timeout, error)) from error

    def _open_database(self, database: str) -> DuckDBPyConnection:
        from include.nyc_taxi.warehouse import checkpoints
        from include.nyc_taxi.without_pandas import binding_without_pandas

        con = binding_without_pandas(super().get_conn())
        _set_time_zone(con)
        if _is_file(database) and Path(database).stat().st_size >= checkpoints.LARGE_FILE_BYTES:
            con.execute("PRAGMA disable_checkpoint_on_shutdown")
        return con

    def _open_lake(self, database: str) -> DuckDBPyConnection:
        from include.nyc_taxi import warehouse
        from include.nyc_taxi.warehouse import lake
        from include.nyc_taxi.without_pandas import binding_without_pandas

        self.log.info("Opening the lake %s", self.place)
        con = binding_without_pandas(duckdb.connect(config=self.get_connect_config()))
        try:
            _set_time_zone(con)
            self.load_extensions(con)
            data_path = self.connection_extra.get("data_path")
            lake.attach(con, database, data_path, self._catalog_secret(), self._storage_secret())
            warehouse.make_ready(con)
        except Exception:
            con.close()
            raise
        return con

    @property
    def secrets(self) -> list[Secret]:
        """The credentials that a lake needs, for programs other than this process: its catalog's and its storage's."""
        return [secret for secret in (self._catalog_secret(), self._storage_secret()) if secret]

    def _catalog_secret(self) -> Secret | None:
        """The Postgres connection that `catalog_conn_id` names, as a DuckDB secret."""
        connection = self._named_connection("catalog_conn_id", "postgres")
        if connection is None:
            return None
        return _secret(
            "postgres",
            host=connection.host,
            port=connection.port,
            database=connection.schema,
            user=connection.login,
            password=connection.password,
        )

    def _storage_secret(self) -> Secret | None:
        """The AWS connection that `storage_conn_id` names, as a DuckDB secret."""
        connection = self._named_connection("storage_conn_id", "aws", "s3")
        if connection is None:
            return None
        extra = connection.extra_dejson
        url = urlsplit(extra.get("endpoint_url") or "")
        elsewhere: dict[str, Any] = {}
        if url.netloc:
            elsewhere = {"endpoint": url.netloc, "use_ssl": url.scheme == "https", "url_style": "path"}
        return _secret(
            "s3",
            key_id=connection.login or extra.get("aws_access_key_id"),
            secret=connection.password or extra.get("aws_secret_access_key"),
            session_token=extra.get("aws_session_token"),
            region=extra.get("region_name"),
            **elsewhere,
        )

    def _named_connection(self, key: str, *kinds: str) -> Connection | None:
        from usable_connection import usable

        conn_id = self.connection_extra.get(key)
        return usable(self.get_connection, conn_id, *kinds) if conn_id else None

    @property
    def place(self) -> str:
        """The warehouse's location for messages and logs, without secrets."""
        from include.nyc_taxi.warehouse.lake import without_passwords

        database = without_passwords(self.get_database())
        if not self.is_lake:
            return database
        catalog, files = (self.connection_extra.get(key) for key in ("catalog_conn_id", "data_path"))
        return f"{database}{catalog or ''}, files in {files}" if files else f"{database}{catalog or ''}"

    @contextlib.contextmanager
    def opened(self) -> Iterator[DuckDBPyConnection]:
        """Open the warehouse for the block, for functions of `include` that write in transactions of their own."""
        from include.nyc_taxi.warehouse import checkpoints
        from include.nyc_taxi.web.visit import Visit
        from include.orchestration import metrics

        file = _file_of(self.get_database())
        visit, began = Visit(self._user_and_place, file), time.monotonic()
        with visit.recorded(), contextlib.closing(self.get_conn()) as con:
            metrics.of_wait(time.monotonic() - began)
            before = checkpoints.state(file) if file else None
            visit.begin(con)
            try:
                yield con
            except BaseException as error:
                con.interrupt()  # an interrupted query still runs in DuckDB's threads, and closing waits for them
                if isinstance(error, Exception):  # a load that is refused has recorded why
                    visit.end(con)
                raise
            visit.end(con)
        if self.advice and file and checkpoints.was_made(before, checkpoints.state(file)):
            self.log.info("This task has made a checkpoint. %s", self.advice)

    @property
    def advice(self) -> str | None:
        """Sentences for the user about the warehouse's size; None if there is nothing to say. Does not open it."""
        from include.nyc_taxi.warehouse import checkpoints

        return checkpoints.advice_about(_file_of(self.get_database()))

    def _user_and_place(self, con: DuckDBPyConnection) -> tuple[User, Place] | None:
        """Who opens the warehouse, and what is known about it; None if it is not the warehouse of the connection.

        Only that one has a page in the web UI.
        """
        from include.nyc_taxi.web.snapshot import Place

        if self.database or self.get_conn_id() != self.default_conn_name:
            return None
        return current_user(), Place("lake" if self.is_lake else "file", self.place, tuple(self._shown_settings(con)))

    def _shown_settings(self, con: DuckDBPyConnection) -> Iterator[Setting]:
        """The settings that matter, with their origins and without secrets."""
        from humanize import naturalsize

        from include.nyc_taxi import machine
        from include.nyc_taxi.warehouse.lake import without_passwords
        from include.nyc_taxi.web.snapshot import Setting

        connection = f"the connection {self.default_conn_name!r}"
        extra = self.connection_extra
        yield Setting("database", self.place, connection if self.airflow_connection else "default: the data directory")
        ours = {"lock_timeout": f"{self.lock_timeout:g} s", "writers": str(self.writers)}
        duckdbs = ("memory_limit", "threads", "TimeZone")
        defaults = {
            "memory_limit": f"default: of {naturalsize(machine.memory())} for {self._tasks_at_once} "
            f"{'task' if self._tasks_at_once == 1 else 'tasks'} at once",
            "threads": f"default: of {machine.processors()} processors",
        }
        for name, value in [*ours.items(), *((name, str(_current_setting(con, name))) for name in duckdbs)]:
            origin = f"{connection}, extra" if extra.get(name) is not None else defaults.get(name, "default")
            yield Setting(name, value, origin)
        for name in ("temp_directory", "data_path", "catalog_conn_id", "storage_conn_id", "extensions"):
            if extra.get(name):
                yield Setting(name, without_passwords(str(extra[name])), f"{connection}, extra")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[DuckDBPyConnection]:
        """Open the warehouse and run the block in one transaction, which is committed as a whole or not at all.

        The connection is closed after the block, so that other processes can open a file. On a lake, the block may
        only read: it sees one snapshot without waiting for writers. Writers of a lake must be able to retry.
        """
        from include.nyc_taxi import warehouse

        with self.opened() as con, (warehouse.reading if self.is_lake else warehouse.transaction)(con):
            yield con

    def test_connection(self) -> tuple[bool, str]:  # type: ignore[override]  # the provider's stub says None
        """Answer the "Test" button of the UI with DuckDB's version, and the warehouse's path and size."""
        try:
            with contextlib.closing(self.get_conn()) as con:
                (version,) = con.execute("SELECT version()").fetchone() or ("?",)
        except Exception as error:  # of any kind: its message is the answer
            return False, str(error)
        if not _is_file(self.get_database()):
            return True, f"DuckDB {version}, {self.place}"
        path = Path(self.get_database())
        size = path.stat().st_size if path.exists() else 0
        return True, f"DuckDB {version}, {path}, {size:,} bytes"


def _set_time_zone(con: DuckDBPyConnection) -> None:
    """Convert times that are marked as UTC to the city's time zone, not to this machine's."""
    from include.nyc_taxi.catalogue import CITY_TIME

    con.execute(f"SET TimeZone = '{CITY_TIME}'")


PROVIDERS_KEYS = (
    "database",
    "extensions",
    "extension_directory",
    "autoinstall_extensions",
    "autoload_extensions",
    "allow_community_extensions",
    "memory_limit",
    "threads",
    "temp_directory",
    "read_only",
    "settings",
    "motherduck_token",
)
OUR_KEYS = ("lock_timeout", "writers", "data_path", "catalog_conn_id", "storage_conn_id")


def _check_extra(conn_id: str, extra: dict[str, Any]) -> None:
    """Raise SettingError if the connection's extra has an unknown key or an invalid value."""
    from include.nyc_taxi.errors import SettingError

    known = (*OUR_KEYS, *PROVIDERS_KEYS)

    def invalid(key: str, expected: str) -> SettingError:
        return SettingError(
            f"the connection {conn_id!r}, key {key!r} in its extra: expected {expected}, found {extra[key]!r}"
        )

    for key in extra:
        if key not in known and not key.startswith("__"):
            meant = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {meant[0]}?" if meant else f"known keys are {', '.join(known)}"
            raise SettingError(f"the connection {conn_id!r}, extra: unknown key {key!r}; {hint}")
    for key, least in (("lock_timeout", 0.0), ("writers", 1), ("threads", 1)):
        if key in extra and extra[key] is not None:
            try:
                number = type(least)(extra[key])  # numbers from a URI are strings
                valid = least <= number < 1e6 and not isinstance(extra[key], bool) and number == float(extra[key])
            except (TypeError, ValueError):
                valid = False
            if not valid:
                raise invalid(key, f"a {'number' if key == 'lock_timeout' else 'whole number'} of at least {least:g}")
    for key in ("autoinstall_extensions", "autoload_extensions", "allow_community_extensions", "read_only"):
        if not isinstance(extra.get(key, False), bool | None):
            raise invalid(key, "true or false, in JSON")
    if extra.get("memory_limit") is not None:
        try:
            duckdb.connect(config={"memory_limit": extra["memory_limit"]}).close()
        except Exception:  # DuckDB's errors for this have no common class
            raise invalid("memory_limit", "a size such as 2GB") from None


def _check_absolute(conn_id: str, database: str) -> None:
    """Raise SettingError if the database is a file with a relative path: it would depend on the working directory."""
    from include.nyc_taxi.errors import SettingError

    path = database.removeprefix(LAKE)
    if _is_file(path) and not Path(path).is_absolute():
        raise SettingError(
            f"the connection {conn_id!r}: expected an absolute path, because tasks run in other folders, found {path}. "
            "In a URI, it begins with a third slash: duckdb:///srv/nyc_taxi/warehouse.duckdb"
        )


def _is_file(database: str) -> bool:
    return not re.match(r"[a-z]+:", database)  # such as md: or ducklake:


def _file_of(database: str) -> Path | None:
    """The warehouse's file; None if it is not a file."""
    return Path(database) if _is_file(database) else None


def _current_setting(con: DuckDBPyConnection, name: str) -> object:
    (value,) = con.execute("SELECT current_setting(?)", [name]).fetchone() or (None,)
    return value


def _secret(kind: str, **values: str | int | bool | None) -> Secret:
    from include.nyc_taxi.warehouse.lake import Secret

    return Secret(kind, {name: value for name, value in values.items() if value not in (None, "")})


def _holder(error: BaseException | None) -> str:
    """The pid in DuckDB's message about a lock, or "unknown"."""
    found = re.search(r"PID (\d+)", str(error))
    return found[1] if found else "unknown"


def _locked_message(database: str, waited: float, error: Exception) -> str:
    return (
        f"{database} was open in another process (pid {_holder(error)}) for all of the {waited:g} seconds "
        "that this task may wait. Close that process (a DuckDB shell or notebook?), or if it is a task of ours, "
        "check that the pool `warehouse` has one slot; then clear this task"
    )
