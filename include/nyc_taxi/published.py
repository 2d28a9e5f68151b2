"""From a file as the TLC published it to our columns: names, types, codes and places."""

from datetime import date
from pathlib import Path

import duckdb

from include.nyc_taxi import coordinates, tlc


def select(con: duckdb.DuckDBPyConnection, match: tlc.Match, start: date, path: Path) -> tuple[str, dict[str, object]]:
    """The query for a file's rows as rows of the month that begins at `start`, and its bound values.

    Raises:
        ZonesError: the file has coordinates, and there are no zones.
    """
    # The file's spelling of a name is quoted; that it is one of the catalogue's was checked by match_columns.
    places = {c.name: origin for c, origin in match.columns if isinstance(origin, tlc.Coordinates)}
    if places:
        coordinates.prepare(con)
    columns = ", ".join(
        f"CAST({_value(column, origin)} AS {column.type}) AS {column.name}" for column, origin in match.columns
    )
    joins = " ".join(coordinates.join(*_degrees(at), name) for name, at in places.items())
    query = f"SELECT {columns}, CAST($month AS DATE) AS partition_month FROM read_parquet($path) {joins}"
    return query, {"month": start, "path": str(path)}


def _value(column: tlc.Column, origin: tlc.Origin | None) -> str:
    """SQL for a column of ours over the file's columns."""
    if origin is None:
        return "NULL"
    if isinstance(origin, tlc.Coordinates):
        return coordinates.zone_id(*_degrees(origin), column.name)
    if isinstance(origin, tlc.Coded):
        cases = " ".join(f"WHEN {_literal(text)} THEN {_literal(code)}" for text, code in origin.codes.items())
        return f"CASE {_text(origin)} {cases} END"
    return _quoted(origin)


def _degrees(at: tlc.Coordinates) -> tuple[str, str]:
    """SQL for a place's longitude and latitude."""
    return f"CAST({_quoted(at.longitude)} AS DOUBLE)", f"CAST({_quoted(at.latitude)} AS DOUBLE)"


def _text(origin: tlc.Coded) -> str:
    """SQL for a text as the catalogue's codes have it."""
    return f"upper(trim(CAST({_quoted(origin.published_as)} AS VARCHAR)))"


def count_lost(con: duckdb.DuckDBPyConnection, match: tlc.Match, path: Path, rows: str) -> dict[str, int]:
    """Count what has become null for want of an id, where it was something else in the file.

    Args:
        rows: SQL to read the rows that `select` has made of the file, as a FROM clause has it.

    Returns:
        Where texts or places have become ids, how many did not, by name: `unknown_<column>` (a text that the catalogue
        does not have), `zero_<column>` and `outside_<column>` (coordinates that are zero, or elsewhere than in a zone).
    """
    counts: dict[str, str] = {}
    for column, origin in match.columns:
        if isinstance(origin, tlc.Coded):
            known = ", ".join(map(_literal, origin.codes))
            counts[f"unknown_{column.name}"] = f"count_if({_text(origin)} NOT IN ({known}))"
        elif isinstance(origin, tlc.Coordinates):
            longitude, latitude = _degrees(origin)
            is_known = f"{longitude} IS NOT NULL AND {latitude} IS NOT NULL"
            counts[f"zero_{column.name}"] = f"count_if({is_known} AND ({longitude} = 0 OR {latitude} = 0))"
            # All places; what has become a zone, and what is zero, is taken off below.
            counts[f"outside_{column.name}"] = f"count_if({is_known})"
    if not counts:
        return {}
    numbers = ", ".join(f"coalesce({sql}, 0)" for sql in counts.values())
    row = con.execute(f"SELECT {numbers} FROM read_parquet(?)", [str(path)]).fetchone() or ()
    found: dict[str, int] = dict(zip(counts, row, strict=True))
    for name in (column.name for column, origin in match.columns if isinstance(origin, tlc.Coordinates)):
        (placed,) = con.execute(f"SELECT count({name}) FROM {rows}").fetchone() or (0,)
        found[f"outside_{name}"] -= found[f"zero_{name}"] + placed
    return found


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(value: int | str | None) -> str:
    """A constant of the catalogue in SQL."""
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else f"'{value}'"
