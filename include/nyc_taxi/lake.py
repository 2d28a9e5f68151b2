"""What is different where the warehouse is a DuckLake: Parquet files, a catalog of them, and many writers at once.

A DuckDB file has one process at a time; a lake's writers find out at COMMIT whether another was faster. DuckLake
refuses a commit that inserts into a table from which another has deleted meanwhile, but lets two first loads of the
same month pass, which would double it. So every writer here also takes its turn: it counts up the one row of `turns`,
and of two that overlap one is refused, and tries again. What is tried again is short: a month's trips are written as a
file before.
"""

import contextlib
import logging
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import duckdb
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from include.nyc_taxi.errors import NycTaxiError
from include.nyc_taxi.late import pandas_kept_out

log = logging.getLogger(__name__)
T = TypeVar("T")

DATABASE = "warehouse"
"""What the lake is called in a connection."""

ATTEMPTS = 100
"""To commit one transaction. With pauses of two seconds on average, at last, it gives up after some minutes."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 4.0

PARQUET = "FORMAT parquet, COMPRESSION zstd"


class LakeError(NycTaxiError):
    """The lake, or what it needs, is not there."""


# -- opening


@dataclass(frozen=True)
class Secret:
    """Credentials for a connection of DuckDB: bound, so that they are in no statement that could be logged.

    Attributes:
        kind: "postgres" or "s3".
        values: the secret's parameters by name, those that are known.
    """

    kind: str
    values: Mapping[str, str | int | bool]

    def create(self, con: duckdb.DuckDBPyConnection) -> None:
        """Make it in the connection, in whose memory it stays."""
        parameters = ", ".join(f"{name} ${name}" for name in self.values)
        con.execute(f"CREATE OR REPLACE SECRET {DATABASE}_{self.kind} (TYPE {self.kind}, {parameters})", self.values)


def load_extension(con: duckdb.DuckDBPyConnection, name: str) -> None:
    """Load an extension from its package: nothing is downloaded.

    Raises:
        LakeError: the package is not installed, or is for another version of DuckDB.
    """
    package = f"duckdb_extension_{name}"
    if not find_spec(package):
        raise LakeError(f"the package {package.replace('_', '-')} is not installed; requirements.in has its version")
    folder = Path(str(import_module(package).__file__)).parent / "extensions"
    file = folder / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
    if not file.exists():
        found = ", ".join(sorted(path.name for path in folder.glob("v*"))) or "none"
        raise LakeError(f"{package}: expected the extension for DuckDB {duckdb.__version__}, found that for {found}")
    con.execute(f"LOAD {_literal(str(file))}")


@pandas_kept_out()
def attach(
    con: duckdb.DuckDBPyConnection,
    database: str,
    data_path: str | None = None,
    catalog: Secret | None = None,
    storage: Secret | None = None,
) -> None:
    """Attach the lake as the database `warehouse`, and use it. It is made where the catalog has none.

    Args:
        database: `ducklake:` and what DuckLake takes for a catalog; `ducklake:postgres:` with `catalog`.
        data_path: folder or URL of the lake's files; fixed when the lake is made, and may be left out from then on.
        catalog, storage: credentials for the catalog's Postgres and for the S3 that the files are in.

    Raises:
        LakeError: the lake cannot be attached.
    """
    load_extension(con, "ducklake")
    if database.startswith("ducklake:postgres:"):
        load_extension(con, "postgres_scanner")
    if storage or (data_path and _is_url(data_path)):
        load_extension(con, "httpfs")
    for secret in filter(None, (catalog, storage)):
        secret.create(con)
    options = []
    if data_path:
        options.append(f"DATA_PATH {_literal(data_path)}")
        if not _is_url(data_path):
            Path(data_path).mkdir(parents=True, exist_ok=True)
    if catalog:
        options.append(f"META_SECRET '{DATABASE}_{catalog.kind}'")
    try:
        attached = f"ATTACH {_literal(database)} AS {DATABASE}"
        retried(lambda: con.execute(f"{attached} ({', '.join(options)})" if options else attached))
    except duckdb.Error as error:
        # Without its cause: what DuckDB says repeats the connection's own text, in which a password can be.
        raise LakeError(f"the lake cannot be opened: {without_passwords(_first_line(error), database)}") from None
    con.execute(f"USE {DATABASE}")


def is_lake(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether the connection's database is a DuckLake."""
    (kind,) = con.execute(
        "SELECT any_value(type) FROM duckdb_databases() WHERE database_name = current_database()"
    ).fetchone() or (None,)
    return bool(kind == "ducklake")


# -- writing


def retried(transaction: Callable[[], T]) -> T:
    """Run a transaction, and again when another writer was faster: at most `ATTEMPTS` times, after random pauses.

    Raises:
        duckdb.TransactionException: it has been refused each time.
    """
    return Retrying(
        retry=retry_if_exception(_is_conflict),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS),
        before_sleep=_log_refusal,
        reraise=True,
    )(transaction)


def _log_refusal(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    wait = state.next_action.sleep if state.next_action else 0.0
    log.info("Trying again in %.1f s: %s", wait, without_passwords(_first_line(error)) if error else "?")


def take_turn(con: duckdb.DuckDBPyConnection) -> None:
    """Let no other transaction that takes its turn commit between this one's begin and its end."""
    con.execute("UPDATE turns SET turn = turn + 1")


def ensure_turns(con: duckdb.DuckDBPyConnection) -> None:
    """Make the table `turns`, with its one row. Call it in the transaction that makes the other tables."""
    con.execute("CREATE TABLE turns (turn BIGINT NOT NULL)")
    con.execute("INSERT INTO turns VALUES (0)")


def partition(con: duckdb.DuckDBPyConnection, table: str) -> None:
    """Have a table of trips written in files of one month each."""
    con.execute(f"ALTER TABLE {table} SET PARTITIONED BY (partition_month)")


@dataclass
class Staged:
    """A month's trips in a file that the lake does not know yet.

    Attributes:
        file: path or URL.
        rows: how many trips.
        offered: whether a transaction has registered it, which may have been committed.
    """

    table: str
    file: str
    rows: int
    offered: bool = False

    @property
    def relation(self) -> str:
        """SQL to read them, as a FROM clause has it."""
        return f"read_parquet({_literal(self.file)})"

    def register(self, con: duckdb.DuckDBPyConnection) -> None:
        """Make them rows of the table. The file is the lake's from then on."""
        self.offered = True
        con.execute(
            "CALL ducklake_add_data_files(current_database(), ?, ?, hive_partitioning => true)", [self.table, self.file]
        )


@contextlib.contextmanager
def staged(
    con: duckdb.DuckDBPyConnection, table: str, start: date, query: str, bound: Mapping[str, object]
) -> Iterator[Staged]:
    """Write a query's rows as a file of the table's month that begins at `start`, to be registered in the block.

    When the block fails, the file is removed, but not once it was registered: a commit that fails for us, because
    Postgres went away or the task was ended just then, may have been made. What is then nobody's, like what a killed
    process leaves, is removed by `maintain`.
    """
    (data_path,) = con.execute("SELECT data_path FROM ducklake_settings(current_database())").fetchone() or ("",)
    folder = f"{data_path.rstrip('/')}/main/{table}/partition_month={start}"
    file = f"{folder}/{uuid.uuid4()}.parquet"
    if not _is_url(file):
        Path(folder).mkdir(parents=True, exist_ok=True)
    made = Staged(table, file, rows=0)
    try:
        (made.rows,) = con.execute(f"COPY ({query}) TO {_literal(file)} ({PARQUET})", bound).fetchone() or (0,)
        yield made
    except BaseException:
        if not made.offered and not _is_url(file):  # DuckDB cannot remove an object; `maintain` can
            Path(file).unlink(missing_ok=True)
        raise


# -- maintenance


@dataclass(frozen=True)
class Maintenance:
    """What maintenance did.

    Attributes:
        merged: files that are parts of greater ones now, or were rewritten without rows deleted from them.
        snapshots: of the past, that can no longer be read.
        removed: files removed, of those snapshots.
        abandoned: files removed that had never been registered.
    """

    merged: int
    snapshots: int
    removed: int
    abandoned: int


@pandas_kept_out()
def maintain(con: duckdb.DuckDBPyConnection, keep: timedelta, abandoned_after: timedelta) -> Maintenance:
    """Merge small files, let go of old snapshots, and remove the files that are then nobody's.

    Readers and writers may go on: what they can have open is younger than the limits. Repeat it as often as you like.

    Args:
        keep: how long past states of the warehouse can be read, and queries may take.
        abandoned_after: how old a file is that no load will register any more.
    """
    now = datetime.now(UTC)

    def call(function: str, *options: str, count: str = "count(*)") -> int:
        text = ", ".join(["current_database()", *options])
        # All rows are fetched: what the function does is committed when its result has been read to the end.
        [(number,)] = retried(lambda: con.execute(f"SELECT {count} FROM {function}({text})").fetchall())
        return int(number or 0)

    def flush(table: str) -> None:
        # In turn: DuckLake lets another writer's change pass beside it, and what that has replaced would be back.
        con.execute("BEGIN TRANSACTION")
        try:
            take_turn(con)
            con.execute(f"CALL ducklake_flush_inlined_data(current_database(), table_name => {_literal(table)})")
            con.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(duckdb.TransactionException):
                con.execute("ROLLBACK")
            raise

    def older_than(age: timedelta) -> str:
        return f"older_than => {_literal((now - age).isoformat())}::TIMESTAMPTZ"

    tables = con.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()").fetchall()
    for (table,) in tables:
        if table != "turns":
            retried(partial(flush, table))
    merged = call("ducklake_rewrite_data_files", count="sum(files_processed)")
    merged += call("ducklake_merge_adjacent_files", count="sum(files_processed)")
    return Maintenance(
        merged=merged,
        snapshots=call("ducklake_expire_snapshots", older_than(keep)),
        # A query that began before its snapshot was let go of may read on for as long.
        removed=call("ducklake_cleanup_old_files", older_than(keep)),
        abandoned=call("ducklake_delete_orphaned_files", older_than(abandoned_after)),
    )


# -- small things


_BY_DUCKLAKE = ("conflict", "maximum retry count", "duplicate key")
_BY_POSTGRES = ("could not serialize", "deadlock detected", "current transaction is aborted")
_AT_THE_START = ("already exists", "duplicate key", "concurrently updated")
"""What DuckLake, and its catalog's Postgres, say where another was faster. There is no error of its own for that."""


def _is_conflict(error: BaseException) -> bool:
    if not isinstance(error, duckdb.Error):
        return False
    text = str(error).lower()
    said: tuple[str, ...] = _BY_POSTGRES
    if isinstance(error, duckdb.TransactionException):
        said += _BY_DUCKLAKE
    if "failed to initialize ducklake" in text:  # of several that find an empty catalog, one makes the lake
        said += _AT_THE_START
    return any(words in text for words in said)


# In quotes, or up to the next name, so that a password which should have been in quotes is one, too.
_NAMED_PASSWORD = re.compile(
    r"""(\b\w*(?:password|passwd|pwd|secret|token|scram_\w+_key)\s*=\s*)"""
    r"""('(?:[^'\\]|\\.|'')*'|.*?)(?=[\s&]+\w+\s*=|"(?:[\s:,.;)]|Unable|$)|$)""",
    re.IGNORECASE,
)
_PASSWORD_IN_URL = re.compile(r"""(://[^:/@\s"]*:)(\S*)(?=@)""")  # up to the last @, for the same reason
_PASSWORDS = (_NAMED_PASSWORD, _PASSWORD_IN_URL)


def passwords_in(connection: str) -> list[str]:
    """The passwords in a connection string of Postgres, MySQL, S3 or MotherDuck, as they are written there."""
    found = []
    for pattern in _PASSWORDS:
        found += [password for each in pattern.finditer(connection) if (password := each[2].strip("'"))]
        connection = pattern.sub(r"\1***", connection)
    return found


def without_passwords(text: str, connection: str = "") -> str:
    """The text with `***` for the passwords in connection strings, of the forms that Postgres takes.

    Args:
        connection: the string that the text is about, where it is an error: Postgres repeats in quotes what it cannot
            read, and where a password has an @, a blank or a slash, that can be a part of it.
    """
    hidden = text
    for pattern in _PASSWORDS:
        hidden = pattern.sub(r"\1***", hidden)
    parts = {part for password in passwords_in(connection) for part in re.split(r"[^\w.+-]+", password) if part}
    if not parts:
        return hidden
    part = "|".join(map(re.escape, sorted(parts, key=len, reverse=True)))
    return re.sub(rf'"(?:[^"]*[^"\w])?(?:{part})(?:\W[^"]*)?"', '"***"', hidden)


def _is_url(path: str) -> bool:
    return "://" in path


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split("\n\n")[0].split())


def _literal(text: str) -> str:
    quote = "'"
    return quote + text.replace(quote, 2 * quote) + quote
