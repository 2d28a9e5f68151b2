"""`make migrate TO=<connection>`: copy the warehouse from a DuckDB file into a lake, or back."""

from __future__ import annotations

from pathlib import Path

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from include.local.console import say
from include.local.errors import INTERRUPTED, WRONG_USE, CommandError
from include.nyc_taxi.warehouse.migrate import migrate
from warehouse_hook import WarehouseHook


def run(to: str) -> int:
    """Copy the warehouse of the connection `warehouse` into that of the connection `to`; returns the exit status."""
    if not to:
        raise CommandError("expected TO=<connection>, found nothing; see docs/how-to/lake.md", WRONG_USE)
    try:
        source, target = WarehouseHook(), WarehouseHook(duckdb_conn_id=to)
        _check(source, target)
        say(f"Copying {source.place} into {target.place} …")
        rows = _migrate(source, target)
    except AirflowNotFoundException:
        message = f"there is no connection {to!r}: docs/how-to/lake.md says how to define one"
        raise CommandError(message, WRONG_USE) from None
    except KeyboardInterrupt:
        raise CommandError("interrupted; run it again to go on", INTERRUPTED) from None
    say(
        f"{rows:,} rows, the same on both sides. To use the copy, set the connection `warehouse` to the values of "
        f"{to!r}, and run `make pool`. The original has not been changed"
    )
    return 0


def _check(source: WarehouseHook, target: WarehouseHook) -> None:
    if source.is_lake == target.is_lake:
        kind = "lakes" if source.is_lake else "DuckDB files"
        raise CommandError(f"expected a DuckDB file and a lake, found two {kind}: {source.place} and {target.place}")
    if not source.exists():
        raise CommandError(f"there is no warehouse at {source.place}: nothing to copy")


def _migrate(source: WarehouseHook, target: WarehouseHook) -> int:
    in_lake, in_file = (target, source) if target.is_lake else (source, target)
    path = Path(in_file.get_database()).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with in_lake.opened() as con:
        return migrate(con, str(path), into_lake=in_lake is target, say=say)
