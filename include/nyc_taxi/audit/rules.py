"""The rules of the audit, as data: about single trips, and about a month as a whole.

No row is left out for what is found: the trips stay as published. The view `trips_flagged` says which rules each trip
breaks, and `trips_clean` passes over those that were no trip, or whose money or miles cannot be true.
"""

from dataclasses import dataclass
from enum import StrEnum

from include.nyc_taxi import catalogue

DUPLICATES_LOOKED_FOR_IN = 250_000
"""Rows. In a longer month exact duplicates are looked for in a part of the rows, and their number is estimated."""


class Severity(StrEnum):
    """What breaking a rule does: ERROR rolls the month back and keeps the old one, WARN publishes it and says so."""

    ERROR = "error"
    WARN = "warn"


@dataclass(frozen=True)
class TripRule:
    """A rule about single trips; its value is the share of the month's trips that break it.

    Breaking one never refuses a month: the TLC's own files have all of these. Its name stands among the `flags` of such
    a trip in the views `trips_flagged` and `trips_clean`.

    Attributes:
        name: also the key in `loads.quality` of the number of trips that break it.
        columns: columns of the table that it looks at; it does not apply to a fleet that lacks one of them.
        sql: true for a trip that breaks it; `{month}` is the first day of the file's month, `{not_finite}` is true
            where one of the trip's numbers is NaN or infinite.
        limit: the largest share that passes without a warning.
        breaks: what such trips are or have, to complete "12 of 345 trips …".
        reason: why there is the rule, why the limit is what it is, and why such trips are clean or not.
        is_clean: whether `trips_clean` keeps such a trip: it was one, and its money and miles can be true.
    """

    name: str
    columns: tuple[str, ...]
    sql: str
    limit: float
    breaks: str
    reason: str
    is_clean: bool

    def applies_to(self, fleet: catalogue.Fleet) -> bool:
        """Whether the fleet's trips have what the rule looks at."""
        return self.columns_of(fleet) <= fleet.table_columns.keys() and bool(self.columns_of(fleet))

    def columns_of(self, fleet: catalogue.Fleet) -> set[str]:
        """The columns that the rule looks at."""
        return set(self.columns or _numbers(fleet))

    def condition(self, fleet: catalogue.Fleet, month: str) -> str:
        """The rule's SQL for a fleet's trips; `month` is SQL for the first day of the file's month."""
        not_finite = " OR ".join(f"NOT isfinite({name})" for name in _numbers(fleet))
        return self.sql.format(month=month, not_finite=not_finite)


def _numbers(fleet: catalogue.Fleet) -> list[str]:
    """The columns that can hold NaN and infinity: money and miles."""
    return [column.name for column in fleet.columns if column.type == "DOUBLE"]


@dataclass(frozen=True)
class MonthRule:
    """A rule about a month as a whole.

    Attributes:
        sql: a query that gives the value and a sentence about it, in one row; no row or null: the rule does not apply.
            `$fleet`, `$month` (its first day), `$rows`, `$rows_in_file`, `$counts` (JSON, as in `loads.quality`) and
            `$context` (JSON, see `audit`) are bound. The month's own new row in `loads` is not written yet.
        severity, limit: the largest value that passes, and what happens above it.
        unit: what the value is.
        reason: why there is the rule, and why the limit is what it is.
        can_be_accepted: for an ERROR, whether somebody who has looked at the file can have it loaded all the same.
    """

    name: str
    sql: str
    severity: Severity
    limit: float
    unit: str
    reason: str
    can_be_accepted: bool = True


_AUTUMN_NIGHT = (
    "month(pickup_datetime) = 11 AND day(pickup_datetime) <= 7 AND isodow(pickup_datetime) = 7 "
    "AND hour(pickup_datetime) < 2 AND dropoff_datetime > pickup_datetime - INTERVAL 1 HOUR"
)
"""The clocks go back from 2 to 1 o'clock on the first Sunday of November: a trip over that hour seems to end early."""


def _plausible(fare: str) -> str:
    """SQL for: a distance and a fare that a real trip can have, whatever its clock says."""
    return f"trip_distance > 0 AND trip_distance <= 100 AND {fare} > 0 AND {fare} <= 1000"


_TRIP_PAID = "total_amount > 0 AND trip_distance > 0 AND trip_distance <= 1000"

# The columns of a taxi's charge, and of a ride of the big apps, with what shows that somebody paid.
_CHARGES = (
    ("fare_amount", ("fare_amount", "total_amount"), "greatest(fare_amount, total_amount)"),
    ("base_passenger_fare", ("base_passenger_fare", "driver_pay"), "greatest(base_passenger_fare, driver_pay)"),
)

# Each is written the way that DuckDB evaluates fastest (docs/explanation/performance.md): the audit is most of what a
# load costs more than a bare insert. CASE evaluates what follows THEN for the few rows that need it; AND evaluates both
# sides for all. NaN is greater than infinity in DuckDB, so that `x < 'inf'` leaves both out.
TRIP_RULES: tuple[TripRule, ...] = (
    TripRule(
        "unknown_zone",
        ("pickup_zone_id", "dropoff_zone_id"),
        f"pickup_zone_id NOT BETWEEN 1 AND {catalogue.ZONES} OR dropoff_zone_id NOT BETWEEN 1 AND {catalogue.ZONES}",
        0,
        f"have a zone id outside 1 to {catalogue.ZONES}",
        "Zone 0 stands in real fhv files of 2017 and 2018. The id stays as published, and counts in no zone.",
        is_clean=True,
    ),
    TripRule(
        "pickup_outside_month",
        ("pickup_datetime",),
        "pickup_datetime < {month} OR pickup_datetime >= {month} + INTERVAL 1 MONTH",
        0.05,
        "were picked up outside the file's month",
        "A few strays are in every file (up to 1 in 2,000 here), most of them of the hours before or after the month.",
        is_clean=True,
    ),
    TripRule(
        "pickup_far_from_month",
        ("pickup_datetime",),
        "pickup_datetime < {month} - INTERVAL 1 MONTH OR pickup_datetime >= {month} + INTERVAL 2 MONTH",
        0.001,
        "were picked up more than a month before or after the file's month",
        "Meters whose clock was never set, or is years off: one or two a file.",
        is_clean=False,
    ),
    TripRule(
        "dropoff_before_pickup",
        ("pickup_datetime", "dropoff_datetime"),
        f"CASE WHEN dropoff_datetime < pickup_datetime THEN NOT ({_AUTUMN_NIGHT}) END",
        0.01,
        "ended before they began",
        "Slips of the clock; more than a few mean that the columns have been mixed up.",
        is_clean=False,
    ),
    TripRule(
        "clock_set_back",
        ("pickup_datetime", "dropoff_datetime"),
        f"CASE WHEN dropoff_datetime < pickup_datetime THEN {_AUTUMN_NIGHT} END",
        0.01,
        "ended before they began because the clocks were set back for winter",
        "Times are local: on the first Sunday of November the hour after 1 o'clock comes twice. The trips are real.",
        is_clean=True,
    ),
    TripRule(
        "longer_than_a_day",
        ("pickup_datetime", "dropoff_datetime"),
        "epoch_us(dropoff_datetime) - epoch_us(pickup_datetime) > 86_400_000_000",
        0.005,
        "took more than 24 hours",
        "Meters that nobody stopped. Those of just under a day are as wrong, but cannot be told from true ones.",
        is_clean=False,
    ),
    *(
        TripRule(
            name,
            ("pickup_datetime", "dropoff_datetime", "trip_distance", *columns),
            f"CASE WHEN dropoff_datetime = pickup_datetime THEN {'' if is_clean else 'NOT '}({_plausible(paid)}) END",
            limit,
            breaks,
            reason,
            is_clean,
        )
        for fare, columns, paid in _CHARGES
        for name, limit, breaks, reason, is_clean in (
            (
                f"no_duration_{fare}",
                0.1,
                "took no time by their clock, but have a distance (up to 100 miles) and a fare (up to $1,000)",
                "The meters of vendor 7 send no time of the drop-off: 1.2 % of yellow 2026. The trips are real.",
                True,
            ),
            (
                f"no_duration_no_trip_{fare}",
                0.02,
                "took no time, and lack a plausible distance or a fare",
                "Meters started and stopped at once: nothing shows that anybody was driven anywhere.",
                False,
            ),
        )
    ),
    TripRule(
        "negative_trip_distance",
        ("trip_distance",),
        "trip_distance < 0 AND trip_distance > '-inf'::DOUBLE",
        0.001,
        "have a negative distance",
        "No meter counts backwards.",
        is_clean=False,
    ),
    TripRule(
        "over_1000_miles",
        ("trip_distance",),
        "trip_distance > 1000 AND trip_distance < 'inf'::DOUBLE",
        0.005,
        "are longer than 1,000 miles",
        "Faults of the meter: 53 of 72,044 in green 2023-03, with more miles than all other trips together.",
        is_clean=False,
    ),
    TripRule(
        "faster_than_100_mph",
        ("pickup_datetime", "dropoff_datetime", "trip_distance"),
        "trip_distance * 36e6 > epoch_us(dropoff_datetime) - epoch_us(pickup_datetime) "
        "AND dropoff_datetime > pickup_datetime AND trip_distance < 'inf'::DOUBLE",
        0.02,
        "were faster than 100 miles an hour",
        "The distance or a time is wrong.",
        is_clean=False,
    ),
    TripRule(
        "not_finite",
        (),
        "{not_finite}",
        0.001,
        "have an amount or a distance that is NaN or infinite",
        "One NaN makes a sum of millions NaN. Sums leave such values out, as if they were null.",
        is_clean=False,
    ),
    TripRule(
        "reversed",
        ("is_reversed",),
        "is_reversed",
        0.1,
        "are a charge that was reversed, or its reversal",
        "A reversal is a second row with the same times, zones and vendor and a negative amount. Both rows count: "
        "0.55 % of green 2023-03. Neither is a trip that was paid for.",
        is_clean=False,
    ),
    *(
        TripRule(
            f"negative_{name}",
            (name,),
            f"{name} < 0 AND {name} > '-inf'::DOUBLE",
            limit,
            f"have a negative {name}",
            reason,
            is_clean,
        )
        for name, limit, reason, is_clean in (
            ("fare_amount", 0.2, "Reversals (0.3 % of green 2023-03), and flex fares: those were trips.", True),
            ("base_passenger_fare", 0.05, "Corrections, and discounts greater than the fare: those were trips.", True),
            (
                "total_amount",
                0.05,
                "A reversal, whether its charge is in the file or not: in green all but 1 to 8.",
                False,
            ),
        )
    ),
    TripRule(
        "flex_fare",
        ("fare_amount", "total_amount", "trip_distance"),
        f"CASE WHEN fare_amount < 0 AND fare_amount > '-inf'::DOUBLE THEN {_TRIP_PAID} END",
        0.2,
        "have a negative fare_amount, but a positive total_amount and a distance",
        "Flex fares of vendor 2, agreed in an app, are sent so: 3.8 % of yellow 2025. The trips are real.",
        is_clean=True,
    ),
    TripRule(
        "negative_fare_no_trip",
        ("fare_amount", "total_amount", "trip_distance"),
        f"CASE WHEN fare_amount < 0 AND fare_amount > '-inf'::DOUBLE THEN total_amount >= 0 AND NOT ({_TRIP_PAID}) END",
        0.05,
        "have a negative fare_amount, and lack a positive total_amount or a distance",
        "Corrections: nothing shows that anybody was driven anywhere.",
        is_clean=False,
    ),
    TripRule(
        "negative_base_fare_no_trip",
        ("base_passenger_fare", "driver_pay", "trip_distance"),
        "CASE WHEN base_passenger_fare < 0 AND base_passenger_fare > '-inf'::DOUBLE "
        "THEN NOT (driver_pay > 0 AND trip_distance > 0 AND trip_distance <= 1000) END",
        0.05,
        "have a negative base_passenger_fare, and no driver was paid for a distance",
        "Corrections: nothing shows that anybody was driven anywhere.",
        is_clean=False,
    ),
    *(
        TripRule(
            f"over_1000_dollars_{name}",
            (name,),
            f"{name} > 1000 AND {name} < 'inf'::DOUBLE",
            0.001,
            f"have a {name} of more than $1,000",
            "Fares this high are almost always entry errors.",
            is_clean=False,
        )
        for name in ("fare_amount", "base_passenger_fare")
    ),
    TripRule(
        "no_passenger",
        ("passenger_count",),
        "passenger_count = 0",
        0.2,
        "have no passenger",
        "The driver types the number in, or does not: the trip is a trip all the same. 16 % in yellow 2019-02.",
        is_clean=True,
    ),
    TripRule(
        "over_9_passengers",
        ("passenger_count",),
        "passenger_count > 9 OR passenger_count < 0",
        0.001,
        "have more than 9 passengers, or fewer than none",
        "A taxi takes 4 or 5, a van 9: a slip when the number was typed in. The trip is a trip all the same.",
        is_clean=True,
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
_SHARE = """
    SELECT n / $rows, format('{{:,}} of {{:,}} trips {breaks}', n, $rows)
    FROM (SELECT ($counts->'{name}')::BIGINT AS n)
"""
_UNREADABLE = """
    SELECT
        max(n) / $rows,
        format(
            '{:,} values of {} do not fit its type and became null, for example {}',
            max(n), arg_max(name[12:], n), coalesce($context->'examples'->>arg_max(name[12:], n), '(unknown)')
        )
    FROM (SELECT unnest(map_entries($counts::JSON::MAP(VARCHAR, BIGINT)), recursive := true)) AS counts(name, n)
    WHERE name[:11] = 'unreadable_' HAVING count(*) > 0
"""


COMPARED_FROM_ROWS = 100
"""In the larger of two editions of a month. The TLC's smallest files have tens of thousands of rows."""


def _share(name: str) -> str:
    """The query of a rule about a month for the share of trips that break the rule about trips called `name`."""
    (rule,) = (rule for rule in TRIP_RULES if rule.name == name)
    return _SHARE.format(name=name, breaks=rule.breaks.replace("'", "''"))


# What is an ERROR here must be something that no file of the TLC's can be: each was held against what is known of them.
MONTH_RULES: tuple[MonthRule, ...] = (
    MonthRule(
        "rows_equal_footer",
        "SELECT abs($rows - $rows_in_file), format('{:,} rows (footer), inserted {:,}', $rows_in_file, $rows)",
        Severity.ERROR,
        0,
        "rows",
        "The file's own footer says how many trips there are: not one may be lost or doubled.",
        can_be_accepted=False,
    ),
    MonthRule(
        "rows_as_edition_before",
        f"""
        SELECT
            greatest($rows / rows_loaded, rows_loaded / $rows),
            format('{{:,}} rows; the edition loaded before has {{:,}}', $rows, rows_loaded)
        FROM latest_loads WHERE fleet = $fleet AND partition_month = $month AND rows_loaded > 0
            AND greatest($rows, rows_loaded) >= {COMPARED_FROM_ROWS}
        """,
        Severity.ERROR,
        1.5,
        "ratio, of the greater number to the smaller",
        "A month is published again because some rows were corrected. Half a month has lost its data. "
        f"Two editions with fewer than {COMPARED_FROM_ROWS} rows each are not compared: a few rows are much there.",
    ),
    MonthRule(
        "columns_filled",
        """
        SELECT count(*), coalesce(
            string_agg(name, ', ' ORDER BY name) || ': null in every trip', 'no column that must have values is empty'
        )
        FROM (SELECT unnest(CAST($context->'never_empty' AS VARCHAR[])) AS name)
        WHERE ($counts->>('null_' || name))::BIGINT = $rows AND $rows > 0
        """,
        Severity.ERROR,
        0,
        "columns",
        "No month of the TLC's is without times, places or fares: the file's columns have been lost.",
    ),
    MonthRule(
        "ids_are_whole_numbers",
        """
        SELECT max(n), format('{:,} values of {} have a fraction', max(n), arg_max(name[10:], n))
        FROM (SELECT unnest(map_entries($counts::JSON::MAP(VARCHAR, BIGINT)), recursive := true)) AS counts(name, n)
        WHERE name[:9] = 'fraction_' HAVING count(*) > 0
        """,
        Severity.ERROR,
        0,
        "rows",
        "Zone 74.5 is no zone, and rounded it would be a wrong one: the file's columns have been mixed up.",
    ),
    MonthRule(
        "columns_readable",
        _UNREADABLE,
        Severity.ERROR,
        0.2,
        "share of rows",
        "So many values that do not fit mean that the column holds something else.",
    ),
    MonthRule(
        "values_readable",
        _UNREADABLE,
        Severity.WARN,
        0,
        "share of rows",
        "A single slip in a file of millions of rows does not keep the others out: it becomes null, and is counted.",
    ),
    MonthRule(
        "zones_of_this_city",
        _share("unknown_zone"),
        Severity.ERROR,
        0.2,
        "share of rows",
        "The TLC's own files have a few (some 9,000 in all of fhv 2018); many mean that it is another column.",
    ),
    MonthRule(
        "trips_of_this_month",
        _share("pickup_outside_month"),
        Severity.ERROR,
        0.5,
        "share of rows",
        "Strays are in every file; where most trips are, it is another month's.",
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
        "columns_known",
        """
        SELECT len(names), if(
            len(names) > 0, 'left out, as the catalogue does not know them: ' || array_to_string(names, ', '),
            'the catalogue knows every column'
        ) FROM (SELECT CAST($context->'unknown_columns' AS VARCHAR[]) AS names)
        """,
        Severity.WARN,
        0,
        "columns",
        "The TLC has added a column: add it to include/nyc_taxi/catalogue/fleets.py, then run the month again.",
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
        "A text that the catalogue has no id for becomes null: add it to include/nyc_taxi/catalogue/fleets.py.",
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


ACCEPTABLE = frozenset(rule.name for rule in MONTH_RULES if rule.can_be_accepted)
"""The rules about a month that somebody who has looked at the file can have passed over."""


def rules_of(fleet: catalogue.Fleet) -> list[TripRule]:
    """The rules about trips that apply to a fleet: those whose columns it has."""
    return [rule for rule in TRIP_RULES if rule.applies_to(fleet)]


def flags(fleet: catalogue.Fleet) -> str:
    """SQL for the names of the rules that a trip of the fleet's table breaks, as a list."""
    names = ", ".join(
        f"CASE WHEN {rule.condition(fleet, 'partition_month')} THEN '{rule.name}' END" for rule in rules_of(fleet)
    )
    # Not with a lambda: a DuckDB file keeps it in a form that later versions of DuckDB will not read.
    return f"coalesce(string_split(nullif(concat_ws(' ', {names}), ''), ' '), CAST([] AS VARCHAR[]))"


def is_clean(fleet: catalogue.Fleet) -> str:
    """SQL for whether a trip of the fleet's table is clean.

    A rule that looks at a null says neither yes nor no, and the trip stays.
    """
    broken = [f"({rule.condition(fleet, 'partition_month')})" for rule in rules_of(fleet) if not rule.is_clean]
    return " AND ".join(f"{condition} IS NOT TRUE" for condition in broken)
