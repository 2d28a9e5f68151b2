"""List the loaded months, from the table `loads`."""

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
        source_url, etag, last_modified, bytes: the loaded edition, as in `download.Edition`.
        loaded_at: time of the load (UTC).
        run_id: the run that loaded the month.
        unknown_columns: columns of the file that were not loaded. Empty if an older version has loaded the month,
            because it did not record them.
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
    """The latest load of each loaded month of a fleet."""
    return months_by_fleet(con, [fleet_name])[fleet_name]


def months_by_fleet(con: duckdb.DuckDBPyConnection, fleets: Sequence[str]) -> dict[str, dict[str, LoadedMonth]]:
    """The latest load of each loaded month, by fleet and month. Fleets without loaded months have an empty entry."""
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
        # Older versions also recorded the site's login.
        found[fleet][Month.of(start)] = replace(load, source_url=without_login(load.source_url))
    return found
