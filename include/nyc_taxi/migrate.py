"""Copy a warehouse from a DuckDB file into a lake, or back, and make sure that nothing is lost or doubled."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date

import duckdb

from include.nyc_taxi import lake, tlc, warehouse
from include.nyc_taxi.errors import NycTaxiError
from include.nyc_taxi.late import pandas_kept_out
from include.nyc_taxi.months import month_of

SMALL_TABLES = ("zones", "trips_by_zone", "trips_by_week", "loads", "quality_checks")
FILE = "file"
"""What the DuckDB file is called in the connection that has the lake."""


class MigrateError(NycTaxiError):
    """The copy cannot be made, or is not equal to what was copied; what was copied from is as it was."""


@dataclass(frozen=True)
class Contents:
    """Of a table, or a month of it: number of rows, and a checksum over all columns, whatever the rows' order."""

    rows: int
    checksum: int


@pandas_kept_out()
def migrate(con: duckdb.DuckDBPyConnection, path: str, *, into_lake: bool, say: Callable[[str], None]) -> int:
    """Copy all months and tables; returns the number of rows that the copy then has, of all tables together.

    Trips are copied month by month, each replaced as a whole, and months that are the same already are passed over: an
    interrupted copy goes on where it was. Nobody may write on the other side meanwhile; a file is locked.

    Args:
        con: has the lake attached as the database `warehouse`, as `WarehouseHook` opens it.
        path: the DuckDB file.
        into_lake: from the file into the lake; else from the lake into the file, which is made where it is missing.
        say: is told what has been done, a line each.

    Raises:
        MigrateError: the copy's side has months that the other has not, or differs from it in the end.
    """
    with _attached(con, path, read_only=into_lake):
        source, target = (FILE, lake.DATABASE) if into_lake else (lake.DATABASE, FILE)
        con.execute(f"USE {source}")
        tables = {name for (name,) in con.execute("SELECT table_name FROM duckdb_tables() WHERE " + _HERE).fetchall()}
        con.execute(f"USE {target}")
        warehouse.make_ready(con)
        fleets = [fleet for fleet in tlc.FLEETS.values() if fleet.table in tables]
        months = {fleet.name: (_months(con, source, fleet), _months(con, target, fleet)) for fleet in fleets}
        for name, (ours, theirs) in months.items():
            if more := sorted(map(month_of, theirs.keys() - ours.keys())):
                raise MigrateError(
                    f"{name}: the copy's side has months that are not to be copied: {', '.join(more)}. Copy into a "
                    "warehouse that is empty, or has a part of the same months"
                )
        for fleet in fleets:
            ours, theirs = months[fleet.name]
            for start, contents in sorted(ours.items()):
                if theirs.get(start) == contents:
                    say(f"{fleet.name} {month_of(start)}: the same already")
                else:
                    _copy_month(con, source, fleet, start)
                    say(f"{fleet.name} {month_of(start)}: {contents.rows:,} trips")
        small = [name for name in SMALL_TABLES if name in tables]
        warehouse.write(con, lambda: _copy_tables(con, source, small))
        return _compare(con, source, target, [*small, *(fleet.table for fleet in fleets)], say)


_HERE = "database_name = current_database() AND schema_name = current_schema() AND NOT internal"


@contextlib.contextmanager
def _attached(con: duckdb.DuckDBPyConnection, path: str, *, read_only: bool) -> Iterator[None]:
    quoted = path.replace("'", "''")
    try:
        con.execute(f"ATTACH '{quoted}' AS {FILE} ({'READ_ONLY' if read_only else 'READ_WRITE'})")
    except duckdb.IOException as error:
        raise MigrateError(f"{path} cannot be opened; is a task or a shell at it? {error}") from error
    try:
        yield
    finally:
        con.execute(f"USE {lake.DATABASE}")
        con.execute(f"DETACH {FILE}")


def _months(con: duckdb.DuckDBPyConnection, database: str, fleet: tlc.Fleet) -> dict[date, Contents]:
    """What a fleet's table has of each month."""
    checksum = _checksum(_trip_columns(fleet))
    found = con.execute(f"SELECT partition_month, count(*), {checksum} FROM {database}.{fleet.table} GROUP BY ALL")
    return {start: Contents(rows, checksum) for start, rows, checksum in found.fetchall()}


def _copy_month(con: duckdb.DuckDBPyConnection, source: str, fleet: tlc.Fleet, start: date) -> None:
    query = f"SELECT {', '.join(_trip_columns(fleet))} FROM {source}.{fleet.table} WHERE partition_month = $month"
    with warehouse.incoming(con, fleet.table, start, query, {"month": start}) as incoming:
        warehouse.write(con, incoming.put)


def _trip_columns(fleet: tlc.Fleet) -> list[str]:
    return list(fleet.table_columns)


def _copy_tables(con: duckdb.DuckDBPyConnection, source: str, tables: list[str]) -> None:
    for table in tables:
        con.execute(f"DELETE FROM {table}")
        con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM {source}.{table} ORDER BY rowid")


def _compare(
    con: duckdb.DuckDBPyConnection, source: str, target: str, tables: list[str], say: Callable[[str], None]
) -> int:
    total = 0
    for table in tables:
        described = con.execute(f"SELECT column_name FROM (DESCRIBE {target}.{table}) ORDER BY ALL").fetchall()
        checksum = _checksum([name for (name,) in described])
        found = [con.execute(f"SELECT count(*), {checksum} FROM {at}.{table}").fetchone() for at in (source, target)]
        ours, theirs = (Contents(*(row or (0, 0))) for row in found)
        if ours != theirs:
            raise MigrateError(
                f"{table}: expected {ours.rows:,} rows with the checksum {ours.checksum}, found {theirs.rows:,} with "
                f"{theirs.checksum}. Has a task written meanwhile? Pause the DAGs, then run this again"
            )
        say(f"{table}: {ours.rows:,} rows, checksum {ours.checksum}, the same on both sides")
        total += ours.rows
    return total


def _checksum(columns: list[str]) -> str:
    return f"coalesce(sum(hash({', '.join(columns)})::HUGEINT), 0)"
