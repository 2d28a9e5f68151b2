"""The pool `warehouse`: as many tasks at a time as the warehouse accepts writers."""

from __future__ import annotations

from include.orchestration.compat import Pool
from include.orchestration.defaults import WAREHOUSE_POOL
from warehouse_hook import WarehouseHook


def set_up() -> int:
    """Create the pool, or set its slots to what the connection `warehouse` asks for; return their number."""
    hook = WarehouseHook()
    slots = hook.writers
    why = "DuckDB lets one process at a time open the file" if slots == 1 else "writers of the lake at a time"
    Pool.create_or_update_pool(WAREHOUSE_POOL, slots=slots, description=why, include_deferred=False)
    return slots
