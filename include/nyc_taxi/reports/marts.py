"""Read the marts, the tables that dbt builds in the warehouse (include/dbt), and write the figures of charts."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from include.nyc_taxi import warehouse
from include.nyc_taxi.errors import NycTaxiError
from include.nyc_taxi.files import locked, replacing
from include.nyc_taxi.months import Month
from include.nyc_taxi.reports import provenance
from include.nyc_taxi.warehouse import made
from include.nyc_taxi.warehouse.sql_text import quoted

SCHEMA = "marts"
AIRPORTS = ("fleet", "month", "airport", "direction", "other_borough", "num_trips")
SHARES = ("month", "borough", "fleet", "num_trips", "share_percent")


class MartError(NycTaxiError, permanent=True):
    """A mart does not exist, or does not have the month."""


@dataclass(frozen=True)
class ReloadedMonth:
    """A month that has been loaded again since a mart was built from it, and the run that builds its marts again.

    The same load always gives an equal run, another load of the month a different one.

    Attributes:
        loaded_at: time of the latest load (UTC).
    """

    fleet: str
    month: Month
    loaded_at: datetime

    @property
    def run_id(self) -> str:
        return f"reload__{self.month}__{self.loaded_at:%Y%m%dT%H%M%S.%f}"

    @property
    def logical_date(self) -> datetime:
        """A moment in the month, but never its first: the schedule and backfills use that one."""
        day, moment = self.month.first_day, timedelta(microseconds=1)
        # Airflow treats two runs with the same date as the same run, so each load needs its own.
        since = (self.loaded_at - datetime(1970, 1, 1, tzinfo=UTC)) % (timedelta(days=28) - moment)
        return datetime(day.year, day.month, day.day, tzinfo=UTC) + moment + since


def reloaded_months(con: duckdb.DuckDBPyConnection, fleets: Sequence[str]) -> list[ReloadedMonth]:
    """The months of these fleets that a mart has from another load than the latest one, ordered."""
    if not made.exists(con, made.BUILT_MONTHS):
        return []
    rows = con.execute(
        f"SELECT DISTINCT fleet, partition_month, l.loaded_at FROM {made.BUILT_MONTHS} AS b "
        f"INNER JOIN {warehouse.readable(con, 'latest_loads')} AS l USING (fleet, partition_month) "
        "WHERE b.loaded_at != l.loaded_at AND list_contains(?, fleet) ORDER BY ALL",
        [list(fleets)],
    ).fetchall()
    return [ReloadedMonth(fleet, Month.of(day), loaded_at.replace(tzinfo=UTC)) for fleet, day, loaded_at in rows]


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


def airports_path(month: Month, outputs: Path) -> Path:
    """The path of the CSV file of a month's airport trips; `outputs` is the fleet's outputs folder."""
    return outputs / f"trips_at_airports_{month}.csv"


def shares_path(month: Month, outputs: Path) -> Path:
    """The path of the CSV file of a month's market shares; `outputs` is the folder of all outputs.

    All fleets share the file, so that it is in a folder of its own.
    """
    return outputs / "all_fleets" / f"market_share_{month}.csv"


def lock_path(figures: Path) -> Path:
    """The lock to hold while figures are read from the warehouse and written, or drawn.

    The last of several runs at once therefore includes what the others have built.
    """
    return figures.with_name(f".{figures.stem}.lock")


def write_airports(con: duckdb.DuckDBPyConnection, fleet: str, month: Month, outputs: Path) -> Path:
    """Write a month's trips from and to each airport, by the borough at the other end, as CSV with its provenance.

    The file has only a header if the fleet had no such trips.
    """
    query = (
        f"SELECT fleet, strftime(partition_month, '%Y-%m') AS month, {', '.join(AIRPORTS[2:])} "
        f"FROM {SCHEMA}.airport_trips WHERE fleet = ? AND partition_month = ? ORDER BY ALL"
    )
    path = airports_path(month, outputs)
    with locked(lock_path(path)):
        rows = con.execute(query, [fleet, month.first_day]).fetchall()
        _write(path, AIRPORTS, rows, provenance.of_months(con, fleet, [month.first_day]))
    return path


def write_shares(con: duckdb.DuckDBPyConnection, month: Month, outputs: Path) -> Path:
    """Write each fleet's share of the pickups in each borough in a month as CSV with its provenance.

    Pickups in an unknown zone, or outside of the city, are in none of the boroughs.
    """
    query = f"""
        SELECT strftime(partition_month, '%Y-%m') AS month, borough, fleet, sum(num_trips)::BIGINT AS num_trips,
            round(100 * sum(num_trips) / sum(sum(num_trips)) OVER (PARTITION BY borough), 4) AS share_percent
        FROM {SCHEMA}.fleet_market_share INNER JOIN staging.stg_zones USING (zone_id)
        WHERE partition_month = ? AND borough NOT IN ('Unknown', 'N/A')
        GROUP BY partition_month, borough, fleet ORDER BY ALL"""
    path = shares_path(month, outputs)
    with locked(lock_path(path)):
        rows = con.execute(query, [month.first_day]).fetchall()
        fleets = sorted({row[SHARES.index("fleet")] for row in rows})
        sources = [provenance.of_months(con, fleet, [month.first_day]) for fleet in fleets]
        _write(path, SHARES, rows, provenance.together(sources))
    return path


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], where_from: provenance.Provenance) -> None:
    # The provenance comes first: if the process is killed in between, too new a provenance is better than none.
    path.parent.mkdir(parents=True, exist_ok=True)
    provenance.write(where_from, path)
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
