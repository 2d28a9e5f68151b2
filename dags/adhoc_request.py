"""# A report on demand

Counts the trips that began in one borough by weekday and hour of the day, over a range of days, and draws the average
number of trips per hour as a heat map of weekday by hour: `check` → `count` → `draw`.

| | |
|---|---|
| **partition** | none: each run is one request, and replaces the report of an earlier request with the same name |
| **schedule** | none: a run starts when somebody asks for it by form, command, REST call or file |
| **inputs** | the table `<fleet>_trips`, in which every month of the date range must be loaded; the tables `loads` and `zones` |
| **outputs** | `outputs/requests/<name>.csv` (one row for each hour of each weekday: `fleet, borough, start_date, end_date, weekday, hour, num_trips`), `outputs/requests/<name>.png`, and `outputs/requests/<name>.csv.source.json`, which records where the trips come from |

**A request** has five values, and all of them are required: `fleet`; `borough`, where the trips began, as the TLC's
lookup spells it (`Manhattan`, `Brooklyn`, `Queens`, `Bronx`, `Staten Island`, `EWR`, `Unknown`, `N/A`); `start_date` and
`end_date`, the first and last day of the pickups, **both included**; and `name`, 1 to 64 letters, digits, `-` and `_`:

    {"fleet": "yellow", "borough": "Queens", "start_date": "2023-01-01", "end_date": "2023-01-31", "name": "queens-january"}

- In the UI, choose *Trigger*. The form has lists and date pickers.
- On the command line, run `airflow dags trigger adhoc_request --conf '{"fleet": "yellow", …}'`.
- Over REST, POST `{"logical_date": null, "conf": {…}}` to `/api/v2/dags/adhoc_request/dagRuns` on 3.x, or `{"conf": {…}}`
  to `/api/v1/dags/adhoc_request/dagRuns` on 2.11.
- To send a file, see `adhoc_request_sensor`.

Airflow refuses a wrong value before it creates a run. `check` also refuses what depends on several values: the last day
must not be before the first, and the first day not before the fleet's first month.

**What a failure means.** The error in the log says what is wrong, and earlier outputs are unchanged. `check`: the
request is wrong; trigger the DAG again with other values. `count`: months are not loaded (the error names them; run
`taxi_trips_<fleet>`), or there are no zones. `draw`: the disk may be full. If a task stays `scheduled` forever, the pool
`warehouse` is missing (`airflow pools set warehouse 1 "one writer"`).

**What the picture shows.** Each cell is the number of trips in that hour of that weekday, divided by the number of times
the weekday occurs in the date range. This makes weekdays comparable for any range. A weekday that does not occur is marked
"no such day". The CSV file has the numbers of trips, not the averages.

**To run a request again**, for example after a month has been reloaded, clear its run, or trigger it with the same values.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param
from airflow.providers.standard.operators.python import PythonOperator

from calendar_timetables import START_DATE
from include.nyc_taxi import catalogue
from include.nyc_taxi.reports import adhoc
from include.orchestration import assets, lineage
from include.orchestration.compat import show_inputs
from include.orchestration.defaults import DEFAULT_ARGS, WAREHOUSE_POOL
from include.orchestration.retry_policy import no_retry_when_permanent
from output_pages import OutputOperator


@no_retry_when_permanent
def check(params: Mapping[str, Any]) -> None:
    """Check the whole request, including what the form cannot check: the order of the dates."""
    adhoc.parse(params)


@no_retry_when_permanent
def count(params: Mapping[str, Any]) -> Path:
    """Count the trips by weekday and hour, and write them to the CSV file."""
    from include.nyc_taxi.reports.adhoc_report import count_trips
    from include.nyc_taxi.settings import outputs_dir
    from warehouse_hook import WarehouseHook

    request = adhoc.parse(params)
    with WarehouseHook().transaction() as con:
        done = count_trips(con, request, outputs_dir("requests"))
    lineage.tell_report_count(request, done)
    return done.csv_file


@no_retry_when_permanent
def draw(params: Mapping[str, Any], outlet_events: assets.OutletEvents) -> Path:
    """Draw the heat map from the CSV file, without opening the warehouse."""
    from include.nyc_taxi.reports.adhoc_chart import draw_report
    from include.nyc_taxi.reports.adhoc_report import csv_path
    from include.nyc_taxi.settings import outputs_dir

    request = adhoc.parse(params)
    with assets.event(outlet_events, assets.ADHOC_REQUEST, **request.model_dump(mode="json")) as facts:
        figures = csv_path(outputs_dir("requests"), request.name)
        done = draw_report(figures)
        facts.update(rows=done.rows, trips=done.trips, path=str(done.picture), csv_path=str(figures))
    return done.picture


with DAG(
    dag_id="adhoc_request",
    description="On demand: a borough's trips by hour and weekday, as CSV and as a heat map",
    doc_md=__doc__,
    schedule=None,
    start_date=START_DATE,
    catchup=False,
    is_paused_upon_creation=False,  # it runs only on request, and a request must not wait for somebody to unpause it
    max_active_runs=4,
    default_args=DEFAULT_ARGS,
    params={field: Param(**schema) for field, schema in adhoc.form().items()},
    tags=["nyc_taxi", "requests"],
) as dag:
    inlets = [*(assets.trips(fleet) for fleet in catalogue.FLEETS), assets.TAXI_ZONES]
    check_task = PythonOperator(task_id="check", python_callable=check)
    count_task = OutputOperator(task_id="count", python_callable=count, pool=WAREHOUSE_POOL, inlets=inlets)
    draw_task = OutputOperator(task_id="draw", python_callable=draw, inlets=inlets, outlets=[assets.ADHOC_REQUEST])

    check_task >> count_task >> draw_task

show_inputs(dag)
