"""`make compact`: give the disk back what replaced months have left behind in the warehouse."""

from __future__ import annotations

import sys
from pathlib import Path

from include.nyc_taxi import settings
from include.nyc_taxi.errors import NycTaxiError
from include.nyc_taxi.warehouse import lake
from include.nyc_taxi.warehouse.compact import compact
from warehouse_hook import WarehouseHook, WarehouseLockedError


def run() -> int:
    """Compact the warehouse and say what came of it; returns the exit status."""
    try:
        print(_compact(WarehouseHook()))
    except (NycTaxiError, WarehouseLockedError) as error:
        print(f"make compact: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("make compact: given up; the warehouse is as it was", file=sys.stderr)
        return 130
    return 0


def _compact(hook: WarehouseHook) -> str:
    if hook.is_lake:
        with hook.opened() as con:
            tidied = lake.maintain(con, settings.lake_keep(), settings.lake_abandoned_after())
        return (
            f"{hook.place}: {tidied.merged:,} files merged or rewritten, {tidied.snapshots:,} old snapshots let go of, "
            f"{tidied.removed + tidied.abandoned:,} files removed"
        )
    path = Path(hook.get_database())
    if not path.exists():
        return f"There is no warehouse in a file at {path}: nothing to do."
    with hook.opened() as con:
        con.execute("CHECKPOINT")  # takes in what is beside a large file, or a killed process has left there
    print(f"Copying {path} ({path.stat().st_size / 1e6:,.1f} MB); tasks wait meanwhile …")
    done = compact(WarehouseHook(read_only=True).get_conn, path)
    return f"{done.rows:,} rows, {done.before / 1e6:,.1f} MB before, {done.after / 1e6:,.1f} MB now"
