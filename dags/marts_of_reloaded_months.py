"""# Marts of months that were loaded again

Checks every day whether a month has been loaded again since its marts were built, and starts the run of
`trips_marts_<fleet>` that builds them again: `find_reloaded` → `start` (once per load).

| | |
|---|---|
| **partition** | none: each run checks all months that the marts have |
| **schedule** | daily, an hour after `taxi_trips_editions`, without catch-up |
| **inputs** | the table `marts.built_months`, which records from which load a mart has a month, and the view `latest_loads` |
| **outputs** | runs of `trips_marts_<fleet>`, named `reload__YYYY-MM__<time of the load>` |

**One run per load.** The name and the logical date of the run (a moment in its month) follow from the load. Later checks
therefore do not start it again while it is queued or running, or after it has failed. Once the marts are built from the
load, by that run or by `make dbt`, nothing differs any more. `start` does not wait for the run. **If
`trips_marts_<fleet>` is paused, the run stays queued** until somebody unpauses that DAG, which also starts its catch-up.

**Months that the marts do not have** are not this DAG's business: the schedule of `trips_marts_<fleet>`, a backfill or
`make dbt` builds them. Fleets that are not in `NYC_TAXI_FLEETS` are not checked.

**What a failure means.**

- `find_reloaded`: another process had the warehouse open for ten minutes, or `NYC_TAXI_FLEETS` is wrong; the error says
  which.
- `start`: Airflow could not create the run (is `trips_marts_<fleet>` there?), and the next check tries again.

**If the run of a load fails**, it is not started again: fix what its log names, and clear it.

**To run it again**, trigger the DAG, or clear the run. Neither starts a month's run twice.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.standard.operators.python import PythonOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.timetables.interval import CronDataIntervalTimetable

from calendar_timetables import START_DATE
from include.orchestration import lineage
from include.orchestration.defaults import DEFAULT_ARGS, WAREHOUSE_POOL
from include.orchestration.retry_policy import no_retry_when_permanent


@no_retry_when_permanent
def find_reloaded() -> list[dict[str, Any]]:
    """Return the runs to start, one for each month that marts have from another load than the latest one."""
    from include.nyc_taxi import catalogue, settings
    from include.nyc_taxi.reports.marts import reloaded_months
    from include.nyc_taxi.warehouse import made
    from warehouse_hook import WarehouseHook

    with WarehouseHook().transaction() as con:
        found = reloaded_months(con, [catalogue.fleet(fleet).name for fleet in settings.fleets()])
    lineage.tell_reading("latest_loads", made.BUILT_MONTHS)
    return [
        {
            "trigger_dag_id": f"trips_marts_{month.fleet}",
            "trigger_run_id": month.run_id,
            "logical_date": month.logical_date.isoformat(),
            "conf": {"month": str(month.month)},
        }
        for month in found
    ]


with DAG(
    dag_id="marts_of_reloaded_months",
    description="Builds the marts of months again that have been loaded again",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 6 * * *", timezone="UTC"),
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["nyc_taxi", "marts"],
):
    find_reloaded_task = PythonOperator(task_id="find_reloaded", python_callable=find_reloaded, pool=WAREHOUSE_POOL)
    TriggerDagRunOperator.partial(
        task_id="start",
        skip_when_already_exists=True,
        openlineage_inject_parent_info=False,  # the run's configuration is its month and nothing else
        map_index_template="{{ task.trigger_run_id }}",
    ).expand_kwargs(find_reloaded_task.output)
