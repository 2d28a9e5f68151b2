"""The rules of the audit, as data: rules about single trips, and rules about a month as a whole.

The audit removes no rows: trips stay as published. The view `trips_flagged` shows which rules each trip breaks, and
`trips_clean` omits rows that were not trips and trips with an impossible amount or distance.
"""

from dataclasses import dataclass
from enum import StrEnum

from include.nyc_taxi import catalogue

DUPLICATES_SAMPLE_ROWS = 250_000
"""In months with more rows, exact duplicates are searched in a sample of about this size and their number estimated."""


class Severity(StrEnum):
    """The effect of breaking a rule: ERROR rolls back the load and keeps the old month, WARN only logs a warning."""

    ERROR = "error"
    WARN = "warn"


@dataclass(frozen=True)
class TripRule:
    """A rule about single trips; its value is the share of the month's trips that break it.

    Breaking it never refuses a month, because such trips occur in the TLC's own files. The views `trips_flagged` and
    `trips_clean` list the name of the rule among the `flags` of such a trip.

    Attributes:
        name: the rule's name, and the key of its count in `loads.quality`.
        columns: the columns that the rule reads; it does not apply to a fleet that lacks one of them. Empty means all
            columns of type DOUBLE.
        sql: a condition that is true for a trip that breaks the rule. `{month}` stands for the first day of the file's
            month, and `{not_finite}` for a condition that is true if one of the trip's numbers is NaN or infinite.
        limit: the largest share that passes without a warning.
        breaks: the end of the sentence "12 of 345 trips …".
        reason: why the rule and its limit exist, and why such trips are clean or not.
        is_clean: whether `trips_clean` keeps such trips, because they took place and their amounts and distances are
            possible.
    """

    name: str
    columns: tuple[str, ...]
    sql: str
    limit: float
    breaks: str
    reason: str
    is_clean: bool

    def applies_to(self, fleet: catalogue.Fleet) -> bool:
        """Whether the fleet has all columns that the rule reads."""
        return self.columns_of(fleet) <= fleet.table_columns.keys() and bool(self.columns_of(fleet))

    def columns_of(self, fleet: catalogue.Fleet) -> set[str]:
        """The columns that the rule reads."""
        return set(self.columns or numbers(fleet))

    def condition(self, fleet: catalogue.Fleet, month: str) -> str:
        """The rule's condition for a fleet's trips; `month` is SQL for the first day of the file's month."""
        not_finite = " OR ".join(f"NOT isfinite({name})" for name in numbers(fleet))
        return self.sql.format(month=month, not_finite=not_finite)


def numbers(fleet: catalogue.Fleet) -> list[str]:
    """The columns that can contain NaN and infinity: amounts and distances."""
    return [column.name for column in fleet.columns if column.type == "DOUBLE"]


@dataclass(frozen=True)
class MonthRule:
    """A rule about a month as a whole.

    Attributes:
        sql: a query that returns one row with the value and a sentence about it. If it returns no row or null, the rule
            does not apply. Its parameters are `$fleet`, `$month` (the first day), `$rows`, `$rows_in_file`, `$counts`
            (JSON, as in `loads.quality`) and `$context` (JSON, see `engine.audit`). The new load is not in `loads` yet.
        severity, limit: the largest value that passes, and the effect of a larger one.
        unit: the unit of the value.
        reason: why the rule and its limit exist.
        can_be_accepted: for an ERROR, whether a user who has examined the file may have it loaded anyway.
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
"""On the first Sunday of November the clocks go back from 2 to 1 a.m., so a trip at that time may seem to end before it
begins."""


def _plausible(fare: str) -> str:
    """SQL for whether the distance and the fare are possible for a real trip, regardless of its times."""
    return f"trip_distance > 0 AND trip_distance <= 100 AND {fare} > 0 AND {fare} <= 1000"


def _negative(number: str) -> str:
    """SQL for whether a number is negative and finite."""
    return f"{number} < 0 AND {number} > '-inf'::DOUBLE"


_TRIP_PAID = "total_amount > 0 AND trip_distance > 0 AND trip_distance <= 1000"

# For taxis and for the high-volume apps: the fare, the columns that show that somebody paid, and the amount paid.
_CHARGES = (
    ("fare_amount", ("fare_amount", "total_amount"), "greatest(fare_amount, total_amount)"),
    ("base_passenger_fare", ("base_passenger_fare", "driver_pay"), "greatest(base_passenger_fare, driver_pay)"),
)

# Each condition is written in the form that DuckDB evaluates fastest, because the audit causes much of the difference
# between a load and a bare insert (docs/explanation/performance.md). CASE evaluates the part after THEN only for the
# rows that need it, while AND evaluates both sides for all rows. `signbit(x)`, which is true for all negative numbers
# and for a few others, takes a third of the time of `x < 0`. In DuckDB NaN is greater than infinity, so `x < 'inf'`
# excludes both.
TRIP_RULES: tuple[TripRule, ...] = (
    TripRule(
        "unknown_zone",
        ("pickup_zone_id", "dropoff_zone_id"),
        f"pickup_zone_id NOT BETWEEN 1 AND {catalogue.ZONES} OR dropoff_zone_id NOT BETWEEN 1 AND {catalogue.ZONES}",
        0,
        f"have a zone ID outside 1 to {catalogue.ZONES}",
        "Real fhv files of 2017 and 2018 contain zone 0. The ID stays as published, and the trip counts in no zone.",
        is_clean=True,
    ),
    TripRule(
        "pickup_outside_month",
        ("pickup_datetime",),
        "pickup_datetime < {month} OR pickup_datetime >= {month} + INTERVAL 1 MONTH",
        0.05,
        "were picked up outside the file's month",
        "Every file contains a few strays (up to 1 in 2,000), mostly from the hours just before or after the month.",
        is_clean=True,
    ),
    TripRule(
        "pickup_far_from_month",
        ("pickup_datetime",),
        "pickup_datetime < {month} - INTERVAL 1 MONTH OR pickup_datetime >= {month} + INTERVAL 2 MONTH",
        0.001,
        "were picked up more than a month before or after the file's month",
        "Some meters have a clock that was never set or is years off: one or two trips per file.",
        is_clean=False,
    ),
    TripRule(
        "dropoff_before_pickup",
        ("pickup_datetime", "dropoff_datetime"),
        f"CASE WHEN dropoff_datetime < pickup_datetime THEN NOT ({_AUTUMN_NIGHT}) END",
        0.01,
        "ended before they began",
        "Clock errors cause a few of these. Many mean that the columns have been mixed up.",
        is_clean=False,
    ),
    TripRule(
        "clock_set_back",
        ("pickup_datetime", "dropoff_datetime"),
        f"CASE WHEN dropoff_datetime < pickup_datetime THEN {_AUTUMN_NIGHT} END",
        0.01,
        "ended before they began because the clocks were set back in autumn",
        "Times are local, and the hour after 1 a.m. occurs twice on the first Sunday of November. The trips are real.",
        is_clean=True,
    ),
    TripRule(
        "longer_than_a_day",
        ("pickup_datetime", "dropoff_datetime"),
        "epoch_us(dropoff_datetime) - epoch_us(pickup_datetime) > 86_400_000_000",
        0.005,
        "took more than 24 hours",
        "Nobody stopped the meter. Trips of just under a day are as wrong, but cannot be distinguished from real ones.",
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
                "took no time according to the clock, but have a distance (up to 100 miles) and a fare (up to $1,000)",
                "The meters of vendor 7 do not send the drop-off time: 1.2 % of yellow 2026. The trips are real.",
                True,
            ),
            (
                f"no_duration_no_trip_{fare}",
                0.02,
                "took no time, and lack a plausible distance or a fare",
                "The meter was started and stopped at once. There is no evidence that anybody was driven anywhere.",
                False,
            ),
        )
    ),
    TripRule(
        "negative_trip_distance",
        ("trip_distance",),
        f"CASE WHEN signbit(trip_distance) THEN {_negative('trip_distance')} END",
        0.001,
        "have a negative distance",
        "A real distance cannot be negative.",
        is_clean=False,
    ),
    TripRule(
        "over_1000_miles",
        ("trip_distance",),
        "CASE WHEN signbit(1000 - trip_distance) THEN trip_distance > 1000 AND trip_distance < 'inf'::DOUBLE END",
        0.005,
        "are longer than 1,000 miles",
        "Meter errors: in green 2023-03, 53 of 72,044 trips have more miles than all other trips together.",
        is_clean=False,
    ),
    TripRule(
        "faster_than_100_mph",
        ("pickup_datetime", "dropoff_datetime", "trip_distance"),
        "CASE WHEN trip_distance * 36e6 > epoch_us(dropoff_datetime) - epoch_us(pickup_datetime) "
        "THEN dropoff_datetime > pickup_datetime AND trip_distance < 'inf'::DOUBLE END",
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
        "A single NaN would make the sum of millions of values NaN, so sums ignore such values like nulls.",
        is_clean=False,
    ),
    TripRule(
        "reversed",
        ("is_reversed",),
        "is_reversed",
        0.1,
        "are a charge that was reversed, or its reversal",
        "A reversal is a second row with the same times, zones and vendor, and the negated amount. The rule counts "
        "both rows (0.55 % of green 2023-03). Neither is a trip that was paid for.",
        is_clean=False,
    ),
    *(
        TripRule(
            f"negative_{name}",
            (name,),
            f"CASE WHEN signbit({name}) THEN {_negative(name)} END",
            limit,
            f"have a negative {name}",
            reason,
            is_clean,
        )
        for name, limit, reason, is_clean in (
            (
                "fare_amount",
                0.2,
                "Reversals (0.3 % of green 2023-03), which other rules exclude, and flex fares, which were real trips.",
                True,
            ),
            (
                "base_passenger_fare",
                0.05,
                "Corrections, which another rule excludes, and discounts larger than the fare, which were real trips.",
                True,
            ),
            (
                "total_amount",
                0.05,
                "A reversal, even if its charge is not in the file, as for 1 to 8 reversals in each month of green.",
                False,
            ),
        )
    ),
    TripRule(
        "flex_fare",
        ("fare_amount", "total_amount", "trip_distance"),
        f"CASE WHEN signbit(fare_amount) THEN {_negative('fare_amount')} AND {_TRIP_PAID} END",
        0.2,
        "have a negative fare_amount, but a positive total_amount and a distance",
        "Flex fares, which are agreed in an app, look like this: 3.8 % of yellow 2025, vendor 2. The trips are real.",
        is_clean=True,
    ),
    TripRule(
        "negative_fare_no_trip",
        ("fare_amount", "total_amount", "trip_distance"),
        f"CASE WHEN signbit(fare_amount) THEN {_negative('fare_amount')} "
        f"AND total_amount >= 0 AND NOT ({_TRIP_PAID}) END",
        0.05,
        "have a negative fare_amount, and lack a positive total_amount or a distance",
        "Corrections. There is no evidence that anybody was driven anywhere.",
        is_clean=False,
    ),
    TripRule(
        "negative_base_fare_no_trip",
        ("base_passenger_fare", "driver_pay", "trip_distance"),
        f"CASE WHEN signbit(base_passenger_fare) THEN {_negative('base_passenger_fare')} "
        "AND NOT (driver_pay > 0 AND trip_distance > 0 AND trip_distance <= 1000) END",
        0.05,
        "have a negative base_passenger_fare, and lack a payment to the driver or a distance",
        "Corrections. There is no evidence that anybody was driven anywhere.",
        is_clean=False,
    ),
    *(
        TripRule(
            f"over_1000_dollars_{name}",
            (name,),
            f"CASE WHEN signbit(1000 - {name}) THEN {name} > 1000 AND {name} < 'inf'::DOUBLE END",
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
        "The driver did not enter the number: 16 % of yellow 2019-02. The trips are real.",
        is_clean=True,
    ),
    TripRule(
        "over_9_passengers",
        ("passenger_count",),
        "passenger_count > 9 OR passenger_count < 0",
        0.001,
        "have more than 9 passengers, or a negative number",
        "A taxi takes 4 or 5 passengers, and a van 9. The driver mistyped the number, but the trips are real.",
        is_clean=True,
    ),
)

_SEVERAL_MONTHS = 3
_BEFORE = "fleet = $fleet AND partition_month >= $month - INTERVAL 12 MONTH AND partition_month < $month"
_DUPLICATES = f"""
    SELECT
        n / $rows,
        format('{{:,}} rows equal an earlier row in all columns', n)
        || if($rows > {DUPLICATES_SAMPLE_ROWS}, ' (estimated from a sample)', '')
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
"""Two editions are compared if the larger one has at least this many rows. The TLC's smallest files have tens of
thousands."""


def _share(name: str) -> str:
    """A query for the share of trips that break the trip rule called `name`."""
    (rule,) = (rule for rule in TRIP_RULES if rule.name == name)
    return _SHARE.format(name=name, breaks=rule.breaks.replace("'", "''"))


# An ERROR must be impossible in a genuine file. Each was compared with what is known about the TLC's files.
MONTH_RULES: tuple[MonthRule, ...] = (
    MonthRule(
        "rows_equal_footer",
        "SELECT abs($rows - $rows_in_file), format('{:,} rows (footer), inserted {:,}', $rows_in_file, $rows)",
        Severity.ERROR,
        0,
        "rows",
        "The file's footer gives the number of trips. None may be lost or duplicated.",
        can_be_accepted=False,
    ),
    MonthRule(
        "rows_as_edition_before",
        f"""
        SELECT
            greatest($rows / rows_loaded, rows_loaded / $rows),
            format('{{:,}} rows; the previous edition has {{:,}}', $rows, rows_loaded)
        FROM latest_loads WHERE fleet = $fleet AND partition_month = $month AND rows_loaded > 0
            AND greatest($rows, rows_loaded) >= {COMPARED_FROM_ROWS}
        """,
        Severity.ERROR,
        1.5,
        "ratio of the larger number to the smaller",
        "The TLC republishes a month to correct some of its rows. A far smaller edition is incomplete. Editions with "
        f"fewer than {COMPARED_FROM_ROWS} rows are not compared, because a few rows make a large difference there.",
    ),
    MonthRule(
        "columns_filled",
        """
        SELECT count(*), coalesce(
            string_agg(name, ', ' ORDER BY name) || if(count(*) = 1, ' is', ' are') || ' null in every trip',
            'all required columns contain values'
        )
        FROM (SELECT unnest(CAST($context->'never_empty' AS VARCHAR[])) AS name)
        WHERE ($counts->>('null_' || name))::BIGINT = $rows AND $rows > 0
        """,
        Severity.ERROR,
        0,
        "columns",
        "Every genuine month has times, places and fares. If they are missing, the file has lost its columns.",
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
        "There is no zone 74.5, and rounding it would give a wrong zone. The file's columns have been mixed up.",
    ),
    MonthRule(
        "columns_readable",
        _UNREADABLE,
        Severity.ERROR,
        0.2,
        "share of rows",
        "If this many values do not fit its type, the column contains something else.",
    ),
    MonthRule(
        "values_readable",
        _UNREADABLE,
        Severity.WARN,
        0,
        "share of rows",
        "A single bad value among millions of rows does not refuse the month. It becomes null and is counted.",
    ),
    MonthRule(
        "zones_of_this_city",
        _share("unknown_zone"),
        Severity.ERROR,
        0.2,
        "share of rows",
        "The TLC's own files contain a few (about 9,000 in all of fhv 2018). Many mean that it is another column.",
    ),
    MonthRule(
        "trips_of_this_month",
        _share("pickup_outside_month"),
        Severity.ERROR,
        0.5,
        "share of rows",
        "Every file contains strays. If most trips are strays, the file is for another month.",
    ),
    MonthRule(
        "every_trip_doubled",
        _DUPLICATES,
        Severity.ERROR,
        0.45,
        "share of rows",
        "A file that contains each trip twice has a share of 0.5.",
    ),
    MonthRule(
        "columns_known",
        """
        SELECT len(names), if(
            len(names) > 0, 'columns that the catalogue does not know are left out: ' || array_to_string(names, ', '),
            'the catalogue knows all columns'
        ) FROM (SELECT CAST($context->'unknown_columns' AS VARCHAR[]) AS names)
        """,
        Severity.WARN,
        0,
        "columns",
        "The TLC has added a column. Add it to include/nyc_taxi/catalogue/fleets.py and load the month again.",
    ),
    MonthRule(
        "exact_duplicates",
        _DUPLICATES,
        Severity.WARN,
        0.02,
        "share of rows",
        "Rare for taxis, whose files have amounts and times. Files of fhv have few columns, so two trips can be equal.",
    ),
    MonthRule(
        "codes_known",
        """
        SELECT max(n) / $rows, format('{:,} values of {} are not in the catalogue', max(n), arg_max(name[9:], n))
        FROM (SELECT unnest(map_entries($counts::JSON::MAP(VARCHAR, BIGINT)), recursive := true)) AS counts(name, n)
        WHERE name[:8] = 'unknown_' AND name <> 'unknown_zone' HAVING count(*) > 0
        """,
        Severity.WARN,
        0.001,
        "share of rows",
        "Texts without an ID in the catalogue become null. Add them to include/nyc_taxi/catalogue/fleets.py.",
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
                '{{}} is null in {{:.1f}} % of the trips, and was in at most {{:.1f}} % in earlier months',
                arg_max(name, rise), arg_max(now, rise), arg_max(before, rise)
            ), 'no column has more nulls than in earlier months')
        FROM shares HAVING count(*) > 0
        """,
        Severity.WARN,
        0.2,
        "largest increase in a column's share of nulls, compared with its highest share in the 12 months before",
        "Reports should not rely on a column that is no longer filled. From green 2020-04 to 2021-01 it rose by 0.15.",
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
        "ratio of the larger number to the smaller",
        "The file may have lost or doubled its trips. Fleets change by about a fifth per month, except in March 2020.",
    ),
    MonthRule(
        "rows_as_a_year_before",
        """
        SELECT
            greatest($rows / rows_loaded, rows_loaded / $rows),
            format('{:,} rows; the same month a year before has {:,}', $rows, rows_loaded)
        FROM latest_loads WHERE fleet = $fleet AND partition_month = $month - INTERVAL 1 YEAR
        """,
        Severity.WARN,
        2.5,
        "ratio of the larger number to the smaller",
        "The same months of two years are similar. If a fleet grows or shrinks by more, check the file.",
    ),
)


ACCEPTABLE = frozenset(rule.name for rule in MONTH_RULES if rule.can_be_accepted)
"""The rules about a month that a user who has examined the file can override."""


def rules_of(fleet: catalogue.Fleet) -> list[TripRule]:
    """The rules about trips that apply to a fleet, because it has their columns."""
    return [rule for rule in TRIP_RULES if rule.applies_to(fleet)]


def flags(fleet: catalogue.Fleet) -> str:
    """SQL for a list of the names of the rules that a trip in the fleet's table breaks."""
    names = ", ".join(
        f"CASE WHEN {rule.condition(fleet, 'partition_month')} THEN '{rule.name}' END" for rule in rules_of(fleet)
    )
    # A lambda would be shorter, but a view with one cannot be read by later versions of DuckDB.
    return f"coalesce(string_split(nullif(concat_ws(' ', {names}), ''), ' '), CAST([] AS VARCHAR[]))"


def is_clean(fleet: catalogue.Fleet) -> str:
    """SQL for whether a trip in the fleet's table is clean.

    If a null makes a rule's condition null, the trip counts as not breaking the rule.
    """
    broken = [f"({rule.condition(fleet, 'partition_month')})" for rule in rules_of(fleet) if not rule.is_clean]
    return " AND ".join(f"{condition} IS NOT TRUE" for condition in broken)
