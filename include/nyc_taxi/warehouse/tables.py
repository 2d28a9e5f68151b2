"""The warehouse's tables and views, and transactions on a DuckDB connection.

The warehouse is a DuckDB file, or a DuckLake, which many processes write at once; what is different there is in `lake`.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb

from include.nyc_taxi import catalogue
from include.nyc_taxi.audit import rules
from include.nyc_taxi.warehouse import lake
from include.nyc_taxi.warehouse.transactions import transaction

_SQL = Path(__file__).parent / "sql"


def sql(name: str) -> str:
    """The text of `sql/<name>.sql`."""
    return (_SQL / f"{name}.sql").read_text()


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
    for fleet in catalogue.FLEETS.values():
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


def _trips_select(*extra: Callable[[catalogue.Fleet], str]) -> str:
    """What fleets share and further columns, one SELECT a fleet. Identifiers and types come from the catalogue."""
    selects = []
    for fleet in catalogue.FLEETS.values():
        shared = [
            name if name in fleet.column_names else f"CAST(NULL AS {kind}) AS {name}"
            for name, kind in catalogue.COMMON_COLUMNS
        ]
        columns = ", ".join([*shared, *(make(fleet) for make in extra)])
        selects.append(f"SELECT '{fleet.name}' AS fleet, partition_month, {columns} FROM {fleet.table}")
    return " UNION ALL ".join(selects)


def _flagged_select() -> str:
    return _trips_select(
        lambda fleet: f"{rules.flags(fleet)} AS flags",
        lambda fleet: f"({rules.is_clean(fleet)}) AS is_clean",
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
    said = "; or ".join(f"{rule.breaks} ({rule.name})" for rule in rules.TRIP_RULES if not rule.is_clean)
    digest = hashlib.sha256(_flagged_select().encode()).hexdigest()[:12]
    return f"Trips of the view trips without those which {said}. [definition {digest}]"
