"""What all DAGs of the project have in common."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from include.orchestration.alerts import alert_on_failure

WAREHOUSE_POOL = "warehouse"
"""Set-up creates this pool. It has one slot for a DuckDB file, which one process at a time can open."""

DBT_POOL = "dbt"
"""Set-up creates this pool, too. It has one slot, for dbt in a lake."""

DEFAULT_ARGS: dict[str, Any] = {
    "owner": "nyc_taxi",
    "retries": 3,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=30),
    "execution_timeout": timedelta(hours=1),
    "on_failure_callback": alert_on_failure,
}
