"""# A report on demand

Counts one borough's trips by hour of the day and weekday over some days, and draws the average trips per hour as a
heat map of weekday by hour: `check` → `count` → `draw`.

| | |
|---|---|
| **partition** | none: a run is one request, and replaces what a request of the same name has made |
| **schedule** | none: runs when asked, by a form, a command, a REST call or a file |
| **inputs** | the table `<fleet>_trips`, of which all months that the dates touch must be loaded; the tables `loads`, `zones` |
| **outputs** | `outputs/requests/<name>.csv` (a row an hour of each weekday: `fleet, borough, start_date, end_date, weekday, hour, num_trips`), `outputs/requests/<name>.png`; `outputs/requests/<name>.csv.source.json`, where the trips come from |

**A request** has five values, all needed: `fleet`; `borough` (of the TLC's lookup: `Manhattan`, `Brooklyn`, `Queens`,
`Bronx`, `Staten Island`, `EWR`, `Unknown`, `N/A`), where the trips began; `start_date` and `end_date`, the days of the
pickups, **both included**; and `name`, 1 to 64 letters, digits, `-` and `_`:

    {"fleet": "yellow", "borough": "Queens", "start_date": "2023-01-01", "end_date": "2023-01-31", "name": "queens-january"}

- In the UI: *Trigger*; the form has lists and date pickers.
- By the CLI: `airflow dags trigger adhoc_request --conf '{"fleet": "yellow", …}'`.
- By REST: on 3.x POST `{"logical_date": null, "conf": {…}}` to `/api/v2/dags/adhoc_request/dagRuns`, on 2.11 `{"conf": {…}}`
  to `/api/v1/dags/adhoc_request/dagRuns`.
- By a file: see `adhoc_request_sensor`.

What breaks a rule is refused before there is a run, and `check` says what no form can: that the dates are in order.

**What a failure means.** The error in the log says what is wrong; earlier outputs stay as they were. `check`: the
request itself; ask again with other values. `count`: months are not loaded (it names them; run `taxi_trips_<fleet>`), or
the zones are not. `draw`: look for a full disk. A task that stays `scheduled` for ever: the pool `warehouse` is missing
(`airflow pools set warehouse 1 "one writer"`).

**What the picture shows.** Each cell is the weekday's trips in that hour divided by how often the weekday occurs in the
days asked for, so weekdays can be compared whatever the days are. A weekday that does not occur is marked as "no such
day". The CSV file has the trips themselves, not the averages.

**To run a request again**, clear its run, for example when a month has been loaded anew; or trigger it with the same
values.
"""

from airflow.providers.common.compat.sdk import DAG, Param
from airflow.providers.standard.operators.python import PythonOperator

from calendar_timetables import START_DATE
from include.nyc_taxi import catalogue
from include.nyc_taxi.reports import adhoc
from include.orchestration import assets
from include.orchestration.compat import show_inputs
from include.orchestration.defaults import DEFAULT_ARGS, WAREHOUSE_POOL
from include.orchestration.retry_policy import no_retry_when_permanent
from output_pages import OutputOperator

FORM = {
    "fleet": Param(
        type="string",
        enum=list(catalogue.FLEETS),
        title="Fleet",
        description="Whose trips to count.",
    ),
    "borough": Param(
        type="string",
        enum=list(adhoc.BOROUGHS),
        title="Borough",
        description="Where the trips began. EWR is Newark Airport, N/A is outside of New York City.",
    ),
    "start_date": Param(
        type="string",
        format="date",
        pattern=adhoc.DATE_PATTERN,
        title="First day",
        description="The first day of the pickups, itself included.",
    ),
    "end_date": Param(
        type="string",
        format="date",
        pattern=adhoc.DATE_PATTERN,
        title="Last day",
        description="The last day of the pickups, itself included.",
    ),
    "name": Param(
        type="string",
        pattern=adhoc.NAME_PATTERN,
        title="Name",
        description="Of the output files: 1 to 64 letters, digits, - and _, the first a letter or digit. An earlier report of this name is replaced.",
    ),
}


@no_retry_when_permanent
def check(params):
    """Check all of the request, also what the form cannot: that the dates are in order."""
    adhoc.parse(params)


@no_retry_when_permanent
def count(params):
    """Count the trips by weekday and hour, into the CSV file."""
    from include.nyc_taxi.reports.adhoc_report import count_trips
    from include.nyc_taxi.settings import outputs_dir
    from warehouse_hook import WarehouseHook

    with WarehouseHook().transaction() as con:
        return count_trips(con, adhoc.parse(params), outputs_dir("requests")).csv_file


@no_retry_when_permanent
def draw(params, outlet_events):
    """Draw the heat map from the CSV file. Needs no lock on the warehouse."""
    from include.nyc_taxi.reports.adhoc_chart import draw_report
    from include.nyc_taxi.reports.adhoc_report import csv_path
    from include.nyc_taxi.settings import outputs_dir

    request = adhoc.parse(params)
    with assets.event(outlet_events, assets.ADHOC_REQUEST, **request.values()) as facts:
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
    is_paused_upon_creation=False,  # runs only when asked, and one who asks should not wait for ever
    max_active_runs=4,
    default_args=DEFAULT_ARGS,
    params=FORM,
    tags=["nyc_taxi", "requests"],
) as dag:
    check_task = PythonOperator(
        task_id="check",
        python_callable=check,
    )
    count_task = OutputOperator(
        task_id="count",
        python_callable=count,
        pool=WAREHOUSE_POOL,
        inlets=[assets.trips(fleet) for fleet in catalogue.FLEETS],
    )
    draw_task = OutputOperator(
        task_id="draw",
        python_callable=draw,
        inlets=[assets.trips(fleet) for fleet in catalogue.FLEETS],
        outlets=[assets.ADHOC_REQUEST],
    )

    check_task >> count_task >> draw_task

show_inputs(dag)
