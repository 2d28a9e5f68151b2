"""# Keeping the lake tidy

Where the warehouse is a DuckLake: merges small files into greater ones, lets go of old snapshots, and removes the files
that are then nobody's. Where it is a DuckDB file there is nothing to do, and `maintain` is `skipped`; `make compact` gives back
the space that replaced months leave in such a file.

| | |
|---|---|
| **partition** | none: a run tidies the whole lake |
| **schedule** | daily, without catch-up |
| **inputs** | the lake's catalog; `NYC_TAXI_LAKE_KEEP_DAYS` (7): how long past states of the warehouse can be read, and a query may take; `NYC_TAXI_LAKE_ABANDONED_DAYS` (2): how old a file is that a killed load has left |
| **outputs** | fewer files; no trip, table or view changes |

**Loads and readers go on meanwhile.** What they have open is younger than the limits; what is merged while a load commits
is merged again. A file goes when the snapshots that had it have been gone for `NYC_TAXI_LAKE_KEEP_DAYS` too: a query that had begun reads on.

**What a failure means.** The lake is as good as before, only less tidy: each step is a transaction. The catalog or the storage
did not answer, or a setting is wrong; the error in the log says which. `files look abandoned; none of them has been removed`: one of them
may be in use, so all of them stay; all else is done. docs/how-to/lake.md says what to look for.

**To run it again**, trigger the DAG, clear the task, or type `make compact`.
"""

from airflow.providers.common.compat.sdk import DAG, AirflowSkipException
from airflow.providers.standard.operators.python import PythonOperator
from airflow.timetables.interval import CronDataIntervalTimetable

from calendar_timetables import START_DATE
from include.orchestration.defaults import DEFAULT_ARGS, WAREHOUSE_POOL
from include.orchestration.retry_policy import no_retry_when_permanent


@no_retry_when_permanent
def maintain():
    """Merge files, let go of old snapshots, remove what is nobody's; say how much."""
    from dataclasses import asdict

    from include.nyc_taxi import settings
    from include.nyc_taxi.warehouse import lake
    from warehouse_hook import WarehouseHook

    hook = WarehouseHook()
    if not hook.is_lake:
        raise AirflowSkipException(f"{hook.place} is no lake: nothing to do")
    with hook.opened() as con:
        return asdict(lake.maintain(con, settings.lake_keep(), settings.lake_abandoned_after()))


with DAG(
    dag_id="warehouse_maintenance",
    description="Where the warehouse is a lake: merge small files, let go of old snapshots and of files nobody needs",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 3 * * *", timezone="UTC"),
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["nyc_taxi", "maintenance"],
):
    PythonOperator(task_id="maintain", python_callable=maintain, pool=WAREHOUSE_POOL)
