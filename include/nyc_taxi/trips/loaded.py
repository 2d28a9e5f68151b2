"""Which months are loaded, as the table `loads` has them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import duckdb

from include.nyc_taxi import warehouse
from include.nyc_taxi.months import Month
from include.nyc_taxi.source.download import Edition
from include.nyc_taxi.urls import without_login


@dataclass(frozen=True)
class LoadedMonth:
    """The latest load of a month, as recorded in `loads`.

    Attributes:
        source_url, etag, last_modified, bytes: the edition loaded, as in `download.Edition`.
        loaded_at: when (UTC).
        run_id: the run that loaded it.
        unknown_columns: columns of its file that were left out; none are known of a load by an older version.
    """

    rows_in_file: int
    rows_loaded: int
    source_url: str
    etag: str | None
    last_modified: str | None
    bytes: int
    loaded_at: datetime
    run_id: str
    unknown_columns: tuple[str, ...] = ()

    @property
    def edition(self) -> Edition:
        return Edition(self.source_url, self.etag, self.last_modified, self.bytes)


def loaded_months(con: duckdb.DuckDBPyConnection, fleet_name: str) -> dict[str, LoadedMonth]:
    """What is loaded of a fleet, by month: each month's latest load."""
    return months_by_fleet(con, [fleet_name])[fleet_name]


def months_by_fleet(con: duckdb.DuckDBPyConnection, fleets: Sequence[str]) -> dict[str, dict[str, LoadedMonth]]:
    """What is loaded of each of the fleets, by month: each month's latest load."""
    latest_loads = warehouse.readable(con, "latest_loads")
    rows = con.execute(
        "SELECT fleet, partition_month, rows_in_file, rows_loaded, source_url, etag, last_modified, bytes, loaded_at, "
        f"run_id, unknown_columns FROM {latest_loads} WHERE list_contains(?, fleet) ORDER BY partition_month",
        [list(fleets)],
    ).fetchall()
    found: dict[str, dict[str, LoadedMonth]] = {fleet: {} for fleet in fleets}
    for fleet, start, *facts, loaded_at, run_id, unknown in rows:
        columns = tuple(json.loads(unknown or "[]"))
        load = LoadedMonth(*[*facts, loaded_at.replace(tzinfo=UTC), run_id, columns])
        # Older versions recorded the site's login, too.
        found[fleet][Month.of(start)] = replace(load, source_url=without_login(load.source_url))
    return found
