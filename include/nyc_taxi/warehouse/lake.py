"""What is different where the warehouse is a DuckLake: Parquet files, a catalog of them, and many writers at once.

A DuckDB file has one process at a time; a lake's writers find out at COMMIT whether another was faster. DuckLake
refuses a commit that inserts into a table from which another has deleted meanwhile, but lets two first loads of the
same month pass, which would double it. So every writer here also updates the one row of the table `turns`: of two
transactions that overlap, DuckLake refuses one, which then tries again. That transaction is short, because a month's
trips are written as a file before it.
"""

import contextlib
import logging
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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
from include.nyc_taxi.months import Month
from include.nyc_taxi.warehouse import lake_path
from include.nyc_taxi.warehouse.lake_path import is_url

log = logging.getLogger(__name__)
T = TypeVar("T")

DATABASE = "warehouse"
"""What the lake is called in a connection."""

ATTEMPTS = 100
"""To commit one transaction. With pauses of two seconds on average, at last, it gives up after some minutes."""
UNCLEAR_ATTEMPTS = 12
"""Where the catalog's server gives a reason that is not known here: about a quarter of a minute."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 4.0

PARQUET = "FORMAT parquet, COMPRESSION zstd"


class LakeError(NycTaxiError, permanent=False):
    """The lake cannot be opened: its catalog, or its storage, does not answer."""


class LakeStateError(LakeError, permanent=True):
    """The lake, its connection or what is installed is not as it has to be; somebody has to look at it."""


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
        LakeStateError: the package is not installed, or is for another version of DuckDB.
    """
    package = f"duckdb_extension_{name}"
    if not find_spec(package):
        raise LakeStateError(
            f"the package {package.replace('_', '-')} is not installed; requirements.in has its version"
        )
    folder = Path(str(import_module(package).__file__)).parent / "extensions"
    file = folder / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
    if not file.exists():
        found = ", ".join(sorted(path.name for path in folder.glob("v*"))) or "none"
        raise LakeStateError(
            f"{package}: expected the extension for DuckDB {duckdb.__version__}, found that for {found}"
        )
    con.execute(f"LOAD {_literal(str(file))}")


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
        LakeStateError: nor ever will be, as it is.
    """
    load_extension(con, "ducklake")
    if database.startswith("ducklake:postgres:"):
        load_extension(con, "postgres_scanner")
    if storage or (data_path and is_url(data_path)):
        load_extension(con, "httpfs")
    for secret in filter(None, (catalog, storage)):
        secret.create(con)
    always = [f"META_SECRET '{DATABASE}_{catalog.kind}'"] if catalog else []
    try:
        if data_path is None:
            _attach(con, database, always)
        else:
            _attach_at(con, database, data_path, always)
    except duckdb.Error as error:
        # Without its cause: what DuckDB says repeats the connection's own text, in which a password can be.
        kind = LakeStateError if "DATA_PATH" in str(error) else LakeError
        raise kind(f"the lake cannot be opened: {without_passwords(_first_line(error), database)}") from None
    con.execute(f"USE {DATABASE}")


def _attach(con: duckdb.DuckDBPyConnection, database: str, options: list[str]) -> None:
    attached = f"ATTACH {_literal(database)} AS {DATABASE}"
    retried(lambda: con.execute(f"{attached} ({', '.join(options)})" if options else attached))


def _attach_at(con: duckdb.DuckDBPyConnection, database: str, data_path: str, options: list[str]) -> None:
    """Attach the lake whose files are at `data_path`; a new one only where that is a plain path."""
    place, wrong = lake_path.plain(data_path)
    mismatch: duckdb.Error | None = None
    try:
        if wrong:
            _attach(con, database, [*options, "CREATE_IF_NOT_EXISTS false"])
        else:
            if not is_url(place):
                Path(place).mkdir(parents=True, exist_ok=True)
            _attach(con, database, [*options, f"DATA_PATH {_literal(place)}"])
            return
    except duckdb.Error as error:
        if wrong and "does not exist" in str(error):
            raise LakeStateError(f"data_path: {wrong}") from None
        if wrong or "DATA_PATH" not in str(error):
            raise
        # It may be the same place in another spelling, which an older version has let into the catalog.
        mismatch = error
        _attach(con, database, [*options, "CREATE_IF_NOT_EXISTS false"])
    found = _data_path(con, DATABASE)
    if not lake_path.is_same(found, data_path):
        con.execute(f"DETACH {DATABASE}")
        raise mismatch or LakeStateError(f"data_path: expected {found}, where the lake's files are, found {data_path}")


def _data_path(con: duckdb.DuckDBPyConnection, database: str | None = None) -> str:
    """Where the catalog says the lake's files are."""
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


def retried(transaction: Callable[[], T]) -> T:
    """Run a transaction, and again when another writer was faster: at most `ATTEMPTS` times, after random pauses.

    An error of the catalog's server that is not understood is given up on after `UNCLEAR_ATTEMPTS`: it may be
    a conflict, said in another language than English.

    Raises:
        duckdb.Error: it has been refused each time.
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
    )(transaction)


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    pause = state.next_action.sleep if state.next_action else 0
    said = without_passwords(_first_line(error)) if isinstance(error, Exception) else ""
    log.info("The lake refused attempt %d; the next one in %.1f s: %s", state.attempt_number, pause, said)


WRITE_COUNTER = "turns"
"""The table whose one row counts the lake's transactions. It is the lake's alone: no file has it."""


def conflict_with_other_writers(con: duckdb.DuckDBPyConnection) -> None:
    """Make this transaction and any other that calls this serializable: of two that overlap, one cannot commit."""
    con.execute("UPDATE turns SET turn = turn + 1")


def create_write_counter(con: duckdb.DuckDBPyConnection) -> None:
    """Create the table `turns`, with its one row. Call it in the transaction that creates the other tables."""
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


def _as_inserted(con: duckdb.DuckDBPyConnection, table: str, query: str, values: Mapping[str, object]) -> str:
    """The query with all columns of the table, and their types, as INSERT BY NAME would fill them.

    A file that is registered must have just these. A table can have more than the catalogue knows: an analyst's.
    """
    given = [name for name, *_ in con.execute(f"DESCRIBE {query}", values).fetchall()]
    columns = con.execute(
        "SELECT column_name, data_type, column_default, is_nullable FROM duckdb_columns() WHERE database_name = "
        "current_database() AND schema_name = current_schema() AND table_name = ? ORDER BY column_index",
        [table],
    ).fetchall()
    if extra := sorted(set(given) - {name for name, *_ in columns}):
        raise LakeStateError(f"{table}: there is no column {', '.join(extra)}")
    selected = []
    for name, kind, default, nullable in columns:
        value = quoted(name) if name in given else f"({default or 'NULL'})"
        if not nullable:
            value = f"coalesce({value}, error({_literal(f'{table}.{name} takes no nulls')}))"
        selected.append(f"CAST({value} AS {kind}) AS {quoted(name)}")
    return f"SELECT {', '.join(selected)} FROM ({query})"


@contextlib.contextmanager
def staged(
    con: duckdb.DuckDBPyConnection, table: str, month: Month, query: str, values: Mapping[str, object]
) -> Iterator[Staged]:
    """Write the rows of a query as a file of one month of the table, which the block then registers.

    When the block raises, the file is removed, unless it has been registered: a commit that fails for us, because
    Postgres went away or the task was killed at that moment, may have succeeded. `maintain` removes files that nothing
    refers to, also those of killed processes.
    """
    folder = f"{_data_path(con).rstrip('/')}/main/{table}/partition_month={month.first_day}"
    file = f"{folder}/{uuid.uuid4()}.parquet"
    if not is_url(file):
        Path(folder).mkdir(parents=True, exist_ok=True)
    made = Staged(table, file, rows=0)
    try:
        rows = _as_inserted(con, table, query, values)
        (made.rows,) = con.execute(f"COPY ({rows}) TO {_literal(file)} ({PARQUET})", values).fetchone() or (0,)
        yield made
    except BaseException:
        if not made.offered and not is_url(file):  # DuckDB cannot remove an object; `maintain` can
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


def maintain(con: duckdb.DuckDBPyConnection, keep: timedelta, abandoned_after: timedelta) -> Maintenance:
    """Merge small files, expire old snapshots, and remove the files that nothing refers to any more.

    Readers and writers may go on: what they can have open is younger than the limits. Repeat it as often as you like.

    Args:
        keep: how long past states of the warehouse can be read, and queries may take.
        abandoned_after: how old a file is that no load will register any more.

    Raises:
        LakeStateError: files that no load has left may be among those that look abandoned. None of them has been
            removed; all else is done.
    """
    now = datetime.now(UTC)

    def call(function: str, *options: str, count: str = "count(*)") -> int:
        text = ", ".join(["current_database()", *options])
        # All rows are fetched: what the function does is committed when its result has been read to the end.
        [(number,)] = retried(lambda: con.execute(f"SELECT {count} FROM {function}({text})").fetchall())
        return int(number or 0)

    def flush(schema: str, table: str) -> None:
        # DuckLake would let another writer's change pass beside it, and the rows which that replaced would be back.
        con.execute("BEGIN TRANSACTION")
        try:
            conflict_with_other_writers(con)
            con.execute(
                "CALL ducklake_flush_inlined_data(current_database(), "
                f"schema_name => {_literal(schema)}, table_name => {_literal(table)})"
            )
            con.execute("COMMIT")
        except BaseException:
            con.interrupt()  # as in `warehouse.transaction`
            with contextlib.suppress(duckdb.TransactionException):
                con.execute("ROLLBACK")
            raise

    def older_than(age: timedelta) -> str:
        return f"older_than => {_literal((now - age).isoformat())}::TIMESTAMPTZ"

    for schema, table in con.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database() ORDER BY ALL"
    ).fetchall():
        if (schema, table) != ("main", WRITE_COUNTER):
            retried(partial(flush, schema, table))
    merged = call("ducklake_rewrite_data_files", count="sum(files_processed)")
    merged += call("ducklake_merge_adjacent_files", count="sum(files_processed)")
    snapshots = call("ducklake_expire_snapshots", older_than(keep))
    # A query that began before its snapshot expired may read on for as long.
    _check_expired(con, _listed(con, "ducklake_cleanup_old_files", older_than(keep)))
    removed = call("ducklake_cleanup_old_files", older_than(keep))
    _check_abandoned(con, _listed(con, "ducklake_delete_orphaned_files", older_than(abandoned_after)))
    abandoned = call("ducklake_delete_orphaned_files", older_than(abandoned_after))
    return Maintenance(merged=merged, snapshots=snapshots, removed=removed, abandoned=abandoned)


def _listed(con: duckdb.DuckDBPyConnection, function: str, older_than: str) -> list[str]:
    """The files that a function of DuckLake would remove."""
    query = f"SELECT path FROM {function}(current_database(), {older_than}, dry_run => true) ORDER BY ALL"
    return [str(path) for (path,) in con.execute(query).fetchall()]


_CATALOG = f"__ducklake_metadata_{DATABASE}"
_FOLDERS = f"""
    SELECT table_id,
        CASE WHEN s.path_is_relative THEN $data_path || s.path ELSE s.path END AS schema_folder,
        CASE WHEN t.path_is_relative THEN schema_folder || t.path ELSE t.path END AS folder
    FROM {_CATALOG}.ducklake_table AS t JOIN {_CATALOG}.ducklake_schema AS s USING (schema_id)
"""
_NAMED = f"""
    WITH folders AS ({_FOLDERS}), files AS (
        SELECT table_id, path, path_is_relative FROM {_CATALOG}.ducklake_data_file
        UNION ALL SELECT table_id, path, path_is_relative FROM {_CATALOG}.ducklake_delete_file
    )
    SELECT DISTINCT CASE WHEN path_is_relative THEN folder || path ELSE path END
    FROM files LEFT JOIN folders USING (table_id)
"""
"""Every file of the present and of the past states that can still be read, as the catalog spells it."""


def _named(con: duckdb.DuckDBPyConnection) -> list[str]:
    return [str(path) for (path,) in con.execute(_NAMED, {"data_path": _data_path(con)}).fetchall()]


def _check_expired(con: duckdb.DuckDBPyConnection, files: list[str]) -> None:
    """Raise LakeStateError where a file of an expired snapshot is also one that the lake still needs."""
    if files and (needed := lake_path.in_both(files, _named(con))):
        raise LakeStateError(f"{needed[0]} is to be removed, but the lake still needs it; nothing has been removed")


def _check_abandoned(con: duckdb.DuckDBPyConnection, files: list[str]) -> None:
    """Raise LakeStateError where not all of the files can be what killed loads have left.

    DuckLake compares the texts of paths, and looks for files by a pattern in which `*`, `?` and `[` have a meaning.
    """
    if not files:
        return
    data_path, named = _data_path(con), _named(con)
    nothing = f"{len(files):,} files look abandoned; none of them has been removed"
    if lake_path.plain(data_path)[1] or not lake_path.is_same_text(data_path):
        raise LakeStateError(
            f"{nothing}: in the lake's data_path, {data_path}, DuckLake cannot tell them from files in use. To have a "
            "lake with a plain path, copy it: make migrate into a DuckDB file, and from there into a new lake"
        )
    if needed := lake_path.in_both(files, named):
        raise LakeStateError(
            f"{nothing}: the lake needs {needed[0]}. Does its data_path, {data_path}, have another name?"
        )
    folders = {
        folder
        for row in con.execute(f"SELECT schema_folder, folder FROM ({_FOLDERS})", {"data_path": data_path}).fetchall()
        for folder in row
    }
    if strangers := [file for file in files if not any(lake_path.is_below(file, folder) for folder in folders)]:
        raise LakeStateError(
            f"{nothing}: {strangers[0]} is in no folder of the lake's schemas. Who has put it there? A lake's "
            f"data_path, {data_path}, is to have nothing else in it: move it away"
        )
    if len(files) > len(named):
        raise LakeStateError(
            f"{nothing}: the lake has only {len(named):,} files. Is {data_path} the data_path of another lake too? "
            f"If they are what killed loads have left, remove them yourself: {files[0]} …"
        )


# -- small things


_BY_DUCKLAKE = ("conflict", "maximum retry count", "duplicate key")
_BY_POSTGRES = ("could not serialize", "deadlock detected", "current transaction is aborted")
_AT_THE_START = ("already exists", "duplicate key", "concurrently updated")
"""What DuckLake, and its catalog's Postgres, say where another was faster. There is no error of its own for that."""
_IN_ANY_LANGUAGE = ("pg_type_typname_nsp_index", "pg_class_relname_nsp_index", "pg_namespace_nspname_index")
"""Constraints that say the same at the start: another process makes the lake's tables at this moment."""
_FROM_SERVER = re.compile(r"""": \s*[^\s":]+: \s+\S""")
"""After the statement, which is quoted: a severity and a reason, in the language of the server's `lc_messages`. Most
roles may not choose that, and DuckDB passes no SQLSTATE on."""
_OF_CONNECTION = ("server closed the connection", "no connection to", "connection to server", "could not receive data")
"""What libpq says by itself, in English, where the server is gone: a commit may have been made, and is not repeated."""


def _is_conflict(error: BaseException) -> bool:
    if not isinstance(error, duckdb.Error):
        return False
    text = str(error).lower()
    said: tuple[str, ...] = _BY_POSTGRES
    if isinstance(error, duckdb.TransactionException):
        said += _BY_DUCKLAKE
    if "failed to initialize ducklake" in text:  # of several that find an empty catalog, one makes the lake
        said += _AT_THE_START + _IN_ANY_LANGUAGE
    return any(words in text for words in said)


def _is_refused_by_server(error: BaseException) -> bool:
    """Whether the catalog's server has refused a statement, for whatever reason: nothing is committed then."""
    text = str(error)
    return (
        isinstance(error, duckdb.Error)
        and bool(_FROM_SERVER.search(text))
        and not any(words in text for words in _OF_CONNECTION)
    )


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


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split("\n\n")[0].split())


def quoted(name: str) -> str:
    """A name of a table or column, for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    quote = "'"
    return quote + text.replace(quote, 2 * quote) + quote
