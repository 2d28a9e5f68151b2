"""# Requests by file

Starts one run of `adhoc_request` for every JSON file that appears or changes in the folder `requests/`, and reports
files that are malformed: `claim` → `request` (`start` → `confirm`, once a file), and `find_malformed` → `report`.

| | |
|---|---|
| **partition** | none: a run is one look at the folder |
| **schedule** | every minute; once unpaused |
| **inputs** | `requests/*.json` in the data folder; `requests/.claims/ledger.sqlite`, which says what has been seen |
| **outputs** | runs of `adhoc_request`, named `file__<file>__<version>__<hash>`; the ledger |

**A request file** holds the values that the form of `adhoc_request` asks for. `name` may be left out; the file's own is
taken then. Both dates are included:

    {"fleet": "yellow", "borough": "Queens", "start_date": "2023-01-01", "end_date": "2023-01-31"}

Write it under another name (`queens.json.tmp`, or hidden) and rename it: a file is read two seconds after its last
change, and one that is half written then is reported as malformed, and read again when it changes. Hidden files, other
suffixes and subfolders do not count. A changed content, also back to an earlier one, and a file that had gone and
came back, start one more run; a new date of the file does not. A look takes 100 files at most, the next one goes on.

**What a failure means.** `report`: a file is malformed, and the error in the log says all that is wrong with it.
Nothing else waits for it: mend the file, and the next look starts its run. Each version is reported once. `start`: Airflow
could not make the run (is `adhoc_request` there?); the next look tries again. `claim`, `find_malformed`,
`confirm`: the folder or its ledger cannot be written; nothing is lost, the next look goes on. Where the ledger is
damaged, the error says how to begin a new one.

**To start a file again** that has not changed, clear its run of `adhoc_request`, or remove the file for more than a
minute and put it back. Clearing a look does no harm: a claim's run has one name, and is never started twice.
"""

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, task_group
from airflow.providers.standard.operators.python import PythonOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.timetables.trigger import CronTriggerTimetable

from calendar_timetables import START_DATE
from include.orchestration.defaults import DEFAULT_ARGS
from include.orchestration.retry_policy import no_retry_when_permanent

# The next look, a minute later, is the true retry, and it waits for the end of this one.
LOOK_ARGS = DEFAULT_ARGS | {
    "retries": 1,
    "retry_delay": timedelta(seconds=5),
    "execution_timeout": timedelta(minutes=5),
}


@no_retry_when_permanent
def claim():
    """Look at the folder: what is new goes into the ledger; returns the requests whose runs are to be started."""
    from include.nyc_taxi.reports import request_inbox
    from include.nyc_taxi.settings import requests_dir

    return [
        {
            "request_run_id": found.run_id,
            "logical_date": found.logical_date.isoformat(),
            "conf": found.request,
        }
        for found in request_inbox.claim(requests_dir())
    ]


@no_retry_when_permanent
def find_malformed():
    """Return the faults that nobody has reported yet."""
    from include.nyc_taxi.reports import request_inbox
    from include.nyc_taxi.settings import requests_dir

    return [
        {"file": found.file, "claim_id": found.run_id, "problem": found.problem}
        for found in request_inbox.malformed(requests_dir())
    ]


@no_retry_when_permanent
def confirm(request_run_id, run_id):
    """Note in the ledger that the request's run is there, so that no later look starts it."""
    from include.nyc_taxi.reports import request_inbox
    from include.nyc_taxi.settings import requests_dir

    request_inbox.settle(requests_dir(), request_run_id, look=run_id)


@no_retry_when_permanent
def report(file, claim_id, problem, run_id):
    """Fail for good, so that the alert says what is wrong; unless another look has done so."""
    from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

    from include.nyc_taxi.reports import request_inbox
    from include.nyc_taxi.settings import requests_dir

    reported_by = request_inbox.settle(requests_dir(), claim_id, look=run_id)
    if reported_by != run_id:
        raise AirflowSkipException(f"{file} has been reported by the look {reported_by}")
    raise AirflowFailException(f"requests/{file} starts no run: {problem}")


with DAG(
    dag_id="adhoc_request_sensor",
    description="Starts one run of adhoc_request for every file in requests/ that appears or changes",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("* * * * *", timezone="UTC"),
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    default_args=LOOK_ARGS,
    tags=["nyc_taxi", "requests"],
):
    claim_task = PythonOperator(
        task_id="claim",
        python_callable=claim,
    )
    find_malformed_task = PythonOperator(
        task_id="find_malformed",
        python_callable=find_malformed,
    )

    @task_group(group_id="request")
    def request(request_run_id, logical_date, conf):
        """One request: its run is started, then noted, whether it is new or was there already."""
        start = TriggerDagRunOperator(
            task_id="start",
            trigger_dag_id="adhoc_request",
            trigger_run_id=request_run_id,
            logical_date=logical_date,
            conf=conf,
            skip_when_already_exists=True,
            openlineage_inject_parent_info=False,  # a run's configuration is the request, and nothing besides
            map_index_template="{{ task.trigger_run_id }}",
        )
        confirm_task = PythonOperator(
            task_id="confirm",
            python_callable=confirm,
            op_kwargs={"request_run_id": request_run_id},
            trigger_rule="none_failed",
            map_index_template="{{ task.op_kwargs['request_run_id'] }}",
        )
        start >> confirm_task

    report_task = PythonOperator.partial(
        task_id="report",
        python_callable=report,
        map_index_template="{{ task.op_kwargs['file'] }}",
    ).expand(op_kwargs=find_malformed_task.output)

    request.expand_kwargs(claim_task.output)
    claim_task >> find_malformed_task
