"""Look up what the warehouse has of a table: for those who wait until another DAG has made it.

Nothing here creates or alters a table: what does not exist yet is not there, and that is no error.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime

import duckdb

from include.nyc_taxi.warehouse.sql_text import quoted

BUILT_MONTHS = "marts.built_months"
"""Which mart has built which month, and from which load: see include/dbt/macros/months.sql."""


def exists(con: duckdb.DuckDBPyConnection, table: str) -> bool:
    """Whether the warehouse has this table or view, such as "zones" or "marts.daily_trips"."""
    schema, name = _parts(table)
    found = con.execute(
        "SELECT count(*) > 0 FROM duckdb_columns() "
        "WHERE database_name = current_database() AND schema_name = ? AND table_name = ?",
        [schema, name],
    ).fetchone()
    return bool(found and found[0])


def has_rows(con: duckdb.DuckDBPyConnection, table: str, **values: str | date) -> bool:
    """Whether the table exists and has a row, with these values in the columns of these names if any are given."""
    if not exists(con, table):
        return False
    condition = " AND ".join(f"{quoted(column)} = ?" for column in values) or "true"
    sql = f"SELECT 1 FROM {quoted(*_parts(table))} WHERE {condition} LIMIT 1"
    return con.execute(sql, list(values.values())).fetchone() is not None


def built_from(
    con: duckdb.DuckDBPyConnection, marts: Sequence[str], fleet: str, first_day: date
) -> list[datetime | None]:
    """From which load (its `loaded_at`, UTC) each mart has built a month of a fleet; None for one that has not.

    Args:
        marts: their names without the schema.
        first_day: the month's.
    """
    if not marts or not exists(con, BUILT_MONTHS):
        return [None] * len(marts)
    rows = con.execute(
        f"SELECT mart, max(loaded_at) FROM {BUILT_MONTHS} "
        "WHERE list_contains(?, mart) AND fleet = ? AND partition_month = ? GROUP BY mart",
        [list(marts), fleet, first_day],
    ).fetchall()
    found = {mart: loaded_at.replace(tzinfo=UTC) for mart, loaded_at in rows}
    return [found.get(mart) for mart in marts]


def _parts(table: str) -> tuple[str, str]:
    """The schema and the name."""
    schema, _, name = table.rpartition(".")
    return schema or "main", name
