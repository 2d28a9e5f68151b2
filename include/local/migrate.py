"""`make migrate TO=<connection>`: copy the warehouse from a DuckDB file into a lake, or back."""

from __future__ import annotations

import sys
from pathlib import Path

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from include.nyc_taxi.errors import NycTaxiError
from include.nyc_taxi.warehouse.migrate import MigrateError, migrate
from warehouse_hook import WarehouseHook


def run(to: str) -> int:
    """Copy what the connection `warehouse` says into what the connection `to` says; returns the exit status."""
    if not to:
        print("make migrate: expected TO=<connection>, found nothing; see docs/how-to/lake.md", file=sys.stderr)
        return 2
    try:
        source, target = WarehouseHook(), WarehouseHook(duckdb_conn_id=to)
        _check(source, target)
        print(f"Copying {source.place} into {target.place} …")
        rows = _migrate(source, target)
    except AirflowNotFoundException:
        message = f"make migrate: there is no connection {to!r}: docs/how-to/lake.md says how to define one"
        print(message, file=sys.stderr)
        return 2
    except (NycTaxiError, ValueError) as error:
        print(f"make migrate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("make migrate: given up; run it again to go on", file=sys.stderr)
        return 130
    print(
        f"{rows:,} rows, all the same on both sides. To use the copy, have the connection `warehouse` say what {to!r} "
        "says, and run `make pool`; what was copied from is as it was"
    )
    return 0


def _check(source: WarehouseHook, target: WarehouseHook) -> None:
    if source.is_lake == target.is_lake:
        kind = "lakes" if source.is_lake else "DuckDB files"
        raise MigrateError(f"expected a DuckDB file and a lake, found two {kind}: {source.place} and {target.place}")
    if not source.exists():
        raise MigrateError(f"there is no warehouse at {source.place}: nothing to copy")


def _migrate(source: WarehouseHook, target: WarehouseHook) -> int:
    in_lake, in_file = (target, source) if target.is_lake else (source, target)
    path = Path(in_file.get_database()).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with in_lake.opened() as con:
        return migrate(con, str(path), into_lake=in_lake is target, say=print)
