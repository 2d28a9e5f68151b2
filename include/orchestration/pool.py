"""The pools: `warehouse` for as many tasks at a time as the warehouse accepts writers, and `dbt` for dbt in a lake."""

from __future__ import annotations

from include.orchestration.compat import Pool
from include.orchestration.defaults import DBT_POOL, WAREHOUSE_POOL
from warehouse_hook import WarehouseHook


def set_up() -> int:
    """Create the pools, or set their slots; return how many the connection `warehouse` asks for in its pool."""
    hook = WarehouseHook()
    slots = hook.writers
    why = "DuckDB lets one process at a time open the file" if slots == 1 else "writers of the lake at a time"
    Pool.create_or_update_pool(DBT_POOL, slots=1, description="one dbt at a time in a lake", include_deferred=False)
    Pool.create_or_update_pool(WAREHOUSE_POOL, slots=slots, description=why, include_deferred=False)
    return slots
