"""The record of what the audit has found, in the table `quality_checks`, and the report on it."""

import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import duckdb
from tabulate import tabulate

from include.nyc_taxi import catalogue
from include.nyc_taxi import rows as table_rows
from include.nyc_taxi.audit.engine import Check
from include.nyc_taxi.audit.rules import Severity
from include.nyc_taxi.months import first_day
from include.nyc_taxi.without_pandas import without_pandas

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
    columns = "fleet, partition_month, rule, severity, at_most, value, passed, detail, published, checked_at, run_id"
    table_rows.insert(con, "quality_checks", columns, rows)


@without_pandas()
def report(con: duckdb.DuckDBPyConnection, fleet_name: str, month: str, *, draw: Callable[..., str] = tabulate) -> str:
    """What `quality_checks` has of a month, as tables: of the load that is published, and of one refused since.

    Args:
        draw: makes a table's text; takes what `tabulate` takes.

    Raises:
        FleetError, MonthError: no such fleet; `month` is not written YYYY-MM.
    """
    found = con.execute(
        "SELECT published, checked_at, run_id, rule, severity, at_most, value, passed, detail FROM quality_checks "
        "WHERE fleet = ? AND partition_month = ? ORDER BY published DESC, rowid",
        [catalogue.fleet(fleet_name).name, first_day(month)],
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
            + draw(
                [_line(published, *row) for row in rows],
                ("result", "rule", "found", "at most", "in words"),
                disable_numparse=True,
            )
        )
    return "\n\n".join(parts)


def _line(
    published: bool, rule: str, severity: str, limit: float, value: float | None, passed: bool, detail: str
) -> tuple[str, ...]:
    result = (
        "-"
        if value is None
        else "ok"
        if passed
        else "accepted"
        if published and severity == Severity.ERROR
        else severity.upper()
    )
    return result, rule, "" if value is None else f"{value:.6g}", f"{limit:g}", detail
