"""All that a backfill leaves behind, as checksums: what must be the same whatever happened on the way."""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

import duckdb
import numpy
from PIL import Image

LEFT_OUT = frozenset({"loaded_at", "checked_at", "run_id"})
"""Columns that say when, and by which run: the only ones that may differ."""

LEFT_OUT_RULES = ("nulls_as_before", "rows_as_in_12_months", "rows_as_a_year_before", "rows_as_edition_before")
"""Rules of `quality_checks` that compare a month with those loaded before it, or with its own load before. Months of a
backfill are loaded in no particular order, also when nothing disturbs it; a load that is killed after its commit is
done again."""

NO_PUNCTUATION = str.maketrans("", "", '()" ')
"""In a view's text DuckDB writes these in one way for a file and in another for a lake."""

LAKES_OWN = "turns"
"""The table of a lake that a file has not: it counts the writers."""


def fingerprint(data_dir: Path, con: duckdb.DuckDBPyConnection | None = None) -> dict[str, str]:
    """A checksum of each table (over its rows in order), of each view's text and of each file in the data directory.

    Pictures count by their pixels, the snapshot for the web UI by what it says about months and weeks, records of uses
    by their existence, and all other files by their bytes. Every file counts, hidden ones too: what a killed task has
    left under a temporary name is a difference.

    Args:
        con: to a warehouse that is elsewhere, a lake; else it is the DuckDB file in the data directory.
    """
    warehouse = data_dir / "warehouse.duckdb"
    if con:
        found = _tables(con)
    else:
        # Not read-only: this is also the first to open the warehouse after a task was killed in it.
        with contextlib.closing(duckdb.connect(str(warehouse))) as opened:
            found = _tables(opened)
    for path in sorted(data_dir.rglob("*")):
        if path.is_file() and path != warehouse:
            found[str(path.relative_to(data_dir))] = _checksum(_content(path))
    return found


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """What is missing, what should not be there, and what is not the same; empty when all is."""
    return [
        *(f"missing: {name}" for name in sorted(expected.keys() - found.keys())),
        *(f"left over: {name}" for name in sorted(found.keys() - expected.keys())),
        *(f"different: {name}" for name in sorted(expected.keys() & found.keys()) if expected[name] != found[name]),
    ]


def _tables(con: duckdb.DuckDBPyConnection) -> dict[str, str]:
    found = {}
    columns = con.execute(
        "SELECT table_name, list(column_name || ' ' || data_type ORDER BY ordinal_position) "
        "FROM information_schema.columns WHERE table_catalog = current_database() GROUP BY ALL"
    ).fetchall()
    views = dict(
        con.execute(
            "SELECT view_name, sql FROM duckdb_views() WHERE NOT internal AND database_name = current_database()"
        ).fetchall()
    )
    for table, layout in columns:
        if table in views:
            found[f"view {table}"] = _checksum(views[table].translate(NO_PUNCTUATION).encode())
            continue
        if table == LAKES_OWN:
            continue
        kept = [name for name in (column.split()[0] for column in layout) if name not in LEFT_OUT]
        where = f"WHERE rule NOT IN {LEFT_OUT_RULES}" if table == "quality_checks" else ""
        rows = con.execute(f"SELECT {', '.join(kept)} FROM {table} {where} ORDER BY ALL").fetchall()
        found[f"table {table}"] = f"{len(rows)} rows, {_checksum(repr((layout, rows)).encode())}"
    return found


def _content(path: Path) -> bytes:
    if path.parent.name == "status" and path.suffix == ".jsonl":
        return b""  # they say when, and how often: what was killed has been done again
    if path.parent.name == "status" and path.suffix == ".json":
        return repr(_snapshot(json.loads(path.read_text()))).encode()
    if path.suffix != ".png" or path.name.startswith("."):
        return path.read_bytes()
    with Image.open(path) as picture:
        return repr((picture.mode, picture.size)).encode() + numpy.asarray(picture).tobytes()


def _snapshot(document: dict[str, Any]) -> list[Any]:
    """What a file of the snapshot says, without the columns and rules that may differ: the same as the warehouse.

    It is the head, which names the fleets, or the part of a fleet.
    """
    if "fleets" in document:
        return [sorted(document["fleets"]), document["zones"]]
    names = [rule for rule, *_ in document["rules"]]

    def said(values: dict[str, Any] | None) -> list[Any] | None:
        if values is None:
            return None
        checks = sorted([names[number], *result] for number, *result in values["checks"])
        rest = {name: value for name, value in values.items() if name not in {*LEFT_OUT, "at", "checks"}}
        return [rest, [check for check in checks if check[0] not in LEFT_OUT_RULES]]

    months = [(key, [said(values) for values in month]) for key, month in document["months"].items()]
    return [months, document["weeks"]]


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
