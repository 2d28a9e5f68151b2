"""# Taxi zones

Brings the TLC's zone lookup and zone geometry into the table `zones`: 265 rows, shapes as WKT in WGS84.

| | |
|---|---|
| **partition** | none: each run replaces all zones |
| **schedule** | monthly; the zones hardly ever change |
| **inputs** | `/misc/taxi_zone_lookup.csv` and `/misc/taxi_zones.zip` of the TLC's site |
| **outputs** | `raw/taxi_zone_lookup.csv`, `raw/taxi_zones.zip`, the table `zones` |

**A failure** leaves the zones as they were. `download`: the site could not be reached, or answered with something else
than the two files. `load`: a file cannot be read, or the two disagree, and the message says what is wrong with which file
or zone; that is not retried. Do not mend the files by hand: clear `download`, which then fetches the file anew. If that
does not help, the TLC has changed the file.

**The zones' ids** are in the shapefile's column `LocationID` (`OBJECTID` in the file that the TLC had until January 2026,
where three rows had a wrong `LocationID`): whichever gives every zone its name in the lookup. The log of `load` says which.

**To run it again**, clear the task, or trigger the DAG. Runs of `taxi_trips_<fleet>` do not depend on this one: their
task `prepare` loads the zones itself if the warehouse has none yet.
"""

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.standard.operators.python import PythonOperator

from calendar_timetables import START_DATE, CalendarMonthTimetable
from include.orchestration import assets
from include.orchestration.compat import show_inputs
from include.orchestration.defaults import DEFAULT_ARGS, WAREHOUSE_POOL
from include.orchestration.retry_policy import no_retry_when_permanent


@no_retry_when_permanent
def download(outlet_events):
    """Fetch the lookup and the shapefile, unless the same editions are here."""
    from include.orchestration.zones import download_zones
    from tlc_hook import TlcHook

    download_zones(TlcHook(), outlet_events)


@no_retry_when_permanent
def load(outlet_events):
    """Replace the table `zones` in one transaction."""
    from include.orchestration.zones import load_zones
    from warehouse_hook import WarehouseHook

    load_zones(WarehouseHook(), outlet_events)


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
    download_task = PythonOperator(
        task_id="download",
        python_callable=download,
        outlets=[assets.TAXI_ZONES_FILE],
    )
    load_task = PythonOperator(
        task_id="load",
        python_callable=load,
        pool=WAREHOUSE_POOL,
        inlets=[assets.TAXI_ZONES_FILE],
        outlets=[assets.TAXI_ZONES],
    )

    download_task >> load_task

show_inputs(dag)
