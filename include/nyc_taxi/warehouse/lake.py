"""Open, write and maintain a warehouse that is a DuckLake: Parquet files, a catalog of them, and many writers at once.

Only one process at a time can open a DuckDB file. The writers of a lake work at the same time, and DuckLake detects
conflicts at COMMIT: it refuses a commit that inserts into a table from which another writer has deleted meanwhile. It
does not detect two concurrent first loads of a month, which would duplicate the month. Every writer therefore also
updates the only row of the table `turns`, so that DuckLake refuses one of any two overlapping transactions, which is
then repeated. These transactions are short, because the trips of a month are written to a file beforehand.
"""

import contextlib
import logging
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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
from include.nyc_taxi.months import Month
from include.nyc_taxi.warehouse import lake_path
from include.nyc_taxi.warehouse.lake_path import is_url
from include.nyc_taxi.warehouse.sql_text import literal, quoted
from include.nyc_taxi.warehouse.transactions import transaction

log = logging.getLogger(__name__)
T = TypeVar("T")

DATABASE = "warehouse"
"""The lake's name in a connection."""

ATTEMPTS = 100
"""Attempts to commit one transaction. The pauses grow to two seconds on average, so it gives up after some minutes."""
UNCLEAR_ATTEMPTS = 12
"""Attempts if the catalog's server refuses for a reason that is not known here: about 15 seconds."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 4.0

PARQUET = "FORMAT parquet, COMPRESSION zstd"


class LakeError(NycTaxiError, permanent=False):
    """The lake cannot be opened because its catalog or its storage does not answer."""


class LakeStateError(LakeError, permanent=True):
    """The lake, its connection or an installed package is wrong, and somebody has to correct it."""


# -- opening


@dataclass(frozen=True)
class Secret:
    """Credentials for a DuckDB connection. They are bound values, so that no statement that may be logged has them.

    Attributes:
        kind: "postgres" or "s3".
        values: the secret's known parameters, by name.
    """

    kind: str
    values: Mapping[str, str | int | bool]

    def create(self, con: duckdb.DuckDBPyConnection) -> None:
        """Create the secret in the connection; it is kept in memory only."""
        parameters = ", ".join(f"{name} ${name}" for name in self.values)
        con.execute(f"CREATE OR REPLACE SECRET {DATABASE}_{self.kind} (TYPE {self.kind}, {parameters})", self.values)


def load_extension(con: duckdb.DuckDBPyConnection, name: str) -> None:
    """Load a DuckDB extension from its installed Python package, without downloading anything.

    Raises:
        LakeStateError: the package is not installed, or belongs to another version of DuckDB.
    """
    package = f"duckdb_extension_{name}"
    if not find_spec(package):
        raise LakeStateError(
            f"the package {package.replace('_', '-')} is not installed; install the version that requirements.in names"
        )
    folder = Path(str(import_module(package).__file__)).parent / "extensions"
    file = folder / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
    if not file.exists():
        found = ", ".join(sorted(path.name for path in folder.glob("v*"))) or "none"
        raise LakeStateError(
            f"{package}: expected the extension for DuckDB {duckdb.__version__}, found one for {found}; install the "
            "version that requirements.in names"
        )
    con.execute(f"LOAD {literal(str(file))}")


def attach(
    con: duckdb.DuckDBPyConnection,
    database: str,
    data_path: str | None = None,
    catalog: Secret | None = None,
    storage: Secret | None = None,
) -> None:
    """Attach the lake as the database `warehouse` and use it. If the catalog has no lake, one is created.

    Args:
        database: `ducklake:` and a catalog in DuckLake's notation; `ducklake:postgres:` if `catalog` is given.
        data_path: folder or URL of the lake's files. It is fixed when the lake is created, and optional afterwards.
        catalog, storage: credentials for the catalog's Postgres, and for the S3 storage with the files.

    Raises:
        LakeError: the lake cannot be attached now.
        LakeStateError: the lake cannot be attached until somebody corrects its connection or the installation.
    """
    load_extension(con, "ducklake")
    if database.startswith("ducklake:postgres:"):
        load_extension(con, "postgres_scanner")
    if storage or (data_path and is_url(data_path)):
        load_extension(con, "httpfs")
    for secret in filter(None, (catalog, storage)):
        secret.create(con)
    options = [f"META_SECRET '{DATABASE}_{catalog.kind}'"] if catalog else []
    try:
        if data_path is None:
            _attach(con, database, options)
        else:
            _attach_at(con, database, data_path, options)
    except duckdb.Error as error:
        # `from None`, because DuckDB's message repeats the text of the connection, which can contain a password.
        kind = LakeStateError if "DATA_PATH" in str(error) else LakeError
        raise kind(f"the lake cannot be opened: {without_passwords(_first_line(error), database)}") from None
    con.execute(f"USE {DATABASE}")


def _attach(con: duckdb.DuckDBPyConnection, database: str, options: list[str]) -> None:
    attached = f"ATTACH {literal(database)} AS {DATABASE}"
    retried(lambda: con.execute(f"{attached} ({', '.join(options)})" if options else attached))


def _attach_at(con: duckdb.DuckDBPyConnection, database: str, data_path: str, options: list[str]) -> None:
    """Attach the lake whose files are at `data_path`. A new lake is created only at a plain path."""
    place, wrong = lake_path.plain(data_path)
    mismatch: duckdb.Error | None = None
    try:
        if wrong:
            _attach(con, database, [*options, "CREATE_IF_NOT_EXISTS false"])
        else:
            if not is_url(place):
                Path(place).mkdir(parents=True, exist_ok=True)
            _attach(con, database, [*options, f"DATA_PATH {literal(place)}"])
            return
    except duckdb.Error as error:
        if wrong and "does not exist" in str(error):
            raise LakeStateError(f"data_path: {wrong}") from None
        if wrong or "DATA_PATH" not in str(error):
            raise
        # The catalog may contain the same place in another spelling, which an older version accepted.
        mismatch = error
        _attach(con, database, [*options, "CREATE_IF_NOT_EXISTS false"])
    found = _data_path(con, DATABASE)
    if not lake_path.is_same(found, data_path):
        con.execute(f"DETACH {DATABASE}")
        raise mismatch or LakeStateError(
            f"data_path: expected {found}, which contains the lake's files, found {data_path}; correct the connection"
        )


def _data_path(con: duckdb.DuckDBPyConnection, database: str | None = None) -> str:
    """The folder or URL of the lake's files according to its catalog."""
    (data_path,) = con.execute(
        "SELECT data_path FROM ducklake_settings(coalesce(?, current_database()))", [database]
    ).fetchone() or ("",)
    return str(data_path)


def is_lake(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether the connection's database is a DuckLake."""
    (kind,) = con.execute(
        "SELECT any_value(type) FROM duckdb_databases() WHERE database_name = current_database()"
    ).fetchone() or (None,)
    return bool(kind == "ducklake")


# -- writing


def write(con: duckdb.DuckDBPyConnection, work: Callable[[], T]) -> T:
    """Run `work` in one transaction and return its result: all its changes are committed, or none.

    In a lake, `work` is repeated if another writer has committed first, so it must read everything it needs itself.
    This works for both kinds of warehouse.
    """
    if not is_lake(con):
        with transaction(con):
            return work()

    def attempt() -> T:
        with transaction(con):
            conflict_with_other_writers(con)
            return work()

    return retried(attempt)


def retried(attempt: Callable[[], T]) -> T:
    """Run a transaction, and repeat it if another writer committed first: at most `ATTEMPTS` times, with random pauses.

    If the catalog's server refuses for an unknown reason, the transaction is attempted `UNCLEAR_ATTEMPTS` times: the
    reason may be a conflict that the server reports in another language than English.

    Raises:
        duckdb.Error: every attempt was refused, or it failed for another reason.
    """
    unclear = 0

    def try_again(error: BaseException) -> bool:
        nonlocal unclear
        if _is_conflict(error):
            return True
        unclear += _is_refused_by_server(error)
        return _is_refused_by_server(error) and unclear < UNCLEAR_ATTEMPTS

    return Retrying(
        retry=retry_if_exception(try_again),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS),
        before_sleep=_log_retry,
        reraise=True,
    )(attempt)


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    pause = state.next_action.sleep if state.next_action else 0
    reason = without_passwords(_first_line(error)) if error else ""
    log.info("The lake refused attempt %d, the next follows in %.1f s: %s", state.attempt_number, pause, reason)


WRITE_COUNTER = "turns"
"""The table whose only row counts the lake's transactions. DuckDB files do not have it."""


def conflict_with_other_writers(con: duckdb.DuckDBPyConnection) -> None:
    """Serialize this transaction with all others that call this function: of two that overlap, one cannot commit."""
    con.execute("UPDATE turns SET turn = turn + 1")


def create_write_counter(con: duckdb.DuckDBPyConnection) -> None:
    """Create the table `turns` with its row. Call this in the transaction that creates the other tables."""
    con.execute("CREATE TABLE turns (turn BIGINT NOT NULL)")
    con.execute("INSERT INTO turns VALUES (0)")


def keep_rows_in_files(con: duckdb.DuckDBPyConnection) -> None:
    """Let DuckLake write all rows to files, except those of `turns`. The catalog remembers this setting.

    By default, DuckLake records up to ten inserted or deleted rows in its catalog. While `maintain` merges files,
    DuckLake does not detect that another transaction deletes rows in this way, and the deleted rows would be back.
    """
    found = con.execute(
        "SELECT scope_entry, value FROM ducklake_options(current_database()) "
        "WHERE option_name = 'data_inlining_row_limit'"
    )
    limits = dict(found.fetchall())
    if limits.get(f"main.{WRITE_COUNTER}") is None:
        con.execute(f"CALL {DATABASE}.set_option('data_inlining_row_limit', 10, table_name => '{WRITE_COUNTER}')")
    if limits.get(None) != "0":
        con.execute(f"CALL {DATABASE}.set_option('data_inlining_row_limit', 0)")


def partition(con: duckdb.DuckDBPyConnection, table: str) -> None:
    """Let DuckLake write a table of trips to files of one month each."""
    con.execute(f"ALTER TABLE {table} SET PARTITIONED BY (partition_month)")


@dataclass
class Staged:
    """A month's trips in a file that is not registered in the lake yet.

    Attributes:
        table: the table of trips that they belong to.
        file: path or URL.
        offered: whether a transaction has registered the file, and may have been committed.
    """

    table: str
    file: str
    offered: bool = False

    @property
    def relation(self) -> str:
        """SQL for a FROM clause that reads the trips."""
        return f"read_parquet({literal(self.file)})"

    def register(self, con: duckdb.DuckDBPyConnection) -> None:
        """Add the trips to the table. The file belongs to the lake from then on."""
        self.offered = True
        con.execute(
            "CALL ducklake_add_data_files(current_database(), ?, ?, hive_partitioning => true)", [self.table, self.file]
        )


def _as_inserted(con: duckdb.DuckDBPyConnection, table: str, query: str, values: Mapping[str, object]) -> str:
    """The query extended to all columns of the table, with their types, as INSERT BY NAME would fill them.

    DuckLake requires a registered file to have exactly these columns. Analysts may have added some to the table.
    """
    given = [name for name, *_ in con.execute(f"DESCRIBE {query}", values).fetchall()]
    columns = con.execute(
        "SELECT column_name, data_type, column_default, is_nullable FROM duckdb_columns() WHERE database_name = "
        "current_database() AND schema_name = current_schema() AND table_name = ? ORDER BY column_index",
        [table],
    ).fetchall()
    if extra := sorted(set(given) - {name for name, *_ in columns}):
        raise LakeStateError(f"{table}: expected the column {', '.join(extra)}, found none")
    selected = []
    for name, kind, default, nullable in columns:
        value = quoted(name) if name in given else f"({default or 'NULL'})"
        if not nullable:
            value = f"coalesce({value}, error({literal(f'{table}.{name} takes no nulls')}))"
        selected.append(f"CAST({value} AS {kind}) AS {quoted(name)}")
    return f"SELECT {', '.join(selected)} FROM ({query})"


@contextlib.contextmanager
def staged(
    con: duckdb.DuckDBPyConnection, table: str, month: Month, query: str, values: Mapping[str, object]
) -> Iterator[Staged]:
    """Write the rows of a query to a file of one month of the table; the block then registers the file.

    If the block raises an exception, the file is removed unless it has been registered: a commit that appears to have
    failed, because Postgres went away or the task was killed at that moment, may have succeeded. `maintain` deletes
    unreferenced files, including those of killed processes.
    """
    folder = f"{_data_path(con).rstrip('/')}/main/{table}/partition_month={month.first_day}"
    file = f"{folder}/{uuid.uuid4()}.parquet"
    if not is_url(file):
        Path(folder).mkdir(parents=True, exist_ok=True)
    trips = Staged(table, file)
    try:
        rows = _as_inserted(con, table, query, values)
        con.execute(f"COPY ({rows}) TO {literal(file)} ({PARQUET})", values)
        yield trips
    except BaseException:
        if not trips.offered and not is_url(file):  # DuckDB cannot delete objects from S3, but `maintain` can
            Path(file).unlink(missing_ok=True)
        raise


# -- maintenance


@dataclass(frozen=True)
class Maintenance:
    """The result of maintenance.

    Attributes:
        merged: number of files that were merged into larger ones, or rewritten without their deleted rows.
        snapshots: number of expired snapshots.
        removed: number of deleted files that only expired snapshots needed.
        abandoned: number of deleted files that had never been registered.
    """

    merged: int
    snapshots: int
    removed: int
    abandoned: int


def maintain(con: duckdb.DuckDBPyConnection, keep: timedelta, abandoned_after: timedelta) -> Maintenance:
    """Compact files, expire old snapshots and delete unreferenced files. It can be repeated at any time.

    Readers and writers need not stop, because files in use are always newer than the cutoffs.

    Args:
        keep: how long past states of the warehouse can be read, and how long a query may take.
        abandoned_after: the age after which an unregistered file is considered abandoned by a killed load.

    Raises:
        LakeStateError: some of the files that look abandoned may be in use. None of them has been deleted; everything
            else is done.
    """
    now = datetime.now(UTC)

    def call(function: str, older_than: str) -> int:
        query = f"SELECT count(*) FROM {function}(current_database(), {older_than})"
        [(number,)] = retried(lambda: con.execute(query).fetchall())  # all rows, as in `_compact`
        return int(number)

    def older_than(age: timedelta) -> str:
        return f"older_than => {literal((now - age).isoformat())}::TIMESTAMPTZ"

    tables = con.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database() ORDER BY ALL"
    ).fetchall()
    merged = sum(_compact(con, *table) for table in tables if table != ("main", WRITE_COUNTER))
    snapshots = call("ducklake_expire_snapshots", older_than(keep))
    # A query that began before its snapshot expired may read these files for another `keep`.
    _check_expired(con, _listed(con, "ducklake_cleanup_old_files", older_than(keep)))
    removed = call("ducklake_cleanup_old_files", older_than(keep))
    _check_abandoned(con, _listed(con, "ducklake_delete_orphaned_files", older_than(abandoned_after)))
    abandoned = call("ducklake_delete_orphaned_files", older_than(abandoned_after))
    return Maintenance(merged=merged, snapshots=snapshots, removed=removed, abandoned=abandoned)


def _compact(con: duckdb.DuckDBPyConnection, schema: str, table: str) -> int:
    """Move a table's rows from the catalog to files, then merge its files; return the number of merged files."""
    named = f"schema_name => {literal(schema)}, table_name => {literal(table)}"
    # `write` serializes this step: DuckLake would accept a concurrent commit, and the replaced rows would be back.
    write(con, lambda: con.execute(f"CALL ducklake_flush_inlined_data(current_database(), {named})"))

    def run(function: str) -> int:
        query = f"SELECT sum(files_processed) FROM {function}(current_database(), $table, schema => $schema)"
        # Fetch all rows, because the function's changes are committed when its result has been read completely.
        [(files,)] = retried(lambda: con.execute(query, {"table": table, "schema": schema}).fetchall())
        return int(files or 0)

    return run("ducklake_rewrite_data_files") + run("ducklake_merge_adjacent_files")


def _listed(con: duckdb.DuckDBPyConnection, function: str, older_than: str) -> list[str]:
    """The files that a DuckLake function would delete."""
    query = f"SELECT path FROM {function}(current_database(), {older_than}, dry_run => true) ORDER BY ALL"
    return [str(path) for (path,) in con.execute(query).fetchall()]


_CATALOG = f"__ducklake_metadata_{DATABASE}"
_FOLDERS = f"""
    SELECT table_id,
        CASE WHEN s.path_is_relative THEN $data_path || s.path ELSE s.path END AS schema_folder,
        CASE WHEN t.path_is_relative THEN schema_folder || t.path ELSE t.path END AS folder
    FROM {_CATALOG}.ducklake_table AS t JOIN {_CATALOG}.ducklake_schema AS s USING (schema_id)
"""
_FILES = f"""
    WITH folders AS ({_FOLDERS}), files AS (
        SELECT table_id, path, path_is_relative FROM {_CATALOG}.ducklake_data_file
        UNION ALL SELECT table_id, path, path_is_relative FROM {_CATALOG}.ducklake_delete_file
    )
    SELECT DISTINCT CASE WHEN path_is_relative THEN folder || path ELSE path END
    FROM files LEFT JOIN folders USING (table_id)
"""
"""All files of the current state and of those past states that can still be read, as the catalog spells them."""


def _files_in_catalog(con: duckdb.DuckDBPyConnection) -> list[str]:
    return [str(path) for (path,) in con.execute(_FILES, {"data_path": _data_path(con)}).fetchall()]


def _check_expired(con: duckdb.DuckDBPyConnection, files: list[str]) -> None:
    """Raise LakeStateError if the lake still needs a file of an expired snapshot."""
    if files and (needed := lake_path.in_both(files, _files_in_catalog(con))):
        raise LakeStateError(
            f"DuckLake would delete {needed[0]}, which the lake still needs; no file has been deleted. Do two paths "
            "lead to the lake's files?"
        )


def _check_abandoned(con: duckdb.DuckDBPyConnection, files: list[str]) -> None:
    """Raise LakeStateError if some of the files may not have been left by killed loads.

    DuckLake compares paths as text, and lists files with a pattern in which `*`, `?` and `[` are special characters.
    """
    if not files:
        return
    data_path, known = _data_path(con), _files_in_catalog(con)
    nothing = f"{len(files):,} files look abandoned; none of them has been removed"
    if lake_path.plain(data_path)[1] or not lake_path.is_same_text(data_path):
        raise LakeStateError(
            f"{nothing}: DuckLake cannot distinguish them from files in use, because the lake's data_path, "
            f"{data_path}, is not a plain path. Copy the lake with make migrate into a DuckDB file and from there into "
            "a new lake"
        )
    if needed := lake_path.in_both(files, known):
        raise LakeStateError(
            f"{nothing}: the lake needs {needed[0]}. Does another path lead to its data_path, {data_path}?"
        )
    folders = {
        folder
        for row in con.execute(f"SELECT schema_folder, folder FROM ({_FOLDERS})", {"data_path": data_path}).fetchall()
        for folder in row
    }
    if strangers := [file for file in files if not any(lake_path.is_below(file, folder) for folder in folders)]:
        raise LakeStateError(
            f"{nothing}: {strangers[0]} is not in any of the lake's folders. The lake's data_path, {data_path}, must "
            "not contain other files; find out whose file this is, and move it away"
        )
    if len(files) > len(known):
        raise LakeStateError(
            f"{nothing}: the lake has only {len(known):,} files. Is {data_path} also the data_path of another lake? If "
            f"killed loads have left these files, delete them by hand: {files[0]} …"
        )


# -- conflicts


_BY_DUCKLAKE = ("conflict", "maximum retry count", "duplicate key")
_BY_POSTGRES = ("could not serialize", "deadlock detected", "current transaction is aborted")
_ON_CREATION = ("already exists", "duplicate key", "concurrently updated")
"""Parts of the messages of DuckLake and of its catalog's Postgres if another writer has committed first. There is no
exception class for these conflicts."""
_ON_CREATION_IN_ANY_LANGUAGE = (
    "pg_type_typname_nsp_index",
    "pg_class_relname_nsp_index",
    "pg_namespace_nspname_index",
)
"""Constraints that are violated if another process creates the lake's tables at the same moment."""
_FROM_SERVER = re.compile(r"""": \s*[^\s":]+: \s+\S""")
"""The quoted statement is followed by a severity and a reason in the language of the server's `lc_messages`. Most roles
may not change that setting, and DuckDB does not pass on the SQLSTATE."""
_CONNECTION_LOST = (
    "server closed the connection",
    "no connection to",
    "connection to server",
    "could not receive data",
)
"""Parts of libpq's own messages, always in English, if the server is gone. The commit may have succeeded, so the
transaction is not repeated."""


def _is_conflict(error: BaseException) -> bool:
    if not isinstance(error, duckdb.Error):
        return False
    text = str(error).lower()
    conflicts: tuple[str, ...] = _BY_POSTGRES
    if isinstance(error, duckdb.TransactionException):
        conflicts += _BY_DUCKLAKE
    if "failed to initialize ducklake" in text:  # of several processes that find an empty catalog, one creates the lake
        conflicts += _ON_CREATION + _ON_CREATION_IN_ANY_LANGUAGE
    return any(words in text for words in conflicts)


def _is_refused_by_server(error: BaseException) -> bool:
    """Whether the catalog's server has refused a statement, for whatever reason. Nothing has been committed then."""
    text = str(error)
    return (
        isinstance(error, duckdb.Error)
        and bool(_FROM_SERVER.search(text))
        and not any(words in text for words in _CONNECTION_LOST)
    )


# -- passwords


# The value is quoted, or ends at the next name, so that passwords that lack the necessary quotes are found, too.
_NAMED_PASSWORD = re.compile(
    r"""(\b\w*(?:password|passwd|pwd|secret|token|scram_\w+_key)\s*=\s*)"""
    r"""('(?:[^'\\]|\\.|'')*'|.*?)(?=[\s&]+\w+\s*=|"(?:[\s:,.;)]|Unable|$)|$)""",
    re.IGNORECASE,
)
_PASSWORD_IN_URL = re.compile(r"""(://[^:/@\s"]*:)(\S*)(?=@)""")  # up to the last @, because a password may contain one
_PASSWORDS = (_NAMED_PASSWORD, _PASSWORD_IN_URL)


def passwords_in(connection: str) -> list[str]:
    """The passwords in a connection string for Postgres, MySQL, S3 or MotherDuck, as they are written there."""
    found = []
    for pattern in _PASSWORDS:
        found += [password for each in pattern.finditer(connection) if (password := each[2].strip("'"))]
        connection = pattern.sub(r"\1***", connection)
    return found


def without_passwords(text: str, connection: str = "") -> str:
    """The text with `***` in place of the passwords in connection strings of the forms that Postgres accepts.

    Args:
        connection: the connection string, if the text is an error message about it. Postgres quotes the text that it
            cannot parse, which can be a part of a password that contains an @, a space or a slash.
    """
    hidden = text
    for pattern in _PASSWORDS:
        hidden = pattern.sub(r"\1***", hidden)
    parts = {part for password in passwords_in(connection) for part in re.split(r"[^\w.+-]+", password) if part}
    if not parts:
        return hidden
    part = "|".join(map(re.escape, sorted(parts, key=len, reverse=True)))
    return re.sub(rf'"(?:[^"]*[^"\w])?(?:{part})(?:\W[^"]*)?"', '"***"', hidden)


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split("\n\n")[0].split())
