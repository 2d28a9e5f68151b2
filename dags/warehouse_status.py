"""# Is the warehouse fresh?

Logs a table with one row per fleet and month: state, published, downloaded, loaded, edition, rows, age. Months that are
MISSING or FAILED stand out. A loaded month counts as loaded even if its last run failed or was cancelled. Below the table,
one sentence for each gap in the history gives the command that closes it. `make status` prints the same report.

| | |
|---|---|
| **partition** | none: each run reports all months from `NYC_TAXI_FIRST_MONTH`, or from the first loaded month, to the last one that has ended |
| **schedule** | daily, without catch-up |
| **inputs** | the table `loads`; `raw/`; the states of the runs of `taxi_trips_<fleet>`; a HEAD request to the TLC's site for each month that has not been downloaded |
| **outputs** | the log of the task `report`; nothing is changed |

**A failure says nothing about the data.** Gaps and failed months do not fail the task, and if the site cannot be reached,
the report shows `?`. `report` fails if another process has the warehouse open for ten minutes (a DuckDB shell or a
notebook?), or if a setting is wrong (`NYC_TAXI_FLEETS`, `NYC_TAXI_FIRST_MONTH`); the error in its log says which.

**To run it again**, trigger the DAG, clear the task, or type `make status`.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.standard.operators.python import PythonOperator
from airflow.timetables.interval import CronDataIntervalTimetable

from calendar_timetables import START_DATE
from include.orchestration.defaults import DEFAULT_ARGS, WAREHOUSE_POOL
from include.orchestration.retry_policy import no_retry_when_permanent


@no_retry_when_permanent
def report() -> None:
    """Log the state of every month of every fleet."""
    import logging

    from include.nyc_taxi import settings
    from include.orchestration import lineage, status
    from warehouse_hook import WarehouseHook

    log = logging.getLogger("warehouse_status")
    for line in status.report(WarehouseHook(), settings.fleets()).splitlines():
        log.info("%s", line)
    lineage.tell_reading("latest_loads")


with DAG(
    dag_id="warehouse_status",
    description="How fresh the warehouse is: every month of every fleet, with gaps and failures",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 6 * * *", timezone="UTC"),
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["nyc_taxi", "status"],
):
    PythonOperator(task_id="report", python_callable=report, pool=WAREHOUSE_POOL)
