"""Convert a file's rows to rows of the warehouse: names, types, codes and places of the columns."""

from collections.abc import Mapping
from pathlib import Path

import duckdb

from include.nyc_taxi import catalogue
from include.nyc_taxi.audit.engine import InFile
from include.nyc_taxi.months import Month
from include.nyc_taxi.source.parquet import Footer
from include.nyc_taxi.trips import coordinates
from include.nyc_taxi.warehouse.sql_text import literal, quoted

_INTEGERS = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64}
"""DuckDB's signed integer types, and their numbers of bits."""
_REVERSED, _MAY_BE_REVERSED = "reversed_rows", "rows_that_may_be_reversed"
_SAME_TRIP = ("pickup_datetime", "vendor_id", "dropoff_datetime", "pickup_zone_id", "dropoff_zone_id")


def select(
    con: duckdb.DuckDBPyConnection, match: catalogue.Match, footer: Footer, month: Month, path: Path
) -> tuple[str, dict[str, object]]:
    """The query that reads a file's rows as rows of the fleet's table, and its bound values.

    Values that do not fit their column's type become null; `count_lost` counts them.

    Raises:
        ZonesError: the file has coordinates, but the warehouse has no zones.
    """
    # Names are quoted in the file's spelling; match_columns has verified that they are in the catalogue.
    places = {c.name: origin for c, origin in match.columns if isinstance(origin, catalogue.Coordinates)}
    if places:
        coordinates.prepare(con)
    columns = [f"{_cast(column, origin, footer)} AS {column.name}" for column, origin in match.columns]
    columns.append("CAST($month AS DATE) AS partition_month")
    if find_reversals(con, match, path):
        columns.append(f"file_row_number IN (SELECT row_number FROM {_REVERSED}) AS is_reversed")
    joins = " ".join(coordinates.join(*_degrees(at), name) for name, at in places.items())
    query = f"SELECT {', '.join(columns)} FROM read_parquet($path, file_row_number => true) {joins}"
    return query, {"month": month.first_day, "path": str(path)}


def find_reversals(con: duckdb.DuckDBPyConnection, match: catalogue.Match, path: Path) -> bool:
    """Create the temporary table `reversed_rows` with the row numbers of reversed charges and of their reversals.

    A reversal has a negative amount, and a twin: a row of the same trip with the negated amount. Each row has at most
    one twin, so a trip that was charged, reversed and charged again still counts as one trip.

    Returns:
        Whether the table was created; False if the fleet's trips have no amounts.
    """
    origins = {column.name: origin for column, origin in match.columns}
    amount = origins.get("total_amount")
    if not isinstance(amount, str):
        return False
    con.execute(f"CREATE OR REPLACE TEMP TABLE {_REVERSED} (row_number BIGINT)")
    is_negative = "amount < 0 AND amount > '-inf'::DOUBLE"
    in_file = f"SELECT file_row_number AS row_number, TRY_CAST({quoted(amount)} AS DOUBLE) AS amount"
    # The file's own columns: comparing two rows requires neither casts nor the zones of places.
    same = [name for key in _SAME_TRIP if (origin := origins.get(key)) for name in catalogue.published_names(origin)]
    # Few rows have a twin by amount and pickup time, so the other columns are read only for those.
    may_be_twins = "charge.amount = -refund.amount AND charge.pickup IS NOT DISTINCT FROM refund.pickup"
    con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE {_MAY_BE_REVERSED} AS
        WITH rows AS ({in_file}, {quoted(same[0])} AS pickup FROM read_parquet($path, file_row_number => true)),
        refund AS MATERIALIZED (SELECT * FROM rows WHERE {is_negative}),
        charge AS MATERIALIZED (SELECT * FROM rows AS charge SEMI JOIN refund ON {may_be_twins})
        SELECT row_number FROM charge UNION ALL SELECT row_number FROM refund SEMI JOIN charge ON {may_be_twins}
        """,
        {"path": str(path)},
    )
    if not con.execute(f"SELECT 1 FROM {_MAY_BE_REVERSED} LIMIT 1").fetchall():
        return True
    keys = [f"key_{number}" for number, _ in enumerate(same)]
    named = ", ".join(f"{quoted(name)} AS {key}" for name, key in zip(same, keys, strict=True))
    are_twins = " AND ".join(f"charge.{key} IS NOT DISTINCT FROM refund.{key}" for key in keys)
    con.execute(
        f"""
        INSERT INTO {_REVERSED}
        WITH rows AS (
            {in_file}, {named}
            FROM read_parquet($path, file_row_number => true)
            WHERE file_row_number IN (SELECT row_number FROM {_MAY_BE_REVERSED})
        ),
        refunds AS MATERIALIZED (
            SELECT *, row_number() OVER (PARTITION BY {", ".join(keys)}, amount ORDER BY row_number) AS place
            FROM rows WHERE {is_negative}
        ),
        charges AS (
            SELECT *, row_number() OVER (PARTITION BY {", ".join(keys)}, amount ORDER BY row_number) AS place
            FROM rows AS charge SEMI JOIN refunds AS refund ON charge.amount = -refund.amount AND {are_twins}
        )
        SELECT unnest([charge.row_number, refund.row_number]) AS row_number
        FROM refunds AS refund
        JOIN charges AS charge ON charge.amount = -refund.amount AND charge.place = refund.place AND {are_twins}
        """,
        {"path": str(path)},
    )
    return True


def _cast(column: catalogue.Column, origin: catalogue.Origin | None, footer: Footer) -> str:
    """SQL that computes a column of the table, with its type, from the file's columns."""
    if isinstance(origin, str):
        return _converted(column, origin, footer)
    return f"CAST({_value(column, origin)} AS {column.type})"


def _converted(column: catalogue.Column, published_as: str, footer: Footer) -> str:
    """SQL that converts a column of the file to a column of the table; values that do not fit become null."""
    value, kind = quoted(published_as), footer.types[published_as]
    if kind == "TIMESTAMP WITH TIME ZONE":
        value = f"timezone('{catalogue.CITY_TIME}', {value})"
    can_fail = _can_fail(kind, column.type)
    if kind in _INTEGERS and _all_fit(published_as, footer, column.type):
        can_fail = False  # if the footer is wrong, CAST fails, and so does the load
    return f"{'TRY_CAST' if can_fail else 'CAST'}({value} AS {column.type})"


def _all_fit(published_as: str, footer: Footer, wanted: str) -> bool:
    """Whether the footer shows that all values of a column of numbers fit an integer type."""
    if wanted not in _INTEGERS or published_as not in footer.ranges:
        return False
    if footer.types[published_as] not in (*_INTEGERS, "FLOAT", "DOUBLE"):
        return False
    least, largest = footer.ranges[published_as]
    end: int = 2 ** (_INTEGERS[wanted] - 1)
    return -end < least <= largest < end - 1  # strictly, because the footer's numbers were converted to DOUBLE


def _can_fail(kind: str, wanted: str) -> bool:
    """Whether some values of the DuckDB type `kind` do not fit the type `wanted`."""
    if kind == wanted or wanted == "VARCHAR":
        return False
    if wanted == "TIMESTAMP":
        return not kind.startswith("TIMESTAMP")
    if wanted == "DOUBLE":
        return kind not in _INTEGERS and not kind.startswith(("FLOAT", "DECIMAL", "UTINYINT", "USMALLINT", "UINTEGER"))
    return not (wanted in _INTEGERS and _INTEGERS.get(kind, 99) <= _INTEGERS[wanted])


def _can_have_fraction(kind: str) -> bool:
    return kind not in _INTEGERS and not kind.startswith(("U", "BOOLEAN", "HUGEINT"))


def _value(column: catalogue.Column, origin: catalogue.Coded | catalogue.Coordinates | None) -> str:
    """SQL for a column of the table that is not just a column of the file."""
    if origin is None:
        return "NULL"
    if isinstance(origin, catalogue.Coordinates):
        return coordinates.zone_id(*_degrees(origin), column.name)
    cases = " ".join(f"WHEN {literal(text)} THEN {literal(code)}" for text, code in origin.codes.items())
    return f"CASE {_text(origin)} {cases} END"


def _degrees(at: catalogue.Coordinates) -> tuple[str, str]:
    """SQL for a place's longitude and latitude."""
    return f"TRY_CAST({quoted(at.longitude)} AS DOUBLE)", f"TRY_CAST({quoted(at.latitude)} AS DOUBLE)"


def _text(origin: catalogue.Coded) -> str:
    """SQL for a text in the normalized form of the catalogue's codes."""
    return f"upper(trim(CAST({quoted(origin.published_as)} AS VARCHAR)))"


def count_lost(con: duckdb.DuckDBPyConnection, match: catalogue.Match, footer: Footer, path: Path, rows: str) -> InFile:
    """Count the values that the conversion loses or changes.

    Args:
        rows: SQL for a FROM clause that reads the rows that `select` has produced from the file.

    Returns:
        Numbers of rows by name: `unreadable_<column>` (values that do not fit the column's type and become null),
        `fraction_<column>` (numbers with a fraction in a column of integers), `unknown_<column>` (texts for which the
        catalogue has no ID), `zero_<column>` and `outside_<column>` (coordinates that are zero, or in no zone).
    """
    counts = _losses(match, footer)
    found: dict[str, int] = {}
    if counts:
        numbers = ", ".join(f"coalesce(count_if({sql}), 0)" for sql in counts.values())
        row = con.execute(f"SELECT {numbers} FROM read_parquet(?)", [str(path)]).fetchone() or ()
        found = dict(zip(counts, row, strict=True))
    for name in (column.name for column, origin in match.columns if isinstance(origin, catalogue.Coordinates)):
        (placed,) = con.execute(f"SELECT count({name}) FROM {rows}").fetchone() or (0,)
        found[f"outside_{name}"] -= found[f"zero_{name}"] + placed
    return InFile(footer.rows, found, _examples(con, match, counts, found, path), match.unknown)


def _losses(match: catalogue.Match, footer: Footer) -> dict[str, str]:
    """SQL conditions for rows that lose a value, by the name under which they are counted."""
    counts: dict[str, str] = {}
    for column, origin in match.columns:
        if isinstance(origin, catalogue.Coded):
            known = ", ".join(map(literal, origin.codes))
            counts[f"unknown_{column.name}"] = f"{_text(origin)} NOT IN ({known})"
        elif isinstance(origin, catalogue.Coordinates):
            names = [name for name in catalogue.published_names(origin) if _can_fail(footer.types[name], "DOUBLE")]
            longitude, latitude = _degrees(origin)
            is_known = f"{longitude} IS NOT NULL AND {latitude} IS NOT NULL"
            counts[f"zero_{column.name}"] = f"{is_known} AND ({longitude} = 0 OR {latitude} = 0)"
            # These are all places; the caller subtracts those that have a zone, and those that are zero.
            counts[f"outside_{column.name}"] = is_known
            if names:
                unreadable = [_is_unreadable(name, footer.types[name], "DOUBLE") for name in names]
                counts[f"unreadable_{column.name}"] = " OR ".join(unreadable)
        elif origin and _can_fail(kind := footer.types[origin], column.type):
            all_fit = _all_fit(origin, footer, column.type)
            counts[f"unreadable_{column.name}"] = "false" if all_fit else _is_unreadable(origin, kind, column.type)
            if column.type in _INTEGERS and _can_have_fraction(kind):
                number = f"TRY_CAST({quoted(origin)} AS DOUBLE)"
                counts[f"fraction_{column.name}"] = f"{number} <> trunc({number})"
    return counts


def _is_unreadable(published_as: str, kind: str, wanted: str) -> str:
    value = quoted(published_as)
    # Files made with pandas use NaN for missing numbers.
    exists = f"NOT isnan({value})" if kind in ("DOUBLE", "FLOAT") else f"{value} IS NOT NULL"
    return f"{exists} AND TRY_CAST({value} AS {wanted}) IS NULL"


def _examples(
    con: duckdb.DuckDBPyConnection,
    match: catalogue.Match,
    counts: Mapping[str, str],
    found: Mapping[str, int],
    path: Path,
) -> dict[str, str]:
    """One unreadable value for each column that has some, by the column's name, for the error message."""
    examples = {}
    for column, origin in match.columns:
        name = f"unreadable_{column.name}"
        if origin and found.get(name):
            shown = ", ".join(quoted(published) for published in catalogue.published_names(origin))
            (value,) = con.execute(
                f"SELECT concat_ws(' ', {shown}) FROM read_parquet(?) WHERE {counts[name]} LIMIT 1", [str(path)]
            ).fetchone() or ("",)
            examples[column.name] = repr(str(value)[:60])
    return examples
