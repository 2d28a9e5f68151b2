"""The warehouse's tables, the view `trips`, and transactions on a DuckDB connection."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import duckdb

from include.nyc_taxi import tlc

_SQL = Path(__file__).parent / "sql"


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
        # DuckDB has ended the transaction itself after some errors, and then has nothing to roll back.
        with contextlib.suppress(duckdb.TransactionException):
            con.execute("ROLLBACK")
        raise
    con.execute("COMMIT")


def ensure_tables(con: duckdb.DuckDBPyConnection) -> None:
    """Make what is missing of the tables, columns and the view that the catalogue asks for. Changes nothing else."""
    existing = _columns(con)
    if not {"zones", "trips_by_zone", "trips_by_week", "loads"} <= existing.keys():
        con.execute(sql("tables"))
    changed = "trips" not in existing
    for fleet in tlc.FLEETS.values():
        columns = {column.name: column.type for column in fleet.columns} | {"partition_month": "DATE"}
        if fleet.table not in existing:
            con.execute(f"CREATE TABLE {fleet.table} ({', '.join(f'{name} {kind}' for name, kind in columns.items())})")
            changed = True
        for name in columns.keys() - existing.get(fleet.table, columns.keys()):
            con.execute(f"ALTER TABLE {fleet.table} ADD COLUMN {name} {columns[name]}")
            changed = True
    if changed:
        con.execute(f"CREATE OR REPLACE VIEW trips AS {_trips_select()}")


def _columns(con: duckdb.DuckDBPyConnection) -> dict[str, set[str]]:
    """The warehouse's tables and views, each with its columns' names. One query: every task asks."""
    found = con.execute(
        "SELECT table_name, list(column_name) FROM information_schema.columns "
        "WHERE table_catalog = current_database() AND table_schema = current_schema() GROUP BY ALL"
    )
    return {table: set(columns) for table, columns in found.fetchall()}


def _trips_select() -> str:
    """What fleets share, one SELECT a fleet. Identifiers and types come from the catalogue."""
    selects = []
    for fleet in tlc.FLEETS.values():
        shared = [
            name if name in fleet.column_names else f"CAST(NULL AS {kind}) AS {name}"
            for name, kind in tlc.COMMON_COLUMNS
        ]
        selects.append(f"SELECT '{fleet.name}' AS fleet, partition_month, {', '.join(shared)} FROM {fleet.table}")
    return " UNION ALL ".join(selects)
