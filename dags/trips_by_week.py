"""# Trips by week

Counts one week of one fleet's trips, and writes all weeks so far as CSV and as a line chart:
`wait_for_first_month`, `wait_for_last_month` → `aggregate` → `draw`.

| | |
|---|---|
| **partition** | the week, Monday to Monday, that contains the run's logical date; `week` (any day of it) in the form or `--conf` comes first |
| **schedule** | weekly when the week has ended, with catch-up from the first Monday of `NYC_TAXI_FIRST_MONTH` |
| **inputs** | the table `<fleet>_trips`: the one or two months that the week touches |
| **outputs** | the week's row in `trips_by_week`; `outputs/<fleet>/trips_by_week.csv` and `trips_by_week.png` with all weeks; `trips_by_week.csv.source.json`, where the trips come from |

**What counts.** Trips whose pickup is in the week, from whatever month's file they came in: files have strays. When a
month is loaded later, or again, `taxi_trips_<fleet>` counts the weeks anew that are there already and in which the
month has trips, so the figures are always those of the trips in the warehouse.

**What the chart shows.** Trips and passengers of all trips; money and miles of clean trips only (the view `trips_clean`),
because a single trip recorded as thousands of miles long outweighs a day of others. A line below says how many trips are
left out. A week that an older version has counted has a gap there until it is run again.

**One run, one week.** A scheduled or backfill run whose `week` is not that of its own date fails at once: leave *Week*
empty in the *Backfill* dialog. So does any run of a week that has not ended. **Unpausing starts the catch-up**, also when
*Trigger* does it.

**Waiting is normal.** A week waits for the months it touches (2023-01-30 needs January and February), however they are
run: schedule, backfill or by hand. The sensors look every five minutes and hold no worker in between; a month that
nobody has started is waited for too. They give up after 150 days.

**What a failure means.** The week's row and the files stay as they were. `wait_for_first_month`,
`wait_for_last_month`: that month's newest run has failed; the log names it. Mend that one, then clear the sensor here.
`aggregate`, `draw`: look for a full disk.

**To run a week again**, clear its run in the UI (on 2.11 not one that a backfill made: docs/how-to/rerun.md), or on 3.x
`airflow backfill create --dag-id trips_by_week_<fleet> --from-date 2023-01-30 --to-date 2023-01-30 --reprocess-behavior completed`,
on 2.11 `airflow dags backfill -s 2023-01-30 -e 2023-01-30 --reset-dagruns trips_by_week_<fleet>`. It replaces that
week and nothing else.
"""

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG

from calendar_timetables import START_DATE, CalendarWeekTimetable
from include.nyc_taxi import catalogue, settings
from include.nyc_taxi.months import WEEK as ONE_WEEK
from include.nyc_taxi.months import Month, monday_of
from include.orchestration import assets
from include.orchestration.compat import show_inputs
from include.orchestration.defaults import DEFAULT_ARGS, WAREHOUSE_POOL
from include.orchestration.month_sensor import MonthLoadedSensor
from include.orchestration.retry_policy import no_retry_when_permanent
from include.orchestration.week import FIRST_MONTH, LAST_MONTH, MACROS, WEEK, week_param
from output_pages import OutputOperator


@no_retry_when_permanent
def aggregate(fleet, week, outlet_events):
    """Count the week's trips, replace its row, and write all weeks as CSV."""
    from include.nyc_taxi.reports.by_week import aggregate_week
    from include.nyc_taxi.settings import outputs_dir
    from warehouse_hook import WarehouseHook

    with assets.event(outlet_events, assets.trips_by_week(fleet), week=week) as facts:
        with WarehouseHook().opened() as con:
            done = aggregate_week(con, fleet, monday_of(week), outputs_dir(fleet))
        facts.update(
            rows=done.weeks,
            path=str(done.csv_file),
            **{name: value and round(value, 2) for name, value in vars(done.week).items()},
        )
    return done.csv_file


@no_retry_when_permanent
def draw(fleet):
    """Draw the line chart from the CSV file. Needs no lock on the warehouse."""
    from include.nyc_taxi.reports.by_week import draw_chart
    from include.nyc_taxi.settings import outputs_dir

    return draw_chart(fleet, outputs_dir(fleet))


def first_monday(fleet):
    """Where catch-up begins: the first week that lies in months that catch-up loads."""
    start = Month(max(settings.first_month(), catalogue.fleet(fleet).first_month)).first_day
    return start if start == monday_of(start) else monday_of(start) + ONE_WEEK


def make_dag(fleet):
    """The DAG of one fleet."""
    arguments = {"fleet": fleet, "week": WEEK}
    waiting = {
        "fleet": fleet,
        "pool": WAREHOUSE_POOL,
        "mode": "reschedule",
        "poke_interval": timedelta(minutes=5),
        "timeout": timedelta(days=150),
    }
    with DAG(
        dag_id=f"trips_by_week_{fleet}",
        description=f"{catalogue.fleet(fleet).title}: {assets.weekly_figures(fleet)} by week, as table, CSV and chart",
        doc_md=__doc__,
        schedule=CalendarWeekTimetable(first=first_monday(fleet), dag_id=f"trips_by_week_{fleet}"),
        start_date=START_DATE,
        catchup=True,
        max_active_runs=16,  # a dozen weeks at any time only wait for months that are not published yet
        default_args=DEFAULT_ARGS,
        params={"week": week_param()},
        user_defined_macros=MACROS,
        tags=["nyc_taxi", "weeks", fleet],
    ) as dag:
        wait_for_first_month = MonthLoadedSensor(task_id="wait_for_first_month", month=FIRST_MONTH, **waiting)
        wait_for_last_month = MonthLoadedSensor(task_id="wait_for_last_month", month=LAST_MONTH, **waiting)
        aggregate_task = OutputOperator(
            task_id="aggregate",
            python_callable=aggregate,
            op_kwargs=arguments,
            pool=WAREHOUSE_POOL,
            inlets=[assets.trips(fleet)],
            outlets=[assets.trips_by_week(fleet)],
        )
        draw_task = OutputOperator(
            task_id="draw",
            python_callable=draw,
            op_kwargs={"fleet": fleet},
            inlets=[assets.trips_by_week(fleet)],
        )

        [wait_for_first_month, wait_for_last_month] >> aggregate_task >> draw_task
    show_inputs(dag)
    return dag


for name in settings.fleets():
    globals()[f"trips_by_week_{name}"] = make_dag(name)
