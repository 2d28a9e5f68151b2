"""Read the marts, the tables that dbt builds in the warehouse (include/dbt)."""

from collections.abc import Iterable

import duckdb

from include.nyc_taxi.errors import NycTaxiError
from include.nyc_taxi.months import Month
from include.nyc_taxi.warehouse.sql_text import quoted

SCHEMA = "marts"


class MartError(NycTaxiError, permanent=True):
    """A mart does not exist, or does not have the month."""


def count_rows(con: duckdb.DuckDBPyConnection, names: Iterable[str], fleet: str, month: Month) -> dict[str, int]:
    """The number of rows that each mart has of a fleet's month, or in total if the mart has no months.

    Args:
        names: the marts, each a table or view in the schema `marts`.

    Raises:
        MartError: there is no such mart.
    """
    columns = _columns(con)
    counted = {}
    for name in names:
        if name not in columns:
            raise MartError(f"there is no table {SCHEMA}.{name} in the warehouse: clear the task that builds it")
        known = {"fleet": fleet, "partition_month": month.first_day}
        values = {column: value for column, value in known.items() if column in columns[name]}
        where = " AND ".join(f"{column} = ${column}" for column in values) or "true"
        found = con.execute(f"SELECT count(*) FROM {SCHEMA}.{quoted(name)} WHERE {where}", values).fetchone()
        counted[name] = int(found[0]) if found else 0
    return counted


def _columns(con: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """The columns of each mart."""
    found = con.execute(
        "SELECT table_name, list(column_name) FROM duckdb_columns() "
        "WHERE database_name = current_database() AND schema_name = ? GROUP BY table_name",
        [SCHEMA],
    )
    return dict(found.fetchall())
