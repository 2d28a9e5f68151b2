"""# Marts by dbt, month by month

Builds and tests the marts for one month of one fleet with dbt: `wait_for_month`, `wait_for_zones` →
`stage` → `build` (a task for each model in `include/dbt/models/marts/`) → `compare` → `publish` → `draw_airports`,
`draw_market_share`.

| | |
|---|---|
| **partition** | the calendar month that contains the run's logical date, unless `month` in the form or in `--conf` names another one |
| **schedule** | monthly, after the end of the month, with catch-up from `NYC_TAXI_FIRST_MONTH` |
| **inputs** | the month in the table `<fleet>_trips`; the table `zones` |
| **outputs** | the fleet's rows of the month in each table of the schema `marts`, and its record in `marts.built_months`; the views and small tables of codes in the schema `staging`; `outputs/<fleet>/trips_at_airports_YYYY-MM.csv` and `.png`; `outputs/all_fleets/market_share_YYYY-MM.csv` and `.png` |

**dbt must be installed.** `make dbt` installs it beside Airflow, and the image contains it. Without it, `stage` fails at
once, and its error says what to do. Nothing else in the project needs dbt.

**One run builds one month**, whether or not the mart has it already. A month's old rows, its new rows and its record
change in one transaction, so that a task that is killed leaves the last good state. A scheduled or backfill run whose
`month` differs from the month of its date fails at once. Leave *Month* empty in the *Backfill* dialog. **Unpausing starts
the catch-up**, even if *Trigger* unpauses the DAG.

**Runs of several fleets do not disturb each other.** One dbt runs at a time: in a DuckDB file it stands in the pool
`warehouse` like all others that open the file, and in a lake in the pool `dbt`, which has one slot. A run replaces only
rows of its own fleet and month. What fleets share (the views, the tables of codes, and `fleet_market_share`, which is a
view) has the same definition in each run, and is replaced in one transaction. The chart of market shares shows all fleets
that have the month; each fleet's run draws it again.

**Waiting is normal.** A run waits for its month, whether the schedule, a backfill or a user loads it, and even if nobody
has started that yet. The sensor checks every five minutes without occupying a worker, and gives up after 150 days. The
sensor for the zones, which every load of a month makes if there are none, gives up after 7 days. At most six runs of a
fleet are active at once: months that nobody loads hold the later ones back. Set `NYC_TAXI_FIRST_MONTH` to the first month
that you load before you unpause the DAG.

**What a failure means.** The marts have the month as it was before, or as this run has built it. The error names the
model or test, its file, and dbt's message with the line of the SQL. The task's rendered field `compiled_sql` shows the SQL.

- `wait_for_month`, `wait_for_zones`: the newest run that loads the month, or the zones, has failed, and the log names
  it. Fix and clear that run, then clear the sensor here.
- `stage`, `build`: dbt is not installed, the SQL of a model is wrong, or a test has found rows that should not be there.
  dbt builds a model before it tests it: the rows are in the mart, and the models after it are not built. A wrong model or a
  test that has failed is not tried again; a warehouse that is locked or does not answer is.
- `compare`: two tables that count the same trips differ.
- `publish`, `draw_airports`, `draw_market_share`: the disk may be full.
- If a task stays `scheduled` forever, its pool is missing: `make pool`, or `airflow pools set dbt 1 "one dbt at a time"`.

**A month that is loaded again** is built again by a run that `marts_of_reloaded_months` starts, or by `make dbt`.

**To run a month again**, clear its run in the UI (on 2.11, not if a backfill made the run: docs/how-to/rerun.md), or run
`airflow backfill create --dag-id trips_marts_<fleet> --from-date 2023-02-01 --to-date 2023-02-01 --reprocess-behavior completed`
on 3.x or `airflow dags backfill -s 2023-02-01 -e 2023-02-01 --reset-dagruns trips_marts_<fleet>` on 2.11. **To build one
mart of one month again**, clear its task in the group `build` (with *Downstream*, if its totals change). For many months
at once, `make dbt-backfill` is faster (docs/how-to/marts.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.standard.operators.python import PythonOperator

from calendar_timetables import START_DATE, CalendarMonthTimetable
from include.nyc_taxi import catalogue, catchup, settings
from include.nyc_taxi.months import Month
from include.orchestration import assets, dbt_tasks
from include.orchestration.compat import show_inputs
from include.orchestration.defaults import DEFAULT_ARGS, WAREHOUSE_POOL
from include.orchestration.fleets import fleets_of
from include.orchestration.month import MACROS, MONTH, month_param
from include.orchestration.retry_policy import no_retry_when_permanent
from include.orchestration.tables import needs_of
from output_pages import OutputOperator


@no_retry_when_permanent
def publish(fleet: str, month: str, marts: Sequence[str], outlet_events: assets.OutletEvents) -> None:
    """Count the month's rows in each mart, record them with the marts' assets, and write the figures of the charts."""
    from include.nyc_taxi.reports.marts import count_rows, write_airports, write_shares
    from warehouse_hook import WarehouseHook

    with WarehouseHook().opened() as con:
        rows = count_rows(con, marts, fleet, Month(month))
        write_airports(con, fleet, Month(month), settings.outputs_dir(fleet))
        write_shares(con, Month(month), settings.outputs_root())
    for name in marts:
        with assets.event(outlet_events, assets.mart(name, fleet), month=month) as facts:
            facts.update(rows=rows[name])


@no_retry_when_permanent
def draw_airports(fleet: str, month: str, outlet_events: assets.OutletEvents) -> Path:
    """Draw the month's airport trips, without opening the warehouse."""
    from include.nyc_taxi.reports import mart_charts, marts

    with assets.event(outlet_events, assets.airport_chart(fleet), month=month) as facts:
        picture = mart_charts.draw_airports(marts.airports_path(Month(month), settings.outputs_dir(fleet)))
        facts.update(path=str(picture))
    return picture


@no_retry_when_permanent
def draw_market_share(fleet: str, month: str, outlet_events: assets.OutletEvents) -> Path:
    """Draw the month's market shares of all fleets, without opening the warehouse."""
    from include.nyc_taxi.reports import mart_charts, marts

    with assets.event(outlet_events, assets.MARKET_SHARE_CHART, month=month, fleet=fleet) as facts:
        picture = mart_charts.draw_shares(marts.shares_path(Month(month), settings.outputs_root()))
        facts.update(path=str(picture))
    return picture


def make_dag(fleet: str) -> DAG:
    """Make the DAG of one fleet."""
    arguments = {"fleet": fleet, "month": MONTH}
    with DAG(
        dag_id=f"trips_marts_{fleet}",
        description=f"{catalogue.fleet(fleet).title}: a month of the marts, built and tested by dbt",
        doc_md=__doc__,
        schedule=CalendarMonthTimetable(first=catchup.start(fleet), dag_id=f"trips_marts_{fleet}"),
        start_date=START_DATE,
        catchup=True,
        max_active_runs=6,  # two or three of them only wait for months that are not published yet
        default_args=DEFAULT_ARGS,
        params={"month": month_param()},
        user_defined_macros=MACROS,
        tags=["nyc_taxi", "marts", fleet],
    ) as dag:
        waits = needs_of("trips_marts_{fleet}", fleet, MONTH)  # for what dbt reads, as include/dbt/manifest.json has it
        stage = dbt_tasks.build("stage", fleet, "path:models/staging path:seeds")
        build = dbt_tasks.build_each("build", fleet, "path:models/marts")
        compare = dbt_tasks.build("compare", fleet, "test_type:singular")
        marts = dbt_tasks.models(build)
        publish_task = PythonOperator(
            task_id="publish",
            python_callable=publish,
            op_kwargs=arguments | {"marts": marts},
            pool=WAREHOUSE_POOL,
            inlets=[assets.trips(fleet), assets.TAXI_ZONES],
            outlets=[assets.mart(name, fleet) for name in marts],
        )

        draw_airports_task = OutputOperator(
            task_id="draw_airports",
            python_callable=draw_airports,
            op_kwargs=arguments,
            inlets=[assets.mart("airport_trips", fleet)],
            outlets=[assets.airport_chart(fleet)],
        )
        draw_market_share_task = OutputOperator(
            task_id="draw_market_share",
            python_callable=draw_market_share,
            op_kwargs=arguments,
            inlets=[assets.mart("fleet_market_share", fleet)],
            outlets=[assets.MARKET_SHARE_CHART],
        )

        waits >> stage >> build >> compare >> publish_task >> [draw_airports_task, draw_market_share_task]
    show_inputs(dag)
    return dag


for name in fleets_of("trips_marts"):
    globals()[f"trips_marts_{name}"] = make_dag(name)
