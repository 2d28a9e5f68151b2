"""The audit of a month's rows, between writing and publishing them: rules, what they found, and the record of it.

No row is left out for what is found: the trips stay as published. The view `trips_clean` passes over impossible ones.
"""

import itertools
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum

import duckdb
from tabulate import tabulate

from include.nyc_taxi import rows as table_rows
from include.nyc_taxi import tlc
from include.nyc_taxi.late import pandas_kept_out
from include.nyc_taxi.months import first_day

DUPLICATES_LOOKED_FOR_IN = 250_000
"""Rows. In a longer month exact duplicates are looked for in a part of the rows, and their number is estimated."""


class Severity(StrEnum):
    """What breaking a rule does: ERROR rolls the month back and keeps the old one, WARN publishes it and says so."""

    ERROR = "error"
    WARN = "warn"


@dataclass(frozen=True)
class TripRule:
    """A rule about single trips; its value is the share of the month's trips that break it.

    Attributes:
        name: also the key in `loads.quality` of the number of trips that break it.
        columns: columns of ours that it looks at; it does not apply to a fleet that lacks one of them.
        sql: true for a trip that breaks it; `{month}` is the first day of the file's month.
        severity, limit: the largest share that passes, and what happens above it.
        breaks: what such trips are or have, to complete "12 of 345 trips …".
        reason: why there is the rule, and why the limit is what it is.
        impossible: there was no such trip: `trips_clean` leaves it out.
    """

    name: str
    columns: tuple[str, ...]
    sql: str
    severity: Severity
    limit: float
    breaks: str
    reason: str
    impossible: bool = False


@dataclass(frozen=True)
class MonthRule:
    """A rule about a month as a whole.

    Attributes:
        sql: a query that gives the value and a sentence about it, in one row; no row or null: the rule does not apply.
            `$fleet`, `$month` (its first day), `$rows`, `$rows_in_file` and `$counts` (JSON, as in `loads.quality`) are
            bound. The month's own row in `loads` is not written yet.
        severity, limit: the largest value that passes, and what happens above it.
        unit: what the value is.
        reason: why there is the rule, and why the limit is what it is.
    """

    name: str
    sql: str
    severity: Severity
    limit: float
    unit: str
    reason: str


# Each is written the way that DuckDB evaluates fastest (docs/performance.md): the audit is most of what a load costs
# more than a bare insert.
TRIP_RULES: tuple[TripRule, ...] = (
    TripRule(
        "unknown_zone",
        ("pickup_zone_id", "dropoff_zone_id"),
        f"pickup_zone_id NOT BETWEEN 1 AND {tlc.ZONES} OR dropoff_zone_id NOT BETWEEN 1 AND {tlc.ZONES}",
        Severity.ERROR,
        0,
        f"have a zone id outside 1 to {tlc.ZONES}",
        "The TLC has no other zones: the file is of another source, or its columns have been mixed up.",
    ),
    TripRule(
        "pickup_outside_month",
        ("pickup_datetime",),
        "pickup_datetime < {month} OR pickup_datetime >= {month} + INTERVAL 1 MONTH",
        Severity.ERROR,
        0.05,
        "were picked up outside the file's month",
        "A few strays are in every file (up to 1 in 2,000 here); many mean that it is another month's.",
    ),
    TripRule(
        "pickup_far_from_month",
        ("pickup_datetime",),
        "pickup_datetime < {month} - INTERVAL 1 MONTH OR pickup_datetime >= {month} + INTERVAL 2 MONTH",
        Severity.WARN,
        0.001,
        "were picked up more than a month before or after the file's month",
        "Meters whose clock was never set, or is years off: one or two a file.",
        impossible=True,
    ),
    TripRule(
        "dropoff_before_pickup",
        ("pickup_datetime", "dropoff_datetime"),
        "dropoff_datetime < pickup_datetime",
        Severity.WARN,
        0.01,
        "ended before they began",
        "Clocks set back, and slips; more than a few mean that the columns have been mixed up.",
        impossible=True,
    ),
    TripRule(
        "longer_than_a_day",
        ("pickup_datetime", "dropoff_datetime"),
        "epoch_us(dropoff_datetime) - epoch_us(pickup_datetime) > 86_400_000_000",
        Severity.WARN,
        0.005,
        "took more than 24 hours",
        "Meters that nobody stopped. Those of just under a day are as wrong, but cannot be told from true ones.",
        impossible=True,
    ),
    TripRule(
        "negative_trip_distance",
        ("trip_distance",),
        "trip_distance < 0",
        Severity.WARN,
        0.001,
        "have a negative distance",
        "No meter counts backwards.",
        impossible=True,
    ),
    TripRule(
        "over_1000_miles",
        ("trip_distance",),
        "trip_distance > 1000",
        Severity.WARN,
        0.005,
        "are longer than 1,000 miles",
        "Faults of the meter: 53 of 72,044 in green 2023-03.",
        impossible=True,
    ),
    TripRule(
        "faster_than_100_mph",
        ("pickup_datetime", "dropoff_datetime", "trip_distance"),
        "trip_distance * 36e6 > epoch_us(dropoff_datetime) - epoch_us(pickup_datetime) "
        "AND dropoff_datetime >= pickup_datetime",
        Severity.WARN,
        0.02,
        "were faster than 100 miles an hour",
        "A distance or a time is wrong; meters that round times to minutes give trips of no time at all.",
        impossible=True,
    ),
    *(
        TripRule(
            f"negative_{name}",
            (name,),
            f"{name} < 0",
            Severity.WARN,
            0.05,
            f"have a negative {name}",
            "A fare taken back is a row of its own, with its amounts negative: 0.3 % in green 2023-03.",
            impossible=True,
        )
        for name in ("fare_amount", "base_passenger_fare", "total_amount")
    ),
    *(
        TripRule(
            f"over_1000_dollars_{name}",
            (name,),
            f"{name} > 1000",
            Severity.WARN,
            0.001,
            f"have a {name} of more than $1,000",
            "Slips at the meter: no drive from the city is so dear that there are many.",
            impossible=True,
        )
        for name in ("fare_amount", "base_passenger_fare")
    ),
    TripRule(
        "no_passenger",
        ("passenger_count",),
        "passenger_count = 0",
        Severity.WARN,
        0.2,
        "have no passenger",
        "The driver types the number in, or does not: the trip is a trip all the same. 16 % in yellow 2019-02.",
    ),
    TripRule(
        "over_9_passengers",
        ("passenger_count",),
        "passenger_count > 9 OR passenger_count < 0",
        Severity.WARN,
        0.001,
        "have more than 9 passengers, or fewer than none",
        "A taxi takes 4 or 5, a van 9.",
        impossible=True,
    ),
)

_SEVERAL_MONTHS = 3
_BEFORE = "fleet = $fleet AND partition_month >= $month - INTERVAL 12 MONTH AND partition_month < $month"
_DUPLICATES = f"""
    SELECT
        n / $rows,
        format('{{:,}} rows are like one before them in all columns', n)
        || if($rows > {DUPLICATES_LOOKED_FOR_IN}, ' (estimated from a part of the month)', '')
    FROM (SELECT ($counts->'exact_duplicates')::BIGINT AS n)
"""
MONTH_RULES: tuple[MonthRule, ...] = (
    MonthRule(
        "rows_equal_footer",
        "SELECT abs($rows - $rows_in_file), format('{:,} rows (footer), inserted {:,}', $rows_in_file, $rows)",
        Severity.ERROR,
        0,
        "rows",
        "The file's own footer says how many trips there are: not one may be lost or doubled.",
    ),
    MonthRule(
        "every_trip_doubled",
        _DUPLICATES,
        Severity.ERROR,
        0.45,
        "share of rows",
        "A file that has each trip twice (0.5) would double the month.",
    ),
    MonthRule(
        "exact_duplicates",
        _DUPLICATES,
        Severity.WARN,
        0.02,
        "share of rows",
        "Rare in taxis' files, which have amounts and seconds; in fhv, a base and times, two trips may well be alike.",
    ),
    MonthRule(
        "codes_known",
        """
        SELECT max(n) / $rows, format('{:,} texts of {} are not in the catalogue', max(n), arg_max(name[9:], n))
        FROM (SELECT unnest(map_entries($counts::JSON::MAP(VARCHAR, BIGINT)), recursive := true)) AS counts(name, n)
        WHERE name[:8] = 'unknown_' AND name <> 'unknown_zone' HAVING count(*) > 0
        """,
        Severity.WARN,
        0.001,
        "share of rows",
        "A text that the catalogue has no id for becomes null: add it to include/nyc_taxi/tlc.py.",
    ),
    MonthRule(
        "nulls_as_before",
        f"""
        WITH counted AS (
            SELECT unnest(map_entries(quality::JSON::MAP(VARCHAR, BIGINT)), recursive := true), rows_loaded, false
            FROM latest_loads WHERE {_BEFORE}
            UNION ALL
            SELECT unnest(map_entries($counts::JSON::MAP(VARCHAR, BIGINT)), recursive := true), $rows, true
        ), shares AS (
            SELECT
                name[6:] AS name,
                100 * max(n / rows) FILTER (is_new) AS now,
                100 * max(n / rows) FILTER (NOT is_new) AS before,
                now - before AS rise
            FROM counted AS counted(name, n, rows, is_new)
            WHERE name[:5] = 'null_' GROUP BY name HAVING rise IS NOT NULL
        )
        SELECT
            greatest(0, max(rise)) / 100,
            if(max(rise) > 0, format(
                '{{}} is null in {{:.1f}} % of the trips, in the months before in {{:.1f}} % at most',
                arg_max(name, rise), arg_max(now, rise), arg_max(before, rise)
            ), 'no column has more nulls than in the months before')
        FROM shares HAVING count(*) > 0
        """,
        Severity.WARN,
        0.2,
        "rise of the share of nulls over the 12 months before, in the column where it is greatest",
        "A column that has run dry is no longer what reports take it for. In green 2021-01 it was 0.15, over 2020-04.",
    ),
    MonthRule(
        "rows_as_in_12_months",
        f"""
        SELECT
            greatest($rows / middle, middle / $rows),
            format('{{:,}} rows; the median of the 12 months before is {{:,}}', $rows, middle::BIGINT)
        FROM (SELECT median(rows_loaded) AS middle, count(*) AS months FROM latest_loads WHERE {_BEFORE})
        WHERE months >= {_SEVERAL_MONTHS}
        """,
        Severity.WARN,
        2,
        "ratio, of the greater number to the smaller",
        "Half a month, or two in one. From month to month a fleet changes by a fifth; March 2020 is the exception.",
    ),
    MonthRule(
        "rows_as_a_year_before",
        """
        SELECT
            greatest($rows / rows_loaded, rows_loaded / $rows),
            format('{:,} rows; a year before there were {:,}', $rows, rows_loaded)
        FROM latest_loads WHERE fleet = $fleet AND partition_month = $month - INTERVAL 1 YEAR
        """,
        Severity.WARN,
        2.5,
        "ratio, of the greater number to the smaller",
        "Seasons are alike; a fleet that grows or shrinks by more in a year is worth a look.",
    ),
)


@dataclass(frozen=True)
class Check:
    """What a rule found in a month.

    Attributes:
        value: what was found; None where the rule does not apply.
        detail: the same as a sentence.
    """

    rule: str
    severity: Severity
    limit: float
    value: float | None
    detail: str

    @property
    def passed(self) -> bool:
        return self.value is None or self.value <= self.limit


@dataclass(frozen=True)
class Audit:
    """What was found in a month.

    Attributes:
        counts: numbers of rows, by name: for each rule about trips, those that break it; `null_<column>` for each
            column; `exact_duplicates`.
        checks: one for each rule.
    """

    counts: dict[str, int]
    checks: tuple[Check, ...]

    @property
    def errors(self) -> tuple[Check, ...]:
        """Broken rules for which the month must not be published."""
        return tuple(check for check in self.checks if not check.passed and check.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Check, ...]:
        """Broken rules that are shown, no more."""
        return tuple(check for check in self.checks if not check.passed and check.severity is Severity.WARN)


def audit(
    con: duckdb.DuckDBPyConnection,
    fleet: tlc.Fleet,
    month: str,
    relation: str,
    rows_in_file: int,
    counted_in_file: dict[str, int] | None = None,
) -> Audit:
    """Apply all rules to a month's rows.

    Args:
        relation: SQL to read them, and no others, as a FROM clause has it.
        rows_in_file: as the file's footer says.
        counted_in_file: numbers of rows that were counted in the file itself; they join the audit's own.
    """
    rows, counts = _count(con, fleet, first_day(month), relation)
    counts |= {"exact_duplicates": _duplicates(con, fleet, relation, rows)} | (counted_in_file or {})
    about_trips = [_check_trips(rule, counts[rule.name], rows) for rule in TRIP_RULES if rule.name in counts]
    bound = {
        "fleet": fleet.name,
        "month": first_day(month),
        "rows": rows,
        "rows_in_file": rows_in_file,
        "counts": json.dumps(counts),
    }
    return Audit(counts, (*(_check_month(con, rule, bound) for rule in MONTH_RULES), *about_trips))


def rules_of(fleet: tlc.Fleet) -> list[TripRule]:
    """The rules about trips that apply to a fleet: those whose columns it has."""
    return [rule for rule in TRIP_RULES if set(rule.columns) <= set(fleet.column_names)]


def _count(con: duckdb.DuckDBPyConnection, fleet: tlc.Fleet, start: date, relation: str) -> tuple[int, dict[str, int]]:
    """The month's rows, and how many of them break each rule or have a null, in one pass."""
    rules = rules_of(fleet)
    aggregates = [f"count_if({rule.sql.format(month='$start::DATE')})" for rule in rules]
    aggregates += [f"count(*) - count({name})" for name in fleet.column_names]
    numbers = ", ".join(f"coalesce({sql}, 0)" for sql in aggregates)  # count_if of nothing but nulls is null
    row = con.execute(f"SELECT count(*), {numbers} FROM {relation}", {"start": start}).fetchone()
    assert row is not None  # an aggregate without GROUP BY gives one row
    names = [rule.name for rule in rules] + [f"null_{name}" for name in fleet.column_names]
    return row[0], dict(zip(names, row[1:], strict=True))


def _duplicates(con: duckdb.DuckDBPyConnection, fleet: tlc.Fleet, relation: str, rows: int) -> int:
    """How many rows have another before them that is like them in every column.

    Rows are compared by a hash of 64 bits. In a long month only those with every n-th hash are: like rows have like
    hashes, so the share is right, and the number is that of the part, n times.
    """
    every = max(1, math.ceil(rows / DUPLICATES_LOOKED_FOR_IN))
    part = ""
    if every > 1:
        # Told by a hash of few columns: that of all of them is needed for the part only.
        few = [name for name in ("pickup_datetime", "dropoff_datetime", "pickup_zone_id") if name in fleet.column_names]
        part = f"WHERE hash({', '.join(few)}) % {every} = 0"
    (copies,) = con.execute(
        "SELECT coalesce(sum(n - 1), 0)::BIGINT FROM (SELECT count(*) AS n FROM ("
        f"SELECT hash({', '.join(fleet.column_names)}) AS h FROM {relation} {part}"
        ") GROUP BY h)"
    ).fetchone() or (0,)
    return int(copies) * every


def _check_trips(rule: TripRule, broken: int, rows: int) -> Check:
    detail = f"{broken:,} of {rows:,} trips {rule.breaks}"
    return Check(rule.name, rule.severity, rule.limit, broken / rows if rows else None, detail)


def _check_month(con: duckdb.DuckDBPyConnection, rule: MonthRule, bound: dict[str, object]) -> Check:
    used = {name: value for name, value in bound.items() if re.search(rf"\${name}\b", rule.sql)}
    value, detail = con.execute(rule.sql, used).fetchone() or (None, None)
    if value is None:
        return Check(rule.name, rule.severity, rule.limit, None, "does not apply: nothing to compare with")
    return Check(rule.name, rule.severity, rule.limit, float(value), detail)


# -- the record


def record(
    con: duckdb.DuckDBPyConnection,
    fleet_name: str,
    month: str,
    checks: Sequence[Check],
    run_id: str,
    *,
    published: bool,
) -> None:
    """Replace what `quality_checks` has of the month. Call it inside a transaction.

    The checks of a month that was refused stand beside those of the month that is published, until one is published
    again.
    """
    start = first_day(month)
    con.execute(
        "DELETE FROM quality_checks WHERE fleet = ? AND partition_month = ? AND (? OR NOT published)",
        [fleet_name, start, published],
    )
    now = datetime.now(UTC).replace(tzinfo=None)
    rows = [
        (fleet_name, start, x.rule, x.severity, x.limit, x.value, x.passed, x.detail, published, now, run_id)
        for x in checks
    ]
    table_rows.insert(con, "quality_checks", rows)


@pandas_kept_out()
def report(con: duckdb.DuckDBPyConnection, fleet_name: str, month: str) -> str:
    """What `quality_checks` has of a month, as tables: of the load that is published, and of one refused since.

    Raises:
        FleetError, MonthError: no such fleet; `month` is not written YYYY-MM.
    """
    found = con.execute(
        "SELECT published, checked_at, run_id, rule, severity, at_most, value, passed, detail FROM quality_checks "
        "WHERE fleet = ? AND partition_month = ? ORDER BY published DESC, rowid",
        [tlc.fleet(fleet_name).name, first_day(month)],
    ).fetchall()
    if not found:
        return f"{fleet_name} {month}: not loaded, so nothing has been checked."
    parts = []
    for (published, checked_at, run_id), group in itertools.groupby(found, lambda row: row[:3]):
        rows = [row[3:] for row in group]
        broken = sum(not passed for *_, passed, _ in rows)
        parts.append(
            f"{fleet_name} {month}, {'published' if published else 'REFUSED, the old month was kept'} "
            f"{checked_at:%Y-%m-%d %H:%M} UTC by {run_id}: {len(rows)} rules, {broken} broken\n"
            + tabulate(
                [_line(*row) for row in rows], ("result", "rule", "found", "at most", "in words"), disable_numparse=True
            )
        )
    return "\n\n".join(parts)


def _line(rule: str, severity: str, limit: float, value: float | None, passed: bool, detail: str) -> tuple[str, ...]:
    result = "-" if value is None else "ok" if passed else severity.upper()
    return result, rule, "" if value is None else f"{value:.6g}", f"{limit:g}", detail
