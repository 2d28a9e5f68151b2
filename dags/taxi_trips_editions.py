"""# New editions of loaded months

Asks the TLC's site every day whether it still has every loaded month, and in the edition that is loaded. Of a month
that has been published again it starts the run that loads the new edition; a month that has been withdrawn it reports:
`read_loads` → `ask` → `find_republished` → `start` (once an edition), and `ask` → `report`.

| | |
|---|---|
| **partition** | none: a run is one look at all loaded months |
| **schedule** | daily, without catch-up |
| **inputs** | the table `loads`; a HEAD request for each month loaded from the present site, two at a time, on the condition that it has changed |
| **outputs** | runs of `taxi_trips_<fleet>`, named `edition__YYYY-MM__<hash>`; `raw/.editions.json`, which has what the site said last |

**One run an edition.** Its name and its logical date (some moment in its month) follow from the edition: later looks do not
start it again while it waits, runs, or has failed, and once it has loaded the edition nothing differs any more. `start`
does not wait for it. **Where `taxi_trips_<fleet>` is paused, the run stays queued** until that is unpaused, which also
starts its catch-up.

**Left alone** are months that came from another site than the present one (`NYC_TAXI_TLC_URL`, or the connection `tlc`), whose
editions cannot be compared; the log of `read_loads` says how many. Likewise fleets that are not in `NYC_TAXI_FLEETS`.

**What a failure means.** `report`: months are withdrawn (403 or 404), and the error in the log names them. They stay loaded as
they are, and there is nothing to mend. Each withdrawal is reported once; a month that comes back and is withdrawn
again, once more. Back with the loaded edition, nothing happens; with another, its run is started. If all months are
withdrawn at once, rather the site refuses this machine, or its address is wrong.
`ask`: the site cannot be asked, or not about all months; the error says which and why. What it has said counts: runs of
editions found before that are started, and a new try asks for the rest. `start`: Airflow could not make the run
(is `taxi_trips_<fleet>` there?); the next look tries again. `read_loads`: the warehouse was open in another process for
ten minutes, or `NYC_TAXI_FLEETS` is wrong; the error says which.
**A run of an edition that fails** for good is not started again: mend what its log names, and clear it.

**To run it again**, trigger the DAG, or clear the run; neither starts a month's run twice. `report` of a cleared run reports again
what it has reported, where that is still withdrawn. `raw/.editions.json` may be removed: withdrawn months are then reported anew.
"""

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.standard.operators.python import PythonOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.timetables.interval import CronDataIntervalTimetable

from calendar_timetables import START_DATE
from include.orchestration.defaults import DEFAULT_ARGS, WAREHOUSE_POOL
from include.orchestration.retry_policy import no_retry_when_permanent


@no_retry_when_permanent
def read_loads():
    """Which months are loaded, from which edition; the warehouse is closed again before the site is asked."""
    from dataclasses import asdict

    from include.nyc_taxi import catalogue, settings
    from include.nyc_taxi.status import editions
    from include.nyc_taxi.trips.loaded import months_by_fleet
    from tlc_hook import TlcHook
    from warehouse_hook import WarehouseHook

    with WarehouseHook().transaction() as con:
        loads = months_by_fleet(con, [catalogue.fleet(fleet).name for fleet in settings.fleets()])
    return asdict(editions.begin(TlcHook().url(""), loads))


@no_retry_when_permanent
def ask(look):
    """Ask the site for the look's months, and note what it says."""
    from include.nyc_taxi.status import editions
    from tlc_hook import CONNECT_AND_READ_TIMEOUT, TlcHook

    # One look-up of the connection for all requests: a task's way to it is not made for threads.
    with TlcHook("HEAD").get_conn() as session:

        def head(url, headers):
            return session.head(url, headers=headers, timeout=CONNECT_AND_READ_TIMEOUT, allow_redirects=True)

        editions.ask(head, editions.Check.of(look))


@no_retry_when_permanent
def find_republished(look):
    """The runs to start, one for each month whose edition on the site is not the loaded one."""
    from airflow.providers.common.compat.sdk import AirflowSkipException

    from include.nyc_taxi.status import editions

    if look is None:
        raise AirflowSkipException("`read_loads` has failed: there is nothing to compare")
    return [
        {
            "trigger_dag_id": f"taxi_trips_{run.fleet}",
            "trigger_run_id": run.run_id,
            "logical_date": run.logical_date.isoformat(),
            "conf": {"month": run.month},
        }
        for run in editions.republished(editions.Check.of(look))
    ]


@no_retry_when_permanent
def report(look, run_id):
    """Fail for good, so that the alert says which months are withdrawn; unless an earlier look has done so."""
    from airflow.providers.common.compat.sdk import AirflowFailException

    from include.nyc_taxi.status import editions

    this = editions.Check.of(look)
    if months := editions.withdrawn(this, run_id):
        raise AirflowFailException(editions.report(this, months))


with DAG(
    dag_id="taxi_trips_editions",
    description="Loads months again that the TLC has published again, and reports those it has withdrawn",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 5 * * *", timezone="UTC"),
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["nyc_taxi", "trips"],
):
    read_loads_task = PythonOperator(
        task_id="read_loads",
        python_callable=read_loads,
        show_return_value_in_logs=False,  # hundreds of months
        pool=WAREHOUSE_POOL,
    )
    look = {"look": read_loads_task.output}
    ask_task = PythonOperator(
        task_id="ask",
        python_callable=ask,
        op_kwargs=look,
    )
    find_republished_task = PythonOperator(
        task_id="find_republished",
        python_callable=find_republished,
        op_kwargs=look,
        trigger_rule="all_done",  # what the site has said counts, also where it has not said all
    )
    TriggerDagRunOperator.partial(
        task_id="start",
        skip_when_already_exists=True,
        openlineage_inject_parent_info=False,  # the run's configuration is its month, and nothing besides
        map_index_template="{{ task.trigger_run_id }}",
    ).expand_kwargs(find_republished_task.output)
    report_task = PythonOperator(
        task_id="report",
        python_callable=report,
        op_kwargs=look,
    )

    # A run whose `ask` has failed is a failed run: `report`, its last task, depends on it.
    ask_task >> [find_republished_task, report_task]
