"""# Taxi zones

Loads the TLC's zone lookup and zone geometry into the table `zones`: 265 rows, with shapes as WKT in WGS84.

| | |
|---|---|
| **partition** | none: each run replaces all zones |
| **schedule** | monthly, because the zones hardly ever change |
| **inputs** | `/misc/taxi_zone_lookup.csv` and `/misc/taxi_zones.zip` on the TLC's site |
| **outputs** | `raw/taxi_zone_lookup.csv`, `raw/taxi_zones.zip`, the table `zones` |

**A failure** leaves the zones as they were. `download`: the site could not be reached, or sent something other than the two
files. `load`: a file cannot be read, or the two files disagree. The message names the file or zone and what is wrong with
it. This is not retried. Do not edit the files: clear `download`, which fetches them again. If that does not help, the TLC
has changed the file.

**The zones' ids** are in the shapefile's column `LocationID`. In the file that the TLC had until January 2026, three rows
had a wrong `LocationID`, and the ids are in `OBJECTID`. `load` uses the column that gives every zone its name in the lookup,
and logs which one that is.

**To run it again**, clear the task, or trigger the DAG. Runs of `taxi_trips_<fleet>` do not depend on this DAG: their task
`load` loads the zones if the warehouse has none.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.standard.operators.python import PythonOperator

from calendar_timetables import START_DATE, CalendarMonthTimetable
from include.orchestration import assets, zones
from include.orchestration.compat import show_inputs
from include.orchestration.defaults import DEFAULT_ARGS, WAREHOUSE_POOL
from include.orchestration.retry_policy import no_retry_when_permanent


@no_retry_when_permanent
def download(outlet_events: assets.OutletEvents) -> None:
    """Fetch the lookup and the shapefile, unless these editions are here already."""
    from tlc_hook import TlcHook

    zones.download_zones(TlcHook(), outlet_events)


@no_retry_when_permanent
def load(outlet_events: assets.OutletEvents) -> None:
    """Replace the table `zones` in one transaction."""
    from warehouse_hook import WarehouseHook

    zones.load_zones(WarehouseHook(), outlet_events)


with DAG(
    dag_id="taxi_zones",
    description="The TLC's 265 taxi zones, into the warehouse",
    doc_md=__doc__,
    schedule=CalendarMonthTimetable(),
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["nyc_taxi", "zones"],
) as dag:
    files, table = [assets.TAXI_ZONES_FILE], [assets.TAXI_ZONES]
    download_task = PythonOperator(task_id="download", python_callable=download, outlets=files)
    load_task = PythonOperator(task_id="load", python_callable=load, pool=WAREHOUSE_POOL, inlets=files, outlets=table)

    download_task >> load_task

show_inputs(dag)
