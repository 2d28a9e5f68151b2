"""Create the warehouse's tables and views, and read tables that an older version has created."""

from collections.abc import Mapping
from pathlib import Path

import duckdb

from include.nyc_taxi.warehouse import lake, registry
from include.nyc_taxi.warehouse.sql_text import literal
from include.nyc_taxi.warehouse.transactions import transaction

_SQL = Path(__file__).parent / "sql"


def sql(name: str) -> str:
    """The text of `sql/<name>.sql`."""
    return (_SQL / f"{name}.sql").read_text()


def make_ready(con: duckdb.DuckDBPyConnection) -> None:
    """Call `ensure_tables` in its own transaction, and configure a lake.

    If several processes find a new lake, one of them creates the tables.
    """

    def attempt() -> None:
        with transaction(con):
            ensure_tables(con)

    lake.retried(attempt)
    if lake.is_lake(con):
        lake.retried(lambda: lake.keep_rows_in_files(con))


def ensure_tables(con: duckdb.DuckDBPyConnection) -> None:
    """Create missing tables, columns and views, and redefine views that an older version defined differently.

    Writers call this in their transaction; readers use `readable` instead. After opening a lake, call `make_ready`.
    """
    existing = _columns(con)
    in_lake = lake.is_lake(con)
    if in_lake and lake.WRITE_COUNTER not in existing:
        lake.create_write_counter(con)
    changed = False
    for table in registry.tables():
        changed |= _ensure_table(con, table, existing.get(table.name), in_lake)
    views, comments = registry.views(), _view_comments(con)
    changed |= any(view.name not in existing or view.comment not in (None, comments.get(view.name)) for view in views)
    if changed:
        for view in views:
            con.execute(f"CREATE OR REPLACE VIEW {view.name} AS {view.query}")
            if view.comment:
                con.execute(f"COMMENT ON VIEW {view.name} IS {literal(view.comment)}")


def _ensure_table(
    con: duckdb.DuckDBPyConnection, table: registry.Table, existing: Mapping[str, bool] | None, in_lake: bool
) -> bool:
    """Create the table or its missing columns; return whether anything was created."""
    if existing is None:
        con.execute(table.ddl)
        if in_lake and table.has_months:
            lake.partition(con, table.name)
        return True
    missing = {name: column for name, column in table.columns.items() if name not in existing}
    for name, column in missing.items():
        con.execute(f"ALTER TABLE {table.name} ADD COLUMN {name} {column.type}")
    for name, column in table.columns.items():
        # Tables of trips are left alone: analysts may have declared their columns NOT NULL.
        if column.nullable and not existing.get(name, True) and not table.has_months:
            con.execute(f"ALTER TABLE {table.name} ALTER COLUMN {name} DROP NOT NULL")
    return bool(missing)


def readable(con: duckdb.DuckDBPyConnection, name: str) -> str:
    """SQL for a FROM clause that reads a table or the view `latest_loads` without altering the warehouse.

    A table that does not exist yet is read as empty. Columns that an older version did not have are read as null.
    """
    return all_readable(con, name)[name]


def all_readable(con: duckdb.DuckDBPyConnection, *names: str) -> dict[str, str]:
    """What `readable` returns for several names, which asks for the warehouse's columns only once: that takes 5 ms."""
    columns = _columns(con)
    return {name: _readable(name, columns) for name in names}


def _readable(name: str, columns: Mapping[str, Mapping[str, bool]]) -> str:
    if name == "latest_loads":
        return f"({registry.latest_loads(_readable('loads', columns))})"
    table = registry.table(name)
    existing = columns.get(name)
    if existing is not None and table.columns.keys() <= existing.keys():
        return name
    nulls = ", ".join(f"CAST(NULL AS {column.type}) AS {name}" for name, column in table.columns.items())
    no_rows = f"SELECT {nulls} WHERE false"
    return f"({no_rows})" if existing is None else f"({no_rows} UNION ALL BY NAME FROM {name})"


def _columns(con: duckdb.DuckDBPyConnection) -> dict[str, dict[str, bool]]:
    """The columns of each table and view by name, and whether they are nullable. One query, as every task runs it."""
    found = con.execute(
        "SELECT table_name, map(list(column_name), list(is_nullable)) FROM duckdb_columns() "
        "WHERE database_name = current_database() AND schema_name = current_schema() AND NOT internal GROUP BY ALL"
    )
    return dict(found.fetchall())


def _view_comments(con: duckdb.DuckDBPyConnection) -> dict[str, str | None]:
    found = con.execute(
        "SELECT view_name, comment FROM duckdb_views() "
        "WHERE database_name = current_database() AND schema_name = current_schema()"
    )
    return dict(found.fetchall())
