"""# Taxi trips, month by month

Loads one month of one fleet's trip records from the TLC's site into the warehouse, counts the trips by zone and draws
maps of Manhattan: `wait_for_file` → `download` → `load` → `aggregate` → `map`.

| | |
|---|---|
| **partition** | the calendar month that contains the run's logical date, unless `month` in the form or in `--conf` names another one |
| **schedule** | monthly, after the end of the month, with catch-up from `NYC_TAXI_FIRST_MONTH` |
| **inputs** | `/trip-data/<fleet>_tripdata_YYYY-MM.parquet` on the TLC's site; the table `zones` |
| **outputs** | the zones, if there are none yet; `raw/<fleet>_tripdata_YYYY-MM.parquet`; the tables `<fleet>_trips`, `loads`, `quality_checks` and `trips_by_zone`; `outputs/<fleet>/manhattan_stats_YYYY-MM.geojson`, `manhattan_map_YYYY-MM.png`, and the same two files for all months together; with `NYC_TAXI_MAP_DENSITY=1` also `manhattan_map_density_YYYY-MM.png`, trips per km² (for a month that is loaded already, clear its task `map`) |

**Unpausing starts the catch-up** of all months since `NYC_TAXI_FIRST_MONTH`, even if *Trigger* unpauses the DAG. `make
backfill` also unpauses it, but holds its schedule back until the backfill ends. A backfill can load earlier months.

**Waiting is normal.** The TLC publishes a month about two months after its end. Until then `wait_for_file` checks every
six hours without occupying a worker (`up_for_reschedule`), and gives up after 120 days.

**If nothing has changed, the run is skipped.** If another run has loaded the edition that the site has, and has drawn its
map, then `load` and the tasks after it are `skipped`, the log of `load` says why, and the run succeeds. A backfill, a run
that is cleared, and a run with *Load again* (`"again": true`) always load the month again.

**One run loads one month.** A scheduled or backfill run whose `month` differs from the month of its date fails at once.
Leave *Month* empty in the *Backfill* dialog, which passes it to every run. A run of a month that has not ended also fails.

**What a failure means.** Every task leaves the last good state: a file is complete or absent, and a month in the warehouse
is replaced entirely or not at all. The error in the log says what was expected, what was found, and what to do.

- `wait_for_file`: the site answers with an error other than "not published".
- `download`: the site closes the connection early, or sends something other than a Parquet file.
- `load`: the file's columns are not those of the fleet, or the month breaks an audit rule of severity `error`. The month
  stays as it was, and `make quality FLEET=<fleet> MONTH=2023-02` shows what was found. To load the file anyway, look at
  it first, then trigger the month with *Accept this edition* in the form. If the month breaks a rule of severity `warn`,
  it is loaded, and the log names the rule. If the file in `raw/` is damaged, clear `download`, which fetches it again.
  If the warehouse has no zones, `load` loads them first, because trips need them; see `taxi_zones` for what can fail.
- `aggregate`, `map`: the disk may be full.
- If a task stays `scheduled` forever, the pool `warehouse` is missing (`airflow pools set warehouse 1 "one writer"`).

**To run a month again**, clear its run in the UI (on 2.11, not if a backfill made the run: docs/how-to/rerun.md), or run
`airflow backfill create --dag-id taxi_trips_<fleet> --from-date 2023-02-01 --to-date 2023-02-01 --reprocess-behavior completed`
on 3.x or `airflow dags backfill -s 2023-02-01 -e 2023-02-01 --reset-dagruns taxi_trips_<fleet>` on 2.11. This replaces
that month and nothing else. To repeat one task and those after it, see docs/how-to/rerun.md.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.standard.operators.python import PythonOperator

from calendar_timetables import START_DATE, CalendarMonthTimetable
from include.nyc_taxi import catalogue, catchup, settings
from include.nyc_taxi.months import Month
from include.orchestration import assets, lineage, month_tasks
from include.orchestration.compat import show_inputs
from include.orchestration.defaults import DEFAULT_ARGS, WAREHOUSE_POOL
from include.orchestration.fleets import fleets_of
from include.orchestration.month import MACROS, MONTH, accept_param, again_param, month_param
from include.orchestration.retry_policy import no_retry_when_permanent
from output_pages import OutputOperator
from tlc_hook import TlcFileSensor, TlcHook


@no_retry_when_permanent
def download(fleet: str, month: str, outlet_events: assets.OutletEvents, **context: Any) -> dict[str, Any]:
    """Fetch the month's file, unless this edition is here already; return what `load` has to know of that."""
    from include.nyc_taxi.source.download import download_month

    with assets.event(outlet_events, assets.trips_file(fleet), month=month) as facts:
        done = download_month(TlcHook(), fleet, month)
        facts.update(path=str(done.path), fetched=done.fetched, **vars(done.edition))
    return month_tasks.for_load(context, done)


@no_retry_when_permanent
def load(fleet: str, month: str, downloaded: Any, **context: Any) -> None:
    """Replace the month in the warehouse by the rows of the file, in one transaction, if they pass the audit.

    Load the zones before, if there are none. Skip the rest of the run if nothing is left to do.
    """
    from include.nyc_taxi.reports import by_week
    from include.nyc_taxi.source.download import month_path
    from include.nyc_taxi.trips.load import load_month
    from warehouse_hook import WarehouseHook

    accept, run_id = bool(context["params"].get("accept")), context["run_id"]
    with assets.event(context["outlet_events"], assets.trips(fleet), month=month) as facts:
        with month_tasks.warehouse_for_load(WarehouseHook(), TlcHook(), fleet, month, downloaded, context) as con:
            done = load_month(con, fleet, Month(month), month_path(fleet, month), run_id, accept=accept)
            if done.weeks:
                by_week.write_csv(con, fleet, settings.outputs_dir(fleet))
        facts.update(month_tasks.load_facts(done))


@no_retry_when_permanent
def aggregate(fleet: str, month: str, outlet_events: assets.OutletEvents) -> Path:
    """Count the month's trips by zone, and write them as GeoJSON."""
    from include.nyc_taxi.reports.by_zone import aggregate_month
    from warehouse_hook import WarehouseHook

    with assets.event(outlet_events, assets.manhattan_stats(fleet), month=month) as facts:
        with WarehouseHook().opened() as con:
            done = aggregate_month(con, fleet, Month(month), settings.outputs_dir(fleet))
        facts.update(rows=done.zones, trips=done.trips, path=str(done.month_file))
    return done.month_file


@no_retry_when_permanent
def draw(fleet: str, month: str, outlet_events: assets.OutletEvents) -> Path:
    """Draw the maps from the GeoJSON files, without opening the warehouse."""
    from include.nyc_taxi.reports import by_week
    from include.nyc_taxi.reports.maps import draw_maps

    outputs = settings.outputs_dir(fleet)
    if by_week.is_chart_old(outputs):  # `load` has counted weeks again
        lineage.tell_weeks_chart(by_week.draw_chart(fleet, outputs))
    with assets.event(outlet_events, assets.manhattan_map(fleet), month=month) as facts:
        done = draw_maps(Month(month), outputs)
        facts.update(path=str(done.month_file), overall_path=str(done.overall_file))
        if done.density_month_file:
            facts.update(density_path=str(done.density_month_file), density_overall_path=str(done.density_overall_file))
    return done.month_file


def make_dag(fleet: str) -> DAG:
    """Make the DAG of one fleet."""
    arguments = {"fleet": fleet, "month": MONTH}
    file, trips = assets.trips_file(fleet), assets.trips(fleet)
    stats, maps = assets.manhattan_stats(fleet), assets.manhattan_map(fleet)
    with DAG(
        dag_id=f"taxi_trips_{fleet}",
        description=f"{catalogue.fleet(fleet).title}: a month of trips, from the TLC's file to maps",
        doc_md=__doc__,
        schedule=CalendarMonthTimetable(first=catchup.start(fleet), dag_id=f"taxi_trips_{fleet}"),
        start_date=START_DATE,
        catchup=True,
        max_active_runs=6,  # two or three of them only wait for months that are not published yet
        default_args=DEFAULT_ARGS | {"op_kwargs": arguments},
        params={"month": month_param(), "again": again_param(), "accept": accept_param()},
        user_defined_macros={**MACROS, "file_path": catalogue.file_path},
        tags=["nyc_taxi", "trips", fleet],
    ) as dag:
        wait_for_file = TlcFileSensor(
            task_id="wait_for_file",
            endpoint=f"{{{{ file_path('{fleet}', logical_month(params, dag_run)) }}}}",
            mode="reschedule",
            poke_interval=timedelta(hours=6),
            timeout=timedelta(days=120),
        )
        download_task = PythonOperator(task_id="download", python_callable=download, outlets=[file])
        load_task = PythonOperator(
            task_id="load",
            python_callable=load,
            op_kwargs=arguments | {"downloaded": download_task.output},
            pool=WAREHOUSE_POOL,
            inlets=[file],  # and the zones, which it may also make: see assets.py
            outlets=[assets.TAXI_ZONES_FILE, assets.TAXI_ZONES, trips],
        )
        aggregate_task = OutputOperator(
            task_id="aggregate",
            python_callable=aggregate,
            pool=WAREHOUSE_POOL,
            inlets=[trips, assets.TAXI_ZONES],
            outlets=[stats],
        )
        map_task = OutputOperator(task_id="map", python_callable=draw, inlets=[stats], outlets=[maps])

        wait_for_file >> download_task >> load_task >> aggregate_task >> map_task
    show_inputs(dag)
    return dag


for name in fleets_of("taxi_trips"):
    globals()[f"taxi_trips_{name}"] = make_dag(name)
