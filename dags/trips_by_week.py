"""# Trips by week

Counts one week of one fleet's trips, and writes all weeks so far as CSV and as a line chart:
`wait_for_first_month`, `wait_for_last_month` → `aggregate` → `draw`.

| | |
|---|---|
| **partition** | the week, Monday to Sunday, that contains the run's logical date, unless `week` (any day of a week) in the form or in `--conf` names another one |
| **schedule** | weekly, after the end of the week, with catch-up from the first Monday in `NYC_TAXI_FIRST_MONTH` |
| **inputs** | the one or two months that the week touches, in the table `<fleet>_trips` |
| **outputs** | the week's row in `trips_by_week`; `outputs/<fleet>/trips_by_week.csv` and `trips_by_week.png` with all weeks; `trips_by_week.csv.source.json`, which records where the trips come from |

**Which trips count.** A trip counts if its pickup is in the week, no matter which month's file it came in: files also
contain trips of other months. When `taxi_trips_<fleet>` loads or reloads a month, it also recounts the weeks that are in the
table already and in which the month has trips. The figures therefore always match the trips in the warehouse.

**What the chart shows.** Trips and passengers are counted over all trips. Money and miles are summed over clean trips only
(the view `trips_clean`), because a single trip recorded as thousands of miles long would outweigh all others of a day. A
line below the chart gives the number of trips that are left out. A week that was counted by an older version leaves a gap
there until you run it again.

**One run counts one week.** A scheduled or backfill run whose `week` differs from the week of its date fails at once. Leave
*Week* empty in the *Backfill* dialog. A run of a week that has not ended also fails. **Unpausing starts the catch-up**, even
if *Trigger* unpauses the DAG.

**Waiting is normal.** A week waits for the months it touches (2023-01-30 needs January and February), no matter whether they
are run by the schedule, by a backfill or by hand, and even if nobody has started them yet. The sensors check every five
minutes without occupying a worker in between, and give up after 150 days.

**What a failure means.** The week's row and the files are unchanged. `wait_for_first_month`, `wait_for_last_month`: the
newest run of that month has failed, and the log names it. Fix and clear that run, then clear the sensor here. `aggregate`,
`draw`: the disk may be full.

**To run a week again**, clear its run in the UI (on 2.11, not if a backfill made the run: docs/how-to/rerun.md), or run
`airflow backfill create --dag-id trips_by_week_<fleet> --from-date 2023-01-30 --to-date 2023-01-30 --reprocess-behavior completed`
on 3.x or `airflow dags backfill -s 2023-01-30 -e 2023-01-30 --reset-dagruns trips_by_week_<fleet>` on 2.11. This replaces
that week and nothing else.
"""

from __future__ import annotations

from pathlib import Path

from airflow.providers.common.compat.sdk import DAG

from calendar_timetables import START_DATE, CalendarWeekTimetable
from include.nyc_taxi import catalogue, catchup, settings
from include.nyc_taxi.months import monday_of
from include.orchestration import assets
from include.orchestration.compat import is_needed, show_inputs
from include.orchestration.defaults import DEFAULT_ARGS, WAREHOUSE_POOL
from include.orchestration.retry_policy import no_retry_when_permanent
from include.orchestration.tables import needs
from include.orchestration.week import FIRST_MONTH, LAST_MONTH, MACROS, WEEK, week_param
from output_pages import OutputOperator


@no_retry_when_permanent
def aggregate(fleet: str, week: str, outlet_events: assets.OutletEvents) -> Path:
    """Count the week's trips, replace its row, and write all weeks as CSV."""
    from include.nyc_taxi.reports.by_week import aggregate_week
    from warehouse_hook import WarehouseHook

    with assets.event(outlet_events, assets.trips_by_week(fleet), week=week) as facts:
        with WarehouseHook().opened() as con:
            done = aggregate_week(con, fleet, monday_of(week), settings.outputs_dir(fleet))
        figures = {name: value and round(value, 2) for name, value in vars(done.week).items()}
        facts.update(rows=done.weeks, path=str(done.csv_file), **figures)
    return done.csv_file


@no_retry_when_permanent
def draw(fleet: str) -> Path:
    """Draw the line chart from the CSV file, without opening the warehouse."""
    from include.nyc_taxi.reports.by_week import draw_chart

    return draw_chart(fleet, settings.outputs_dir(fleet))


def make_dag(fleet: str) -> DAG:
    """Make the DAG of one fleet."""
    trips, weeks = [assets.trips(fleet)], [assets.trips_by_week(fleet)]
    with DAG(
        dag_id=f"trips_by_week_{fleet}",
        description=f"{catalogue.fleet(fleet).title}: {assets.weekly_figures(fleet)} by week, as table, CSV and chart",
        doc_md=__doc__,
        schedule=CalendarWeekTimetable(first=catchup.first_monday(fleet), dag_id=f"trips_by_week_{fleet}"),
        start_date=START_DATE,
        catchup=True,
        max_active_runs=16,  # about a dozen of them only wait for months that are not published yet
        default_args=DEFAULT_ARGS,
        params={"week": week_param()},
        user_defined_macros=MACROS,
        tags=["nyc_taxi", "weeks", fleet],
    ) as dag:
        table = catalogue.fleet(fleet).table
        sensors = [
            needs(table, FIRST_MONTH, task_id="wait_for_first_month"),
            needs(table, LAST_MONTH, task_id="wait_for_last_month"),
        ]
        aggregate_task = OutputOperator(
            task_id="aggregate",
            python_callable=aggregate,
            op_kwargs={"fleet": fleet, "week": WEEK},
            pool=WAREHOUSE_POOL,
            inlets=trips,
            outlets=weeks,
        )
        draw_task = OutputOperator(task_id="draw", python_callable=draw, op_kwargs={"fleet": fleet}, inlets=weeks)

        sensors >> aggregate_task >> draw_task
    show_inputs(dag)
    return dag


for name in settings.fleets():
    if is_needed(f"trips_by_week_{name}"):
        globals()[f"trips_by_week_{name}"] = make_dag(name)
