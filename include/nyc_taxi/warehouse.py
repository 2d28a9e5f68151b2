"""The warehouse's tables and views, and transactions on a DuckDB connection.

The warehouse is a DuckDB file, or a DuckLake, which many processes write at once; what is different there is in `lake`.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol, TypeVar

import duckdb

from include.nyc_taxi import lake, quality, tlc

_SQL = Path(__file__).parent / "sql"
T = TypeVar("T")


def sql(name: str) -> str:
    """The text of `sql/<name>.sql`."""
    return (_SQL / f"{name}.sql").read_text()


@contextlib.contextmanager
def transaction(con: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """Run the block between BEGIN and COMMIT; whatever it raises rolls everything back and is raised on."""
    con.execute("BEGIN TRANSACTION")
    try:
        yield con
    except BaseException:
        con.interrupt()  # a query that a signal has ended goes on in DuckDB's threads, and ROLLBACK would wait for it
        # DuckDB has ended the transaction itself after some errors, and then has nothing to roll back.
        with contextlib.suppress(duckdb.TransactionException):
            con.execute("ROLLBACK")
        raise
    con.execute("COMMIT")


@contextlib.contextmanager
def reading(con: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """Run the block on one state of the warehouse, whatever others commit meanwhile."""
    con.execute("BEGIN TRANSACTION READ ONLY")
    try:
        yield con
    except BaseException:
        con.interrupt()  # as in `transaction`
        raise
    finally:
        con.execute("ROLLBACK")


def write(con: duckdb.DuckDBPyConnection, work: Callable[[], T]) -> T:
    """Run `work` in one transaction and return what it returns: all it does is committed, or nothing.

    On a lake it is run again where another writer was faster: it must begin from what it then finds.
    """
    if not lake.is_lake(con):
        with transaction(con):
            return work()

    def attempt() -> T:
        with transaction(con):
            lake.take_turn(con)
            return work()

    return lake.retried(attempt)


class Incoming(Protocol):
    """A month's rows that are to take the place of those in a table.

    Attributes:
        staged: SQL to read them before they are in the table, as a FROM clause has it; None where that cannot be.
    """

    @property
    def staged(self) -> str | None: ...

    def put(self) -> str:
        """Replace the month's rows in the table; returns SQL to read the new ones. Call it in a transaction."""
        ...


@dataclass(frozen=True)
class _ToTable:
    """Inserted as they are read: in a file that is one process's alone, a transaction may take its time."""

    con: duckdb.DuckDBPyConnection
    table: str
    start: date
    query: str
    bound: Mapping[str, object]
    staged: str | None = None

    def put(self) -> str:
        _delete_month(self.con, self.table, self.start)
        self.con.execute(f"INSERT INTO {self.table} BY NAME {self.query}", self.bound)
        return _month_of(self.table, self.start)


@dataclass(frozen=True)
class _ToLake:
    """Written as a file first: a transaction that may be refused at its end, and be repeated, is to be short."""

    con: duckdb.DuckDBPyConnection
    start: date
    file: lake.Staged

    @property
    def staged(self) -> str:
        return self.file.relation

    def put(self) -> str:
        _delete_month(self.con, self.file.table, self.start)
        self.file.register(self.con)
        return self.staged


@contextlib.contextmanager
def incoming(
    con: duckdb.DuckDBPyConnection, table: str, start: date, query: str, bound: Mapping[str, object]
) -> Iterator[Incoming]:
    """Yield the rows that `query` gives, to be put into a table of trips as those of the month that begins at `start`.

    Args:
        query: a SELECT with the table's columns and types, by name; `bound` are its bound values.
    """
    if lake.is_lake(con):
        with lake.staged(con, table, start, query, bound) as file:
            yield _ToLake(con, start, file)
    else:
        yield _ToTable(con, table, start, query, bound)


def _delete_month(con: duckdb.DuckDBPyConnection, table: str, start: date) -> None:
    con.execute(f"DELETE FROM {table} WHERE partition_month = ?", [start])


def _month_of(table: str, start: date) -> str:
    return f"(FROM {table} WHERE partition_month = DATE '{start}')"


def make_ready(con: duckdb.DuckDBPyConnection) -> None:
    """`ensure_tables` in a transaction of its own; of several processes that find a new lake, one makes them."""

    def attempt() -> None:
        with transaction(con):
            ensure_tables(con)

    lake.retried(attempt)


def ensure_tables(con: duckdb.DuckDBPyConnection) -> None:
    """Make what is missing of the tables, columns and views that catalogue and rules ask for. Changes nothing else.

    On a lake, whoever opens it calls `make_ready` first, so that nothing is missing here.
    """
    existing = _columns(con)
    changed = not {"trips", "trips_flagged", "trips_clean", "latest_loads"} <= existing.keys()
    in_lake = lake.is_lake(con)
    if in_lake and "turns" not in existing:
        lake.ensure_turns(con)
    if not {"zones", "trips_by_zone", "trips_by_week", "loads", "quality_checks"} <= existing.keys():
        con.execute(sql("tables"))
    # What an older version has made otherwise.
    for table, added in _ADDED_COLUMNS.items():
        changed |= _add_columns(con, table, added, existing)
    for name in ("total_amount", "trip_distance", "passenger_count"):
        if not existing.get("trips_by_week", {}).get(name, True):
            con.execute(f"ALTER TABLE trips_by_week ALTER COLUMN {name} DROP NOT NULL")
    for fleet in tlc.FLEETS.values():
        columns = fleet.table_columns
        if fleet.table not in existing:
            con.execute(f"CREATE TABLE {fleet.table} ({', '.join(f'{name} {kind}' for name, kind in columns.items())})")
            if in_lake:
                lake.partition(con, fleet.table)
            changed = True
        changed |= _add_columns(con, fleet.table, columns, existing)
    (described,) = con.execute(
        "SELECT any_value(comment) FROM duckdb_views() WHERE view_name = 'trips_clean' "
        "AND database_name = current_database() AND schema_name = current_schema()"
    ).fetchone() or (None,)
    comment = _clean_comment()
    if changed or described != comment:
        con.execute(f"CREATE OR REPLACE VIEW trips AS {_trips_select()}")
        con.execute(f"CREATE OR REPLACE VIEW trips_flagged AS {_flagged_select()}")
        con.execute("CREATE OR REPLACE VIEW trips_clean AS SELECT * EXCLUDE is_clean FROM trips_flagged WHERE is_clean")
        quoted = comment.replace("'", "''")  # COMMENT takes no bound values
        con.execute(f"COMMENT ON VIEW trips_clean IS '{quoted}'")
        con.execute(sql("latest_loads"))


_ADDED_COLUMNS = {
    "loads": {"changes": "JSON", "unknown_columns": "JSON", "simulated": "BOOLEAN"},
    "trips_by_week": {"clean_trips": "BIGINT", "clean_total_amount": "DOUBLE", "clean_trip_distance": "DOUBLE"},
}
"""Columns that tables of an older version lack, with their types."""


def _columns(con: duckdb.DuckDBPyConnection) -> dict[str, dict[str, bool]]:
    """The columns of each table and view, by name, and whether they take nulls. One query: every task asks."""
    found = con.execute(
        "SELECT table_name, map(list(column_name), list(is_nullable)) FROM duckdb_columns() "
        "WHERE database_name = current_database() AND schema_name = current_schema() AND NOT internal GROUP BY ALL"
    )
    return dict(found.fetchall())


def _trips_select(*extra: Callable[[tlc.Fleet], str]) -> str:
    """What fleets share and further columns, one SELECT a fleet. Identifiers and types come from the catalogue."""
    selects = []
    for fleet in tlc.FLEETS.values():
        shared = [
            name if name in fleet.column_names else f"CAST(NULL AS {kind}) AS {name}"
            for name, kind in tlc.COMMON_COLUMNS
        ]
        columns = ", ".join([*shared, *(make(fleet) for make in extra)])
        selects.append(f"SELECT '{fleet.name}' AS fleet, partition_month, {columns} FROM {fleet.table}")
    return " UNION ALL ".join(selects)


def _flagged_select() -> str:
    return _trips_select(
        lambda fleet: f"{quality.flags(fleet)} AS flags",
        lambda fleet: f"({quality.is_clean(fleet)}) AS is_clean",
    )


def _add_columns(
    con: duckdb.DuckDBPyConnection, table: str, columns: Mapping[str, str], existing: Mapping[str, Mapping[str, bool]]
) -> bool:
    """Add the columns that a table lacks, if it was there before; returns whether there were any."""
    missing = [name for name in columns if name not in existing.get(table, columns)]
    for name in missing:
        con.execute(f"ALTER TABLE {table} ADD COLUMN {name} {columns[name]}")
    return bool(missing)


def _clean_comment() -> str:
    """What `trips_clean` says of itself; with a digest, so that a rule that has changed in any way is noticed."""
    rules = "; or ".join(f"{rule.breaks} ({rule.name})" for rule in quality.TRIP_RULES if not rule.is_clean)
    digest = hashlib.sha256(_flagged_select().encode()).hexdigest()[:12]
    return f"Trips of the view trips without those which {rules}. [definition {digest}]"
