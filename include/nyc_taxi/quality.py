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
        sql: an aggregate that counts the odd rows; `$start` and `$end` are the month's first day and the next month's.
    """

    name: str
    columns: tuple[str, ...]
    sql: str


# Each is written the way that DuckDB evaluates fastest (docs/performance.md): they are most of what a load costs more
# than a bare insert.
COUNTS: tuple[Count, ...] = (
    Count(
        "pickup_outside_month", ("pickup_datetime",), "count_if(pickup_datetime < $start OR pickup_datetime >= $end)"
    ),
    *(Count(f"null_{name}", (name,), f"count(*) - count({name})") for name, _ in tlc.COMMON_COLUMNS),
    *(
        Count(f"negative_{name}", (name,), f"count_if({name} < 0)")
        for name in ("trip_distance", "fare_amount", "total_amount")
    ),
    Count(
        "dropoff_before_pickup",
        ("pickup_datetime", "dropoff_datetime"),
        "count_if(dropoff_datetime < pickup_datetime)",
    ),
    Count(
        "longer_than_a_day",
        ("pickup_datetime", "dropoff_datetime"),
        "count_if(epoch_us(dropoff_datetime) - epoch_us(pickup_datetime) > 86_400_000_000)",
    ),
    Count("over_1000_miles", ("trip_distance",), "count_if(trip_distance > 1000)"),
    Count("no_passenger", ("passenger_count",), "count_if(passenger_count = 0)"),
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
    aggregates = [count.sql for count in counts]
    zones = [name for name in ("pickup_zone_id", "dropoff_zone_id") if name in fleet.column_names]
    unknown = " OR ".join(f"{name} NOT BETWEEN 1 AND {tlc.ZONES}" for name in zones)
    aggregates.append(f"count_if({unknown})")
    numbers = ", ".join(f"coalesce({sql}, 0)" for sql in aggregates)  # count_if of nothing but nulls is null
    row = con.execute(
        f"SELECT {numbers} FROM {fleet.table} WHERE partition_month = $start",
        {"start": start, "end": end},
    ).fetchone()
    assert row is not None  # an aggregate without GROUP BY gives one row
    *found, unknown_zones = row
    return Profile(
        counts={count.name: value for count, value in zip(counts, found, strict=True)}, unknown_zones=unknown_zones
    )
