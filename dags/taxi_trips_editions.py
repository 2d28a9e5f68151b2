"""# New editions of loaded months

Checks every day whether the TLC's site still has every loaded month, in the edition that is loaded. If the TLC has
republished a month, this DAG starts the run that loads the new edition. If the TLC has withdrawn a month, it reports that:
`read_loads` → `ask` → `find_republished` → `start` (once per edition), and `ask` → `report`.

| | |
|---|---|
| **partition** | none: each run checks all loaded months |
| **schedule** | daily, without catch-up |
| **inputs** | the table `loads`; a conditional HEAD request for each month that was loaded from the current site, two at a time |
| **outputs** | runs of `taxi_trips_<fleet>`, named `edition__YYYY-MM__<hash>`; `raw/.editions.json`, the site's latest answers |

**One run per edition.** The name and the logical date of the run (a moment in its month) follow from the edition. Later
checks therefore do not start it again while it is queued or running, or after it has failed. Once the edition is loaded,
nothing differs any more. `start` does not wait for the run. **If `taxi_trips_<fleet>` is paused, the run stays queued** until
somebody unpauses that DAG, which also starts its catch-up.

**Some months are not checked:** months from a site other than the current one (`NYC_TAXI_TLC_URL`, or the connection
`tlc`), because their editions cannot be compared, and fleets that are not in `NYC_TAXI_FLEETS`. The log of `read_loads`
gives their number.

**What a failure means.**

- `report`: the TLC has withdrawn months (403 or 404), and the error in the log names them. The loaded months are kept, and
  there is nothing to fix. Each withdrawal is reported once. If the month reappears unchanged, nothing happens; if it
  reappears in another edition, its run is started. If all months are withdrawn at once, the site is probably blocking
  this machine, or its address is wrong.
- `ask`: the site did not answer for all months; the error says for which, and why. The answers it gave are used: runs for
  the new editions found are started, and a retry asks only for the rest.
- `start`: Airflow could not create the run (is `taxi_trips_<fleet>` there?), and the next check tries again.
- `read_loads`: another process had the warehouse open for ten minutes, or `NYC_TAXI_FLEETS` is wrong; the error says which.

**If the run of an edition fails**, it is not started again: fix what its log names, and clear it.

**To run it again**, trigger the DAG, or clear the run. Neither starts a month's run twice. If you clear a run, its `report`
repeats the months that are still withdrawn. If you delete `raw/.editions.json`, withdrawn months are reported again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.standard.operators.python import PythonOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.timetables.interval import CronDataIntervalTimetable

from calendar_timetables import START_DATE
from include.orchestration import lineage
from include.orchestration.defaults import DEFAULT_ARGS, WAREHOUSE_POOL
from include.orchestration.retry_policy import no_retry_when_permanent

if TYPE_CHECKING:
    import requests


@no_retry_when_permanent
def read_loads() -> dict[str, Any]:
    """Return which months are loaded, and from which edition; the warehouse is closed before the site is asked."""
    from dataclasses import asdict

    from include.nyc_taxi import catalogue, settings
    from include.nyc_taxi.status import editions
    from include.nyc_taxi.trips.loaded import months_by_fleet
    from tlc_hook import TlcHook
    from warehouse_hook import WarehouseHook

    with WarehouseHook().transaction() as con:
        loads = months_by_fleet(con, [catalogue.fleet(fleet).name for fleet in settings.fleets()])
    lineage.tell_reading("latest_loads")
    return asdict(editions.begin(TlcHook().url(""), loads))


@no_retry_when_permanent
def ask(check: Mapping[str, Any]) -> None:
    """Ask the site about the months, and record its answers."""
    from include.nyc_taxi.status import editions
    from tlc_hook import CONNECT_AND_READ_TIMEOUT, TlcHook

    # The connection is looked up once for all requests, because a task's look-up is not thread-safe.
    with TlcHook("HEAD").get_conn() as session:

        def head(url: str, headers: Mapping[str, str]) -> requests.Response:
            return session.head(url, headers=headers, timeout=CONNECT_AND_READ_TIMEOUT, allow_redirects=True)

        editions.ask(head, editions.Check.of(check))


@no_retry_when_permanent
def find_republished(check: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return the runs to start, one for each month whose edition on the site is not the loaded one."""
    from airflow.providers.common.compat.sdk import AirflowSkipException

    from include.nyc_taxi.status import editions

    if check is None:
        raise AirflowSkipException("`read_loads` has failed, so there is nothing to compare")
    return [
        {
            "trigger_dag_id": f"taxi_trips_{run.fleet}",
            "trigger_run_id": run.run_id,
            "logical_date": run.logical_date.isoformat(),
            "conf": {"month": run.month},
        }
        for run in editions.republished(editions.Check.of(check))
    ]


@no_retry_when_permanent
def report(check: Mapping[str, Any], run_id: str) -> None:
    """Fail without retries, so that the alert names withdrawn months that no earlier check has reported."""
    from airflow.providers.common.compat.sdk import AirflowFailException

    from include.nyc_taxi.status import editions

    this = editions.Check.of(check)
    if months := editions.withdrawn(this, run_id):
        raise AirflowFailException(editions.report(this, months))


with DAG(
    dag_id="taxi_trips_editions",
    description="Reloads months that the TLC has republished, and reports months that it has withdrawn",
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
        show_return_value_in_logs=False,  # it lists hundreds of months
        pool=WAREHOUSE_POOL,
    )
    check = {"check": read_loads_task.output}
    ask_task = PythonOperator(task_id="ask", python_callable=ask, op_kwargs=check)
    find_republished_task = PythonOperator(
        task_id="find_republished",
        python_callable=find_republished,
        op_kwargs=check,
        trigger_rule="all_done",  # answers count, even if the site did not answer for every month
    )
    TriggerDagRunOperator.partial(
        task_id="start",
        skip_when_already_exists=True,
        openlineage_inject_parent_info=False,  # the run's configuration is its month and nothing else
        map_index_template="{{ task.trigger_run_id }}",
    ).expand_kwargs(find_republished_task.output)
    report_task = PythonOperator(task_id="report", python_callable=report, op_kwargs=check)

    # If `ask` fails, the run fails, because its last task `report` depends on `ask`.
    ask_task >> [find_republished_task, report_task]
