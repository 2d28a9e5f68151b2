"""# Taxi trips, month by month

Brings one month of one fleet's trip records from the TLC's site into the warehouse, counts the trips by zone and draws
maps of Manhattan: `wait_for_file`, `prepare` → `download` → `load` → `aggregate` → `map`.

| | |
|---|---|
| **partition** | the calendar month that contains the run's logical date; `month` in the form or `--conf` comes first |
| **schedule** | monthly when the month has ended, with catch-up from `NYC_TAXI_FIRST_MONTH` |
| **inputs** | `/trip-data/<fleet>_tripdata_YYYY-MM.parquet` of the TLC's site; the table `zones` |
| **outputs** | the zones, where there are none yet; `raw/<fleet>_tripdata_YYYY-MM.parquet`; the tables `<fleet>_trips`, `loads`, `quality_checks`, `trips_by_zone`; `outputs/<fleet>/manhattan_stats_YYYY-MM.geojson`, `manhattan_map_YYYY-MM.png`, and both over all months; with `NYC_TAXI_MAP_DENSITY=1` also `manhattan_map_density_YYYY-MM.png`, trips per km² (of months that are there already when their task `map` is cleared) |

**Unpausing starts the catch-up** on all months since `NYC_TAXI_FIRST_MONTH`, also when *Trigger* does it. `make backfill`
unpauses the DAG too, but holds its schedule back meanwhile. A backfill may go further back.

**Waiting is normal.** The TLC publishes a month about two months after its end. Until then `wait_for_file` looks every
six hours (`up_for_reschedule`; no worker is held) and gives up after 120 days.

**If nothing has changed, the run is skipped.** Where another run has loaded the edition that the site has, and has made
its map, `download` and all after it are `skipped`, and its log says so; the run is a success. A backfill, and a run that is
cleared, always load the month again.

**One run, one month.** A scheduled or backfill run whose `month` is not that of its own date fails at once: leave *Month*
empty in the *Backfill* dialog, which hands it on to each of its runs. So does any run of a month that has not ended.

**What a failure means.** Every task leaves the last good state: a file is complete or absent, a month in the warehouse
is replaced as a whole or not at all. The error in the log says what was expected, what was found, what to do.
`wait_for_file`: the site answers with an error other than "not published". `prepare`: the zones could not be loaded, and
trips need them; see `taxi_zones`. `download`: the site breaks off, or sends something that is no Parquet file.
`load`: the file's columns are not the fleet's, or a rule of the audit with the severity `error` is broken; the month
stays as it was, and `make quality FLEET=<fleet> MONTH=2023-02` shows what was found. After looking at the file you can
load it all the same: trigger the month with *Accept this edition* in the form. Rules with the severity `warn` let the
month pass; the log says so. A damaged file in `raw/` fails `load` too: clear `download`, which fetches it anew.
`aggregate`, `map`: look for a full disk.
A task that stays `scheduled` for ever: the pool `warehouse` is missing (`airflow pools set warehouse 1 "one writer"`).

**To run a month again**, clear its run in the UI (on 2.11 not one that a backfill made: docs/how-to/rerun.md), or on 3.x
`airflow backfill create --dag-id taxi_trips_<fleet> --from-date 2023-02-01 --to-date 2023-02-01 --reprocess-behavior completed`,
on 2.11 `airflow dags backfill -s 2023-02-01 -e 2023-02-01 --reset-dagruns taxi_trips_<fleet>`. It replaces that month
and nothing else. One task only, with what comes after it: docs/how-to/rerun.md.
"""

import logging
from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, AirflowSkipException
from airflow.providers.standard.operators.python import PythonOperator

from calendar_timetables import START_DATE, CalendarMonthTimetable
from include.nyc_taxi import catalogue, settings
from include.nyc_taxi.months import Month
from include.orchestration import assets
from include.orchestration.compat import show_inputs
from include.orchestration.defaults import DEFAULT_ARGS, WAREHOUSE_POOL
from include.orchestration.month import MACROS, MONTH, accept_param, is_backfill_or_cleared, month_param
from include.orchestration.retry_policy import no_retry_when_permanent
from output_pages import OutputOperator
from tlc_hook import TlcFileSensor

log = logging.getLogger(__name__)


@no_retry_when_permanent
def prepare(fleet, month, task, outlet_events):
    """Load the zones if the warehouse has none yet; say which edition of the month is loaded, and by which run."""
    from include.nyc_taxi.trips import zones
    from include.nyc_taxi.trips.loaded import loaded_months
    from include.orchestration.zones import download_zones, load_zones
    from tlc_hook import TlcHook
    from warehouse_hook import WarehouseHook

    with WarehouseHook().transaction() as con:
        if zones.count_zones(con):
            assets.no_events(task)
            load = loaded_months(con, fleet).get(month)
            facts = load and {"loaded_at": load.loaded_at.isoformat(), "run_id": load.run_id}
            return load and {"edition": vars(load.edition), **facts}
    download_zones(TlcHook(), outlet_events)
    load_zones(WarehouseHook(), outlet_events)
    return None


@no_retry_when_permanent
def download(fleet, month, loaded, outlet_events, dag_run, task, ti):
    """Fetch the month's file, unless the same edition is here; skip the rest when all is made of it already."""
    from include.nyc_taxi.reports.by_zone import made_since
    from include.nyc_taxi.settings import outputs_dir
    from include.nyc_taxi.source.download import download_month
    from tlc_hook import TlcHook

    with assets.event(outlet_events, assets.trips_file(fleet), month=month) as facts:
        done = download_month(TlcHook(), fleet, month)
        facts.update(path=str(done.path), fetched=done.fetched, **vars(done.edition))
        # Whoever has loaded it: a backfill, or a run that is cleared, does its work again; that is what one does it for.
        is_asked_for = is_backfill_or_cleared(dag_run, task, ti) or (loaded and loaded["run_id"] == dag_run.run_id)
        if loaded and not is_asked_for and not done.fetched and vars(done.edition) == loaded["edition"]:
            loaded_at = datetime.fromisoformat(loaded["loaded_at"])
            # Not where the run that loaded it did not get as far as the map.
            if made_since(outputs_dir(fleet), month, loaded_at):
                why = (
                    f"nothing new: {fleet} {month} is loaded from this edition since {loaded_at:%Y-%m-%d %H:%M} UTC "
                    f"(ETag {done.edition.etag}, Last-Modified {done.edition.last_modified}), and its map is made. "
                    "To do it again all the same, clear this task and those after it, or backfill the month"
                )
                log.info(why)  # the web UI folds a skipped task's reason away
                raise AirflowSkipException(why)


@no_retry_when_permanent
def load(fleet, month, run_id, params, outlet_events):
    """Replace the month in the warehouse by the file's rows, in one transaction, if they pass the audit."""
    from include.nyc_taxi.reports import by_week
    from include.nyc_taxi.settings import outputs_dir
    from include.nyc_taxi.source.download import month_path
    from include.nyc_taxi.trips.load import load_month
    from warehouse_hook import WarehouseHook

    with assets.event(outlet_events, assets.trips(fleet), month=month) as facts:
        with WarehouseHook().opened() as con:
            done = load_month(
                con, fleet, Month(month), month_path(fleet, month), run_id, accept=bool(params.get("accept"))
            )
            if done.weeks:
                by_week.write_csv(con, fleet, outputs_dir(fleet))
        facts.update(
            rows=done.rows_loaded,
            bytes=done.bytes,
            etag=done.etag,
            last_modified=done.last_modified,
            quality=done.quality,
            quality_checks={check.rule: check.value for check in done.checks},
            quality_warnings=[check.detail for check in done.checks if not check.passed],
            unknown_columns=list(done.unknown_columns),
            simulated=done.simulated,
            changes=done.changes,
            weeks_counted_again=[monday.isoformat() for monday in done.weeks],
        )


@no_retry_when_permanent
def aggregate(fleet, month, outlet_events):
    """Count the month's trips by zone, and write them as GeoJSON."""
    from include.nyc_taxi.reports.by_zone import aggregate_month
    from include.nyc_taxi.settings import outputs_dir
    from warehouse_hook import WarehouseHook

    with assets.event(outlet_events, assets.manhattan_stats(fleet), month=month) as facts:
        with WarehouseHook().opened() as con:
            done = aggregate_month(con, fleet, Month(month), outputs_dir(fleet))
        facts.update(rows=done.zones, trips=done.trips, path=str(done.month_file))
    return done.month_file


@no_retry_when_permanent
def draw(fleet, month, outlet_events):
    """Draw the maps from the GeoJSON files. Needs no lock on the warehouse."""
    from include.nyc_taxi.reports import by_week
    from include.nyc_taxi.reports.maps import draw_maps
    from include.nyc_taxi.settings import outputs_dir

    if by_week.is_chart_old(outputs_dir(fleet)):  # `load` has counted weeks again
        by_week.draw_chart(fleet, outputs_dir(fleet))
    with assets.event(outlet_events, assets.manhattan_map(fleet), month=month) as facts:
        done = draw_maps(month, outputs_dir(fleet))
        facts.update(path=str(done.month_file), overall_path=str(done.overall_file))
        if done.density_month_file:
            facts.update(density_path=str(done.density_month_file), density_overall_path=str(done.density_overall_file))
    return done.month_file


def make_dag(fleet):
    """The DAG of one fleet."""
    arguments = {"fleet": fleet, "month": MONTH}
    with DAG(
        dag_id=f"taxi_trips_{fleet}",
        description=f"{catalogue.fleet(fleet).title}: a month of trips from the TLC's file to maps",
        doc_md=__doc__,
        schedule=CalendarMonthTimetable(
            first=Month(max(settings.first_month(), catalogue.fleet(fleet).first_month)).first_day,
            dag_id=f"taxi_trips_{fleet}",
        ),
        start_date=START_DATE,
        catchup=True,
        max_active_runs=6,  # some of them only wait: two or three months are not published yet at any time
        default_args=DEFAULT_ARGS,
        params={"month": month_param(), "accept": accept_param()},
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
        prepare_task = PythonOperator(
            task_id="prepare",
            python_callable=prepare,
            op_kwargs=arguments,
            pool=WAREHOUSE_POOL,
            outlets=[assets.TAXI_ZONES_FILE, assets.TAXI_ZONES],
        )
        download_task = PythonOperator(
            task_id="download",
            python_callable=download,
            op_kwargs=arguments | {"loaded": prepare_task.output},
            outlets=[assets.trips_file(fleet)],
        )
        load_task = PythonOperator(
            task_id="load",
            python_callable=load,
            op_kwargs=arguments,
            pool=WAREHOUSE_POOL,
            inlets=[assets.trips_file(fleet), assets.TAXI_ZONES],
            outlets=[assets.trips(fleet)],
        )
        aggregate_task = OutputOperator(
            task_id="aggregate",
            python_callable=aggregate,
            op_kwargs=arguments,
            pool=WAREHOUSE_POOL,
            inlets=[assets.trips(fleet)],  # and the zones, which the graph has before `load`; see assets.py
            outlets=[assets.manhattan_stats(fleet)],
        )
        map_task = OutputOperator(
            task_id="map",
            python_callable=draw,
            op_kwargs=arguments,
            inlets=[assets.manhattan_stats(fleet)],
            outlets=[assets.manhattan_map(fleet)],
        )

        [wait_for_file, prepare_task] >> download_task >> load_task >> aggregate_task >> map_task
    show_inputs(dag)
    return dag


for name in settings.fleets():
    globals()[f"taxi_trips_{name}"] = make_dag(name)
