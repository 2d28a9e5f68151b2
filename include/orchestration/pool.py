"""The pool `warehouse`: as many tasks at a time as the warehouse takes writers."""

from __future__ import annotations

from airflow.models.pool import Pool

from include.orchestration.defaults import WAREHOUSE_POOL
from warehouse_hook import WarehouseHook


def set_up() -> int:
    """Make the pool, or give it the slots that the connection `warehouse` asks for; returns their number."""
    hook = WarehouseHook()
    slots = hook.writers
    why = "DuckDB lets one process at a time open the file" if slots == 1 else "writers of the lake at a time"
    Pool.create_or_update_pool(WAREHOUSE_POOL, slots=slots, description=why, include_deferred=False)
    return slots
