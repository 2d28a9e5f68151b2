"""Store the audit's results in the table `quality_checks`, and report them."""

import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import duckdb
from tabulate import tabulate

from include.nyc_taxi import catalogue
from include.nyc_taxi import rows as table_rows
from include.nyc_taxi.audit.engine import Check
from include.nyc_taxi.audit.rules import Severity
from include.nyc_taxi.months import Month


def record(
    con: duckdb.DuckDBPyConnection,
    fleet_name: str,
    month: Month,
    checks: Sequence[Check],
    run_id: str,
    *,
    published: bool,
) -> None:
    """Replace the month's rows in `quality_checks`. Call it within a transaction.

    The checks of a refused load are kept beside those of the published month until the month is published again.

    Args:
        checks: the results of the audit.
        published: whether the month was published with these checks, or refused because of them.
    """
    start = month.first_day
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


def report(
    con: duckdb.DuckDBPyConnection, fleet_name: str, month: Month, *, draw: Callable[..., str] = tabulate
) -> str:
    """The contents of `quality_checks` for a month, as tables: of the published load, and of a load refused since then.

    Args:
        draw: makes a table's text, with the arguments of `tabulate`.

    Raises:
        FleetError: there is no such fleet.
    """
    fleet = catalogue.fleet(fleet_name)
    try:
        found = con.execute(
            "SELECT published, checked_at, run_id, rule, severity, at_most, value, passed, detail FROM quality_checks "
            "WHERE fleet = ? AND partition_month = ? ORDER BY published DESC, rowid",
            [fleet.name, month.first_day],
        ).fetchall()
    except duckdb.CatalogException:  # nothing has been loaded at all
        found = []
    if not found:
        return f"{fleet_name} {month} is not loaded, so no rule has been checked."
    parts = []
    for (published, checked_at, run_id), group in itertools.groupby(found, lambda row: row[:3]):
        rows = [row[3:] for row in group]
        broken = sum(not passed for *_, passed, _ in rows)
        parts.append(
            f"{fleet_name} {month}, {'published' if published else 'REFUSED (the earlier load was kept)'} "
            f"{checked_at:%Y-%m-%d %H:%M} UTC by {run_id}: {len(rows)} rules, {broken} broken\n"
            + draw(
                [_line(published, *row) for row in rows],
                ("result", "rule", "found", "limit", "detail"),
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
