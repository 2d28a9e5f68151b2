"""Apply the rules to a month's rows, between writing and publishing them."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import duckdb

from include.nyc_taxi import catalogue
from include.nyc_taxi.audit.rules import (
    ACCEPTABLE,
    DUPLICATES_LOOKED_FOR_IN,
    MONTH_RULES,
    TRIP_RULES,
    MonthRule,
    Severity,
    TripRule,
    rules_of,
)
from include.nyc_taxi.errors import LoadError
from include.nyc_taxi.months import Month


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

    def errors(self, *, accepted: bool = False) -> tuple[Check, ...]:
        """Broken rules for which the month must not be published; if it was accepted, those that nobody can accept."""
        found = (check for check in self.checks if not check.passed and check.severity is Severity.ERROR)
        return tuple(check for check in found if not (accepted and check.rule in ACCEPTABLE))

    @property
    def warnings(self) -> tuple[Check, ...]:
        """Broken rules of a month that is published: they are shown, no more."""
        return tuple(check for check in self.checks if not check.passed)


@dataclass(frozen=True)
class InFile:
    """What was found in the file itself, before its values were cast.

    Attributes:
        rows: as the file's footer says.
        counts: numbers of rows, by name; they join the audit's own (see `published.count_lost`).
        examples: for columns with values that could not be read, by our name: one of them.
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
        relation: SQL to read them, and no others, as a FROM clause has it.
    """
    rows, counts = _count(con, fleet, month, relation)
    counts |= {"exact_duplicates": _duplicates(con, fleet, relation, rows), **in_file.counts}
    about_trips = [_check_trips(rule, counts[rule.name], rows) for rule in TRIP_RULES if rule.name in counts]
    context = {
        "examples": dict(in_file.examples),
        "unknown_columns": list(in_file.unknown_columns),
        # Where places become zones, what the file says of the place is counted by itself.
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
    """The month's rows, and how many of them break each rule or have a null, in one pass."""
    rules = rules_of(fleet)
    aggregates = [f"count_if({rule.condition(fleet, '$start::DATE')})" for rule in rules]
    aggregates += [f"count(*) - count({name})" for name in fleet.column_names]
    numbers = ", ".join(f"coalesce({sql}, 0)" for sql in aggregates)  # count_if of nothing but nulls is null
    row = con.execute(f"SELECT count(*), {numbers} FROM {relation}", {"start": month.first_day}).fetchone()
    assert row is not None  # an aggregate without GROUP BY gives one row
    names = [rule.name for rule in rules] + [f"null_{name}" for name in fleet.column_names]
    return row[0], dict(zip(names, row[1:], strict=True))


def _duplicates(con: duckdb.DuckDBPyConnection, fleet: catalogue.Fleet, relation: str, rows: int) -> int:
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
    return Check(rule.name, Severity.WARN, rule.limit, broken / rows if rows else None, detail)


def _check_month(con: duckdb.DuckDBPyConnection, rule: MonthRule, bound: dict[str, object]) -> Check:
    used = {name: value for name, value in bound.items() if re.search(rf"\${name}\b", rule.sql)}
    value, detail = con.execute(rule.sql, used).fetchone() or (None, None)
    if value is None:
        return Check(rule.name, rule.severity, rule.limit, None, "does not apply: nothing to compare with")
    return Check(rule.name, rule.severity, rule.limit, float(value), detail)
