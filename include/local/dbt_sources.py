"""The dbt project's sources: every table and view of the warehouse, with its columns, tests, freshness and maker.

`make docs` writes them to include/dbt/models/sources.yml from the registry of tables and the catalogue, so that they
never differ from what a load creates.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb

from include.nyc_taxi import catalogue, warehouse
from include.nyc_taxi.catalogue import MEANINGS
from include.nyc_taxi.warehouse import registry

SOURCES = Path("include", "dbt", "models", "sources.yml")

_LOAD = {"dag": "taxi_trips_{fleet}", "task": "load", "partition": "month"}
MADE_BY: Mapping[str, Mapping[str, str]] = {
    "zones": {"dag": "taxi_zones", "task": "load"},
    "trips_by_zone": {"dag": "taxi_trips_{fleet}", "task": "aggregate", "partition": "month"},
    "trips_by_week": {"dag": "trips_by_week_{fleet}", "task": "aggregate", "partition": "week"},
}
"""The DAG and task that make a table, and what one run of the DAG makes of it. All other tables are made by `load`."""

FRESHNESS = {
    "warn_after": {"count": 45, "period": "day"},
    "error_after": {"count": 100, "period": "day"},
}
"""The TLC publishes one month of each fleet a month, so something new should be loaded at least that often."""

_TESTS: Mapping[tuple[str, str], list[Any]] = {
    ("zones", "zone_id"): ["not_null", "unique"],
    ("zones", "zone"): ["not_null"],
    ("zones", "borough"): ["not_null"],
    ("latest_loads", "fleet"): [
        "not_null",
        {"accepted_values": {"arguments": {"values": list(catalogue.FLEETS)}}},
    ],
    ("latest_loads", "partition_month"): ["not_null"],
    ("latest_loads", "rows_loaded"): ["not_null"],
    ("latest_loads", "loaded_at"): ["not_null"],
}
"""dbt's tests of columns. None reads the trips, because such a test would read all months whenever one is built."""

_HEAD = """\
# Made by `make docs` from include/nyc_taxi/warehouse/registry.py and the catalogue; a test fails when it is stale.
version: 2

sources:
  - name: warehouse
    description: "The warehouse that Airflow's DAGs load: trips as published by New York's TLC, zones, loads and counts"
    schema: main
    tables:
"""


def describe_sources() -> str:
    """The text of sources.yml."""
    with duckdb.connect() as con:
        warehouse.ensure_tables(con)
        tables = [(table.name, table.row) for table in registry.tables()]
        tables += [(view.name, view.row) for view in registry.views()]
        return _HEAD + "\n".join(line for table in tables for line in _table(con, *table))


def _table(con: duckdb.DuckDBPyConnection, name: str, row: str) -> Iterator[str]:
    """The lines about a table or view; its columns are one line each."""
    fleet = next((fleet for fleet in catalogue.FLEETS.values() if fleet.table == name), None)
    made_by = {key: value.format(fleet=fleet.name) if fleet else value for key, value in _maker(name).items()}
    config: dict[str, Any] = {"meta": {"made_by": made_by}}
    if name == "latest_loads":
        config |= {"loaded_at_field": "loaded_at", "freshness": FRESHNESS}
    yield f"      - name: {name}"
    yield f"        description: {json.dumps(f'One row is {row}')}"
    yield f"        config: {json.dumps(config)}"
    yield "        columns:"
    for column, kind, *_ in con.execute(f"DESCRIBE {name}").fetchall():
        facts = {"name": column, "data_type": kind.lower(), "description": _meaning(name, column)}
        tests = _TESTS.get((name, column))
        yield f"          - {json.dumps(facts | ({'data_tests': tests} if tests else {}))}"
    yield ""


def _maker(name: str) -> Mapping[str, str]:
    return MADE_BY.get(name, _LOAD)


def _meaning(table: str, column: str) -> str:
    """The column's meaning in this table, if it has one of its own, else the one that it has everywhere."""
    return MEANINGS.get(f"{table}.{column}") or MEANINGS[column]
