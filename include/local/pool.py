"""`make pool`: the pools of tasks that open the warehouse and of those that run dbt."""

from __future__ import annotations

from include.local.console import say
from include.orchestration import pool, pool_holders


def run() -> int:
    """Create the pools, or set their slots; returns the exit status."""
    say(f"pool warehouse: {pool.set_up()} slots; pool dbt: 1 slot")
    return 0


def set_up_and_release() -> None:
    """Create the pools, and release slots held by tasks that nobody runs. Only if Airflow runs on no other machine."""
    pool.set_up()
    for holder in pool_holders.release():
        say(f"A task held a slot of the pool `{holder.pool}`, and has been marked failed: {holder}")
