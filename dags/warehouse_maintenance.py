"""# Maintenance of a lake

If the warehouse is a DuckLake, this DAG compacts its files, expires old snapshots and deletes unreferenced files. If the
warehouse is a DuckDB file, there is nothing to do and `maintain` is `skipped`; `make compact` reclaims the space that
replaced months leave behind in such a file.

| | |
|---|---|
| **partition** | none: each run maintains the whole lake |
| **schedule** | daily, without catch-up |
| **inputs** | the lake's catalog; `NYC_TAXI_LAKE_KEEP_DAYS` (7), which is how long past states of the warehouse can be read and how long a query may take; `NYC_TAXI_LAKE_ABANDONED_DAYS` (2), the age after which files orphaned by killed loads are deleted |
| **outputs** | fewer and larger files; no trip, table or view changes |

**Loads and queries can continue.** Files in use are always newer than the cutoffs. If a load commits while files are being
merged, the merge is repeated. A file is deleted `NYC_TAXI_LAKE_KEEP_DAYS` after the last snapshot that contains it has
expired, so a query that started earlier can still read it.

**What a failure means.** The lake is intact, only not fully maintained: each step is a transaction. Either the catalog or
the storage did not answer, or a setting is wrong; the error in the log says which. `files look abandoned; none of them has
been removed` means that one of these files may be in use, so all of them are kept; every other step was completed. See
docs/how-to/lake.md.

**To run it again**, trigger the DAG, clear the task, or type `make compact`.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowSkipException
from airflow.providers.standard.operators.python import PythonOperator
from airflow.timetables.interval import CronDataIntervalTimetable

from calendar_timetables import START_DATE
from include.orchestration.defaults import DEFAULT_ARGS, WAREHOUSE_POOL
from include.orchestration.retry_policy import no_retry_when_permanent


@no_retry_when_permanent
def maintain() -> dict[str, Any]:
    """Compact files, expire old snapshots and delete unreferenced files; return how many."""
    from dataclasses import asdict

    from include.nyc_taxi import settings
    from include.nyc_taxi.warehouse import lake
    from warehouse_hook import WarehouseHook

    hook = WarehouseHook()
    if not hook.is_lake:
        raise AirflowSkipException(f"{hook.place} is not a lake, so there is nothing to do")
    with hook.opened() as con:
        return asdict(lake.maintain(con, settings.lake_keep(), settings.lake_abandoned_after()))


with DAG(
    dag_id="warehouse_maintenance",
    description="If the warehouse is a lake: compacts files, expires old snapshots, deletes unreferenced files",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 3 * * *", timezone="UTC"),
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["nyc_taxi", "maintenance"],
):
    PythonOperator(task_id="maintain", python_callable=maintain, pool=WAREHOUSE_POOL)
