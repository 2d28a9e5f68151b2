"""`make compact`: reclaim the disk space that replaced months have left behind in the warehouse."""

from __future__ import annotations

from pathlib import Path

from humanize import naturalsize

from include.local.console import say
from include.local.errors import INTERRUPTED, CommandError
from include.nyc_taxi import settings
from include.nyc_taxi.warehouse import lake
from include.nyc_taxi.warehouse.compact import compact
from warehouse_hook import WarehouseHook


def run() -> int:
    """Compact the warehouse, and print the result; returns the exit status."""
    try:
        hook = WarehouseHook()
        say(_tidy_lake(hook) if hook.is_lake else _compact_file(hook))
    except KeyboardInterrupt:
        raise CommandError("interrupted; the warehouse is as it was", INTERRUPTED) from None
    return 0


def _tidy_lake(hook: WarehouseHook) -> str:
    with hook.opened() as con:
        tidied = lake.maintain(con, settings.lake_keep(), settings.lake_abandoned_after())
    return (
        f"{hook.place}: {tidied.merged:,} files merged or rewritten, {tidied.snapshots:,} old snapshots expired, "
        f"{tidied.removed + tidied.abandoned:,} files removed"
    )


def _compact_file(hook: WarehouseHook) -> str:
    path = Path(hook.get_database())
    if not path.exists():
        return f"There is no warehouse in a file at {path}: nothing to do."
    with hook.opened() as con:
        con.execute("CHECKPOINT")  # moves into the file what its log holds: large files keep one, and killed processes
    say(f"Copying {path} ({naturalsize(path.stat().st_size)}); tasks wait meanwhile …")
    done = compact(WarehouseHook(read_only=True).get_conn, path)
    return f"{done.rows:,} rows, {naturalsize(done.before)} before, {naturalsize(done.after)} now"
