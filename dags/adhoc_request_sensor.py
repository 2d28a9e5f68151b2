"""# Requests by file

Starts one run of `adhoc_request` for every JSON file that appears or changes in the folder `requests/`, and reports
malformed files: `claim` → `request` (`start` → `confirm`, once per file), and `find_malformed` → `report`.

| | |
|---|---|
| **partition** | none: each run polls the folder once |
| **schedule** | every minute, once the DAG is unpaused |
| **inputs** | `requests/*.json` in the data folder; `requests/.claims/ledger.sqlite`, a record of the files seen so far |
| **outputs** | runs of `adhoc_request`, named `file__<file>__<version>__<hash>`; the ledger |

**A request file** contains the values that the form of `adhoc_request` asks for. `name` is optional and defaults to the
name of the file. Both dates are included:

    {"fleet": "yellow", "borough": "Queens", "start_date": "2023-01-01", "end_date": "2023-01-31"}

Write the file under another name (`queens.json.tmp`, or a hidden one), then rename it. A file is read two seconds after
its last change. If it is incomplete by then, it is reported as malformed, and read again when it changes. Hidden files,
other suffixes and subfolders are ignored. A file starts another run when its content changes, even back to an earlier
version, and when it is deleted and put back. A new modification time alone does not start a run. One poll takes at most
100 files, and the next poll continues.

**What a failure means.** `report`: a file is malformed, and the error in the log lists everything that is wrong with it.
No other file waits for it: correct the file, and the next poll starts its run. Each version is reported once. `start`:
Airflow could not create the run (is `adhoc_request` there?), and the next poll tries again. `claim`, `find_malformed`,
`confirm`: the folder or its ledger cannot be written. Nothing is lost, and the next poll continues. If the ledger is
damaged, the error says how to start a new one.

**To start an unchanged file again**, clear its run of `adhoc_request`, or move the file away for more than a minute and put
it back. Clearing a run of this DAG does no harm: a claim always gives its run the same name, so it starts only once.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task_group
from airflow.providers.standard.operators.python import PythonOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.timetables.trigger import CronTriggerTimetable

from calendar_timetables import START_DATE
from include.nyc_taxi import settings
from include.orchestration.defaults import DEFAULT_ARGS
from include.orchestration.retry_policy import no_retry_when_permanent

# The real retry is the next poll, one minute later, which waits until this one has ended.
POLL_ARGS = DEFAULT_ARGS | {
    "retries": 1,
    "retry_delay": timedelta(seconds=5),
    "execution_timeout": timedelta(minutes=5),
}


@no_retry_when_permanent
def claim() -> list[dict[str, Any]]:
    """Record what is new in the folder; return the requests whose runs have to be started."""
    from include.nyc_taxi.reports import request_inbox

    return [
        {"request_run_id": found.run_id, "logical_date": found.logical_date.isoformat(), "conf": found.request}
        for found in request_inbox.claim(settings.requests_dir())
    ]


@no_retry_when_permanent
def find_malformed() -> list[dict[str, Any]]:
    """Return the malformed files that have not been reported yet."""
    from include.nyc_taxi.reports import request_inbox

    return [
        {"file": found.file, "claim_id": found.run_id, "problem": found.problem}
        for found in request_inbox.malformed(settings.requests_dir())
    ]


@no_retry_when_permanent
def confirm(request_run_id: str, run_id: str) -> None:
    """Record that the request's run exists, so that no later poll starts it."""
    from include.nyc_taxi.reports import request_inbox

    request_inbox.settle(settings.requests_dir(), request_run_id, poll=run_id)


@no_retry_when_permanent
def report(file: str, claim_id: str, problem: str, run_id: str) -> None:
    """Fail without retries, so that the alert says what is wrong, unless another poll has reported the file."""
    from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

    from include.nyc_taxi.reports import request_inbox

    reported_by = request_inbox.settle(settings.requests_dir(), claim_id, poll=run_id)
    if reported_by != run_id:
        raise AirflowSkipException(f"{file} has already been reported by the run {reported_by}")
    raise AirflowFailException(f"requests/{file} starts no run: {problem}")


with DAG(
    dag_id="adhoc_request_sensor",
    description="Starts one run of adhoc_request for every file in requests/ that appears or changes",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("* * * * *", timezone="UTC"),
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    default_args=POLL_ARGS,
    tags=["nyc_taxi", "requests"],
):
    claim_task = PythonOperator(task_id="claim", python_callable=claim)
    find_malformed_task = PythonOperator(task_id="find_malformed", python_callable=find_malformed)

    @task_group(group_id="request")
    def request(request_run_id: str, logical_date: str, conf: dict[str, Any]) -> None:
        """Start the run of one request and confirm it, even if the run exists already."""
        start = TriggerDagRunOperator(
            task_id="start",
            trigger_dag_id="adhoc_request",
            trigger_run_id=request_run_id,
            logical_date=logical_date,
            conf=conf,
            skip_when_already_exists=True,
            openlineage_inject_parent_info=False,  # the run's configuration is the request and nothing else
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

    PythonOperator.partial(
        task_id="report", python_callable=report, map_index_template="{{ task.op_kwargs['file'] }}"
    ).expand(op_kwargs=find_malformed_task.output)
    request.expand_kwargs(claim_task.output)

    claim_task >> find_malformed_task
