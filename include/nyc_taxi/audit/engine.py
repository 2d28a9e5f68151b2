"""Apply the rules to a month's rows after they are written and before they are published."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import duckdb

from include.nyc_taxi import catalogue
from include.nyc_taxi.audit.rules import (
    ACCEPTABLE,
    DUPLICATES_SAMPLE_ROWS,
    MONTH_RULES,
    TRIP_RULES,
    MonthRule,
    Severity,
    TripRule,
    numbers,
    rules_of,
)
from include.nyc_taxi.errors import LoadError
from include.nyc_taxi.months import Month

_FEW_PICKUPS = 300
"""For up to so many pickup times, DuckDB reads only the parts of the other columns that it needs."""


@dataclass(frozen=True)
class Check:
    """The result of one rule for a month.

    Attributes:
        value: the measured value; None if the rule does not apply.
        detail: a sentence about the value.
    """

    rule: str
    severity: Severity
    limit: float
    value: float | None
    detail: str

    @property
    def passed(self) -> bool:
        """Whether the value is within the limit, or the rule does not apply."""
        return self.value is None or self.value <= self.limit


@dataclass(frozen=True)
class Audit:
    """The results of all rules for a month.

    Attributes:
        counts: numbers of rows by name: for each rule about trips the rows that break it, for each column
            `null_<column>`, `exact_duplicates`, and the counts from the file (`InFile.counts`).
        checks: one for each rule.
    """

    counts: dict[str, int]
    checks: tuple[Check, ...]

    def errors(self, *, accepted: bool = False) -> tuple[Check, ...]:
        """The broken rules that refuse the month; if it was `accepted`, only those that nobody can override."""
        found = (check for check in self.checks if not check.passed and check.severity is Severity.ERROR)
        return tuple(check for check in found if not (accepted and check.rule in ACCEPTABLE))

    @property
    def warnings(self) -> tuple[Check, ...]:
        """All broken rules. If the month is published nevertheless, they are only reported."""
        return tuple(check for check in self.checks if not check.passed)


@dataclass(frozen=True)
class InFile:
    """Findings about the file itself, before its values were cast.

    Attributes:
        rows: the number of rows according to the file's footer.
        counts: numbers of rows by name, which are added to the audit's own (see `row_mapping.count_lost`).
        examples: one unreadable value for each column that has some, by our name.
        unknown_columns: columns that the catalogue does not know.
    """

    rows: int
    counts: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)
    unknown_columns: Sequence[str] = ()


class QualityError(LoadError, permanent=True):
    """A month breaks rules that no published month may break.

    Attributes:
        checks: what each rule found.
    """

    def __init__(self, message: str, checks: Sequence[Check] = ()) -> None:
        super().__init__(message)
        self.checks = checks


def audit(
    con: duckdb.DuckDBPyConnection, fleet: catalogue.Fleet, month: Month, relation: str, in_file: InFile
) -> Audit:
    """Apply all rules to a month's rows.

    Args:
        relation: SQL for a FROM clause that reads exactly these rows.
    """
    rows, counts = _count(con, fleet, month, relation)
    counts |= {"exact_duplicates": _duplicates(con, fleet, relation, rows), **in_file.counts}
    about_trips = [_check_trips(rule, counts[rule.name], rows) for rule in TRIP_RULES if rule.name in counts]
    context = {
        "examples": dict(in_file.examples),
        "unknown_columns": list(in_file.unknown_columns),
        # If the file gives coordinates, places outside all zones are counted separately.
        "never_empty": [name for name in fleet.never_empty if f"outside_{name}" not in counts],
    }
    bound = {
        "fleet": fleet.name,
        "month": month.first_day,
        "rows": rows,
        "rows_in_file": in_file.rows,
        "counts": json.dumps(counts),
        "context": json.dumps(context),
    }
    return Audit(counts, (*(_check_month(con, rule, bound) for rule in MONTH_RULES), *about_trips))


def _count(
    con: duckdb.DuckDBPyConnection, fleet: catalogue.Fleet, month: Month, relation: str
) -> tuple[int, dict[str, int]]:
    """Count the rows, the rows that break each rule, and the nulls in each column, in one pass.

    `not_finite` would take as long as all other rules about amounts together. But a sum is finite only if all its
    values are, and costs next to nothing, so the rows are counted one by one only if a sum is not.
    """
    counted = {rule.name: f"count_if({rule.condition(fleet, '$start::DATE')})" for rule in rules_of(fleet)}
    exact = counted.get("not_finite")
    if exact:
        sums = [f"coalesce(NOT isfinite(sum({name})), false)" for name in numbers(fleet)]
        counted["not_finite"] = f"({' OR '.join(sums)})::BIGINT"
    counted |= {f"null_{name}": f"count(*) - count({name})" for name in fleet.column_names}

    def count(*aggregates: str) -> tuple[int, ...]:
        values = ", ".join(f"coalesce({sql}, 0)" for sql in aggregates)  # count_if is null if all values are null
        start = {"start": month.first_day} if "$start" in values else {}
        row = con.execute(f"SELECT {values} FROM {relation}", start).fetchone()
        assert row is not None  # an aggregate without GROUP BY always returns one row
        return tuple(row)

    rows, *found = count("count(*)", *counted.values())
    counts = dict(zip(counted, found, strict=True))
    if exact and counts["not_finite"]:
        (counts["not_finite"],) = count(exact)
    return rows, counts


def _duplicates(con: duckdb.DuckDBPyConnection, fleet: catalogue.Fleet, relation: str, rows: int) -> int:
    """How many rows equal an earlier row in every column.

    Rows are compared by a 64-bit hash. In a large month, only the rows whose hash is divisible by n are compared, and
    their number is multiplied by n. Equal rows have equal hashes, so the sample contains all copies of its rows.
    """
    every = max(1, math.ceil(rows / DUPLICATES_SAMPLE_ROWS))
    conditions: list[str] = []
    pickups: list[object] = []
    if every > 1:
        # A hash of a few columns selects the sample, so that reading the other columns can be avoided.
        few: list[str] = [
            name for name in ("pickup_datetime", "dropoff_datetime", "pickup_zone_id") if name in fleet.column_names
        ]
        conditions.append(f"hash({', '.join(few)}) % {every} = 0")
        more: list[str] = [name for name in ("dropoff_zone_id", "total_amount") if name in fleet.column_names]
        found = con.execute(
            f"SELECT DISTINCT pickup_datetime FROM (SELECT any_value(pickup_datetime) AS pickup_datetime "
            f"FROM {relation} WHERE {conditions[0]} GROUP BY hash({', '.join(few + more)}) HAVING count(*) > 1) "
            f"LIMIT {_FEW_PICKUPS + 1}"
        ).fetchall()
        pickups = [pickup for (pickup,) in found]
        if not pickups:
            return 0
        if len(pickups) <= _FEW_PICKUPS and None not in pickups:
            conditions.append(f"pickup_datetime IN ({', '.join('?' * len(pickups))})")
        else:
            pickups = []
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    (copies,) = con.execute(
        "SELECT coalesce(sum(n - 1), 0)::BIGINT FROM (SELECT count(*) AS n FROM ("
        f"SELECT hash({', '.join(fleet.column_names)}) AS h FROM {relation} {where}"
        ") GROUP BY h)",
        pickups,
    ).fetchone() or (0,)
    return int(copies) * every


def _check_trips(rule: TripRule, broken: int, rows: int) -> Check:
    detail = f"{broken:,} of {rows:,} trips {rule.breaks}"
    return Check(rule.name, Severity.WARN, rule.limit, broken / rows if rows else None, detail)


def _check_month(con: duckdb.DuckDBPyConnection, rule: MonthRule, bound: dict[str, object]) -> Check:
    used = {name: value for name, value in bound.items() if re.search(rf"\${name}\b", rule.sql)}
    value, detail = con.execute(rule.sql, used).fetchone() or (None, None)
    if value is None:
        return Check(rule.name, rule.severity, rule.limit, None, "does not apply: there is nothing to compare with")
    return Check(rule.name, rule.severity, rule.limit, float(value), detail)
