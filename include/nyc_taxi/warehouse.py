"""The warehouse's tables and views, and transactions on a DuckDB connection."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import duckdb

from include.nyc_taxi import quality, tlc

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
    """Make what is missing of the tables, columns and views that catalogue and rules ask for. Changes nothing else."""
    existing = _columns(con)
    if not {"zones", "trips_by_zone", "trips_by_week", "loads", "quality_checks"} <= existing.keys():
        con.execute(sql("tables"))
    # What an older version has made otherwise.
    if "changes" not in existing.get("loads", {"changes": True}):
        con.execute("ALTER TABLE loads ADD COLUMN changes JSON")
    for name in ("total_amount", "trip_distance", "passenger_count"):
        if not existing.get("trips_by_week", {}).get(name, True):
            con.execute(f"ALTER TABLE trips_by_week ALTER COLUMN {name} DROP NOT NULL")
    changed = not {"trips", "trips_clean", "latest_loads"} <= existing.keys()
    for fleet in tlc.FLEETS.values():
        columns = {column.name: column.type for column in fleet.columns} | {"partition_month": "DATE"}
        if fleet.table not in existing:
            con.execute(f"CREATE TABLE {fleet.table} ({', '.join(f'{name} {kind}' for name, kind in columns.items())})")
            changed = True
        for name in columns.keys() - existing.get(fleet.table, columns.keys()):
            con.execute(f"ALTER TABLE {fleet.table} ADD COLUMN {name} {columns[name]}")
            changed = True
    (described,) = con.execute(
        "SELECT any_value(comment) FROM duckdb_views() WHERE view_name = 'trips_clean'"
    ).fetchone() or (None,)
    if changed or described != _CLEAN_COMMENT:
        con.execute(f"CREATE OR REPLACE VIEW trips AS {_trips_select()}")
        con.execute(f"CREATE OR REPLACE VIEW trips_clean AS {_trips_select(clean=True)}")
        quoted = _CLEAN_COMMENT.replace("'", "''")  # COMMENT takes no bound values
        con.execute(f"COMMENT ON VIEW trips_clean IS '{quoted}'")
        con.execute(sql("latest_loads"))


_CLEAN_COMMENT = "Trips of the view trips without impossible ones, which " + "; or ".join(
    f"{rule.breaks} ({rule.name})" for rule in quality.TRIP_RULES if rule.impossible
)


def _columns(con: duckdb.DuckDBPyConnection) -> dict[str, dict[str, bool]]:
    """The columns of each table and view, by name, and whether they take nulls. One query: every task asks."""
    found = con.execute(
        "SELECT table_name, map(list(column_name), list(is_nullable)) FROM duckdb_columns() "
        "WHERE database_name = current_database() AND schema_name = current_schema() AND NOT internal GROUP BY ALL"
    )
    return dict(found.fetchall())


def _trips_select(*, clean: bool = False) -> str:
    """What fleets share, one SELECT a fleet. Identifiers and types come from the catalogue.

    Args:
        clean: without the trips that cannot have been, as far as the rules that apply to a fleet tell.
    """
    selects = []
    for fleet in tlc.FLEETS.values():
        shared = [
            name if name in fleet.column_names else f"CAST(NULL AS {kind}) AS {name}"
            for name, kind in tlc.COMMON_COLUMNS
        ]
        select = f"SELECT '{fleet.name}' AS fleet, partition_month, {', '.join(shared)} FROM {fleet.table}"
        if clean:
            broken = [rule.sql.format(month="partition_month") for rule in quality.rules_of(fleet) if rule.impossible]
            # A rule that looks at a null says neither yes nor no: such a trip stays.
            select += " WHERE " + " AND ".join(f"({sql}) IS NOT TRUE" for sql in broken)
        selects.append(select)
    return " UNION ALL ".join(selects)
