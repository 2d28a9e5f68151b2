"""# Taxi trips, month by month

Brings one month of one fleet's trip records from the TLC's site into the warehouse, counts the trips by zone and draws
maps of Manhattan: `wait_for_file` → `download` → `load` → `aggregate` → `map`.

| | |
|---|---|
| **partition** | the calendar month that contains the run's logical date; `month` in the form or `--conf` comes first |
| **schedule** | monthly when the month has ended, with catch-up from `NYC_TAXI_FIRST_MONTH` |
| **inputs** | `/trip-data/<fleet>_tripdata_YYYY-MM.parquet` of the TLC's site; the table `zones` |
| **outputs** | `raw/<fleet>_tripdata_YYYY-MM.parquet`; the tables `<fleet>_trips`, `loads`, `trips_by_zone`; `outputs/<fleet>/manhattan_stats_YYYY-MM.geojson`, `manhattan_map_YYYY-MM.png`, and both over all months |

**Unpausing starts the catch-up** on all months since `NYC_TAXI_FIRST_MONTH`. A backfill may go further back.

**Waiting is normal.** The TLC publishes a month about two months after its end. Until then `wait_for_file` looks every
six hours (`up_for_reschedule`; no worker is held) and gives up after 120 days.

**What a failure means.** Every task leaves the last good state: a file is complete or absent, a month in the warehouse
is replaced as a whole or not at all. The last line of the log says what was expected, what was found, what to do.
`wait_for_file`: the site answers with an error other than "not published". `download`: it breaks off, or sends something
that is no Parquet file. `ensure_zones`: the zones could not be loaded; see `taxi_zones`. `load`: the file's columns or
values are not the fleet's, or a check failed; the month stays as it was. `aggregate`, `map`: look for a full disk.
A task that stays `scheduled` for ever: the pool `warehouse` is missing (`airflow pools set warehouse 1 "one writer"`).

**To run a month again**, clear its run in the UI, or on 3.x
`airflow backfill create --dag-id taxi_trips_<fleet> --from-date 2023-02-01 --to-date 2023-02-01 --reprocess-behavior completed`,
on 2.11 `airflow dags backfill -s 2023-02-01 -e 2023-02-01 --reset-dagruns taxi_trips_<fleet>`. It replaces that month
and nothing else.
"""

import os
from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.standard.operators.python import PythonOperator

from calendar_timetables import START_DATE, CalendarMonthTimetable
from include.nyc_taxi import tlc
from include.nyc_taxi.months import first_day
from include.orchestration import assets
from include.orchestration.defaults import DEFAULT_ARGS, WAREHOUSE_POOL
from include.orchestration.month import MACROS, MONTH, month_param
from include.orchestration.permanent import no_retry_when_permanent
from tlc_hook import TlcFileSensor

FLEETS = [name.strip() for name in os.environ.get("NYC_TAXI_FLEETS", "yellow,green").split(",") if name.strip()]
FIRST_MONTH = os.environ.get("NYC_TAXI_FIRST_MONTH", "2023-01")


@no_retry_when_permanent
def download(fleet, month, outlet_events):
    """Fetch the month's file, unless the same edition is here."""
    from include.nyc_taxi.download import download_month
    from tlc_hook import TlcHook

    with assets.event(outlet_events, assets.trips_file(fleet), month=month) as facts:
        done = download_month(TlcHook(), fleet, month)
        facts.update(path=str(done.path), fetched=done.fetched, **vars(done.edition))


@no_retry_when_permanent
def ensure_zones():
    """Load the zones if the warehouse has none yet: trips are never loaded before them."""
    from include.nyc_taxi import zones
    from tlc_hook import TlcHook
    from warehouse_hook import WarehouseHook

    with WarehouseHook().transaction() as con:
        if zones.count_zones(con):
            return
    rows = zones.read_zones(*(done.path for done in zones.download_zones(TlcHook())))
    with WarehouseHook().transaction() as con:
        zones.load_zones(con, rows)


@no_retry_when_permanent
def load(fleet, month, run_id, outlet_events):
    """Replace the month in the warehouse by the file's rows, in one transaction."""
    from include.nyc_taxi.download import month_path
    from include.nyc_taxi.load import load_month
    from warehouse_hook import WarehouseHook

    with assets.event(outlet_events, assets.trips(fleet), month=month) as facts:
        with WarehouseHook().transaction() as con:
            done = load_month(con, fleet, month, month_path(fleet, month), run_id)
        facts.update(rows=done.rows_loaded, bytes=done.bytes, etag=done.etag, quality=done.quality)


def aggregate(fleet, month, outlet_events):
    """Count the month's trips by zone, and write them as GeoJSON."""
    from include.nyc_taxi.aggregate import aggregate_month
    from include.nyc_taxi.settings import outputs_dir
    from warehouse_hook import WarehouseHook

    with assets.event(outlet_events, assets.manhattan_stats(fleet), month=month) as facts:
        with WarehouseHook().transaction() as con:
            done = aggregate_month(con, fleet, month, outputs_dir(fleet))
        facts.update(rows=done.zones, trips=done.trips, path=str(done.month_file))


def draw(fleet, month, outlet_events):
    """Draw the maps from the GeoJSON files. Needs no lock on the warehouse."""
    from include.nyc_taxi.maps import draw_maps
    from include.nyc_taxi.settings import outputs_dir

    with assets.event(outlet_events, assets.manhattan_map(fleet), month=month) as facts:
        done = draw_maps(month, outputs_dir(fleet))
        facts.update(path=str(done.month_file), overall_path=str(done.overall_file))


def make_dag(fleet):
    """The DAG of one fleet."""
    arguments = {"fleet": fleet, "month": MONTH}
    with DAG(
        dag_id=f"taxi_trips_{fleet}",
        description=f"{tlc.fleet(fleet).title}: a month of trips from the TLC's file to maps",
        doc_md=__doc__,
        schedule=CalendarMonthTimetable(first=first_day(max(FIRST_MONTH, tlc.fleet(fleet).first_month))),
        start_date=START_DATE,
        catchup=True,
        max_active_runs=6,  # some of them only wait: two or three months are not published yet at any time
        default_args=DEFAULT_ARGS,
        params={"month": month_param()},
        user_defined_macros={**MACROS, "file_path": tlc.file_path},
        tags=["nyc_taxi", "trips", fleet],
    ) as dag:
        wait_for_file = TlcFileSensor(
            task_id="wait_for_file",
            endpoint=f"{{{{ file_path('{fleet}', logical_month(params, dag_run)) }}}}",
            mode="reschedule",
            poke_interval=timedelta(hours=6),
            timeout=timedelta(days=120),
        )
        download_task = PythonOperator(
            task_id="download",
            python_callable=download,
            op_kwargs=arguments,
            outlets=[assets.trips_file(fleet)],
        )
        ensure_zones_task = PythonOperator(
            task_id="ensure_zones",
            python_callable=ensure_zones,
            pool=WAREHOUSE_POOL,
        )
        load_task = PythonOperator(
            task_id="load",
            python_callable=load,
            op_kwargs=arguments,
            pool=WAREHOUSE_POOL,
            inlets=[assets.trips_file(fleet), assets.TAXI_ZONES],
            outlets=[assets.trips(fleet)],
        )
        aggregate_task = PythonOperator(
            task_id="aggregate",
            python_callable=aggregate,
            op_kwargs=arguments,
            pool=WAREHOUSE_POOL,
            inlets=[assets.trips(fleet), assets.TAXI_ZONES],
            outlets=[assets.manhattan_stats(fleet)],
        )
        map_task = PythonOperator(
            task_id="map",
            python_callable=draw,
            op_kwargs=arguments,
            inlets=[assets.manhattan_stats(fleet)],
            outlets=[assets.manhattan_map(fleet)],
        )

        wait_for_file >> download_task >> load_task >> aggregate_task >> map_task
        ensure_zones_task >> load_task
    return dag


for name in FLEETS:
    globals()[f"taxi_trips_{name}"] = make_dag(name)
