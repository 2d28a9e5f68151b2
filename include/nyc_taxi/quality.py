"""What is counted of a month's rows when it is loaded. Nothing is left out for it: the trips stay as published."""

from dataclasses import dataclass
from datetime import date

import duckdb

from include.nyc_taxi import tlc


@dataclass(frozen=True)
class Count:
    """A kind of odd row.

    Attributes:
        name: its key in `loads.quality`.
        columns: columns of ours it looks at; it is not counted for a fleet that lacks one of them.
        condition: SQL that is true for an odd row; `$start` and `$end` are the month's first day and the next month's.
    """

    name: str
    columns: tuple[str, ...]
    condition: str


COUNTS: tuple[Count, ...] = (
    Count("pickup_outside_month", ("pickup_datetime",), "pickup_datetime < $start OR pickup_datetime >= $end"),
    *(Count(f"null_{name}", (name,), f"{name} IS NULL") for name, _ in tlc.COMMON_COLUMNS),
    *(
        Count(f"negative_{name}", (name,), f"{name} < 0")
        for name in ("trip_distance", "fare_amount", "tip_amount", "tolls_amount", "total_amount")
    ),
    Count(
        "dropoff_before_pickup",
        ("pickup_datetime", "dropoff_datetime"),
        "dropoff_datetime < pickup_datetime",
    ),
    Count(
        "longer_than_a_day",
        ("pickup_datetime", "dropoff_datetime"),
        "dropoff_datetime > pickup_datetime + INTERVAL 1 DAY",
    ),
    Count("over_1000_miles", ("trip_distance",), "trip_distance > 1000"),
    Count("no_passenger", ("passenger_count",), "passenger_count = 0"),
)


@dataclass(frozen=True)
class Profile:
    """What one pass over a month's rows found.

    Attributes:
        counts: number of odd rows of each kind, by name.
        unknown_zones: number of rows with a pickup or drop-off zone that is neither null nor one of the TLC's.
    """

    counts: dict[str, int]
    unknown_zones: int


def profile(con: duckdb.DuckDBPyConnection, fleet: tlc.Fleet, start: date, end: date) -> Profile:
    """Count the odd rows of the month that begins at `start`, in one pass over that month's rows."""
    counts = [count for count in COUNTS if set(count.columns) <= set(fleet.column_names)]
    filters = [f"count(*) FILTER (WHERE {count.condition})" for count in counts]
    zones = [name for name in ("pickup_zone_id", "dropoff_zone_id") if name in fleet.column_names]
    unknown = " OR ".join(f"{name} NOT BETWEEN 1 AND {tlc.ZONES}" for name in zones)
    filters.append(f"count(*) FILTER (WHERE {unknown})")
    row = con.execute(
        f"SELECT {', '.join(filters)} FROM {fleet.table} WHERE partition_month = $start",
        {"start": start, "end": end},
    ).fetchone()
    assert row is not None  # an aggregate without GROUP BY gives one row
    *found, unknown_zones = row
    return Profile(
        counts={count.name: value for count, value in zip(counts, found, strict=True)}, unknown_zones=unknown_zones
    )
