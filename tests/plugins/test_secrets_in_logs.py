"""No secret of a setting or connection is in the log that Airflow's worker writes of a task, whatever the task logs.

`airflow dags test` and the commands of `make` mask nothing: the messages of errors must have no secret either.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from include.orchestration.compat import IS_AIRFLOW_3
from include.tlc_simulator.server import TlcSimulator
from tests.conftest import ROOT

DAG = """
import logging
import os

from airflow.providers.common.compat.sdk import DAG, get_current_context
from airflow.providers.standard.operators.python import PythonOperator
from pendulum import datetime


def leak():
    from include.orchestration.alerts import alert_on_failure
    from tlc_hook import TlcHook
    from warehouse_hook import WarehouseHook

    secrets = [os.environ["NYC_TAXI_TLC_URL"]]
    with TlcHook().get_conn() as session:
        secrets.append(session.auth.password)
    hook = WarehouseHook(lock_timeout=0)
    secrets.append(hook.get_database())
    try:
        hook.get_conn()
    except Exception:
        logging.getLogger("include").exception("the lake cannot be opened")
    alert_on_failure(get_current_context())
    secrets.append("POST /services/s3cret-hook")
    for secret in secrets:
        print("printed:", secret)
        logging.getLogger("some.library").warning("logged: %s", secret)
    raise RuntimeError(f"raised: {secrets}")


with DAG("leaky", schedule="@daily", catchup=False, start_date=datetime(2023, 1, 1)):
    PythonOperator(task_id="leak", python_callable=leak, retries=0)
"""

# Airflow 3's supervisor, which starts the task's process and writes its log. It asks no api-server: `server` answers.
SUPERVISE = """
from uuid import UUID

import httpx
from airflow.sdk.api import client
from airflow.sdk.api.datamodels._generated import BundleInfo, TaskInstance
from airflow.sdk.execution_time.supervisor import supervise_task

instance = TaskInstance(
    id=UUID(int=1), dag_version_id=UUID(int=2), dag_id="leaky", task_id="leak", run_id="test", try_number=1
)
moments = ("logical_date", "data_interval_start", "data_interval_end", "run_after", "start_date", "end_date")
run = dict.fromkeys(moments, "2023-02-01T00:00:00Z") | {
    "dag_id": "leaky", "run_id": "test", "run_type": "manual", "state": "running", "partition_key": None,
    "consumed_asset_events": [],
}


def server(request):
    context = {"dag_run": run, "max_tries": 0, "should_retry": False}
    return httpx.Response(200, json=context if request.url.path.endswith("/run") else {})


client.noop_handler = server
supervise_task(
    ti=instance, bundle_info=BundleInfo(name="dags-folder"), dag_rel_path="leaky.py", token="", dry_run=True,
    log_path="leaky/leak.log",
)
"""

LAKE = "ducklake:postgres:host=127.0.0.1 port=1 user=me password='s3cret@lake' sslpassword=s3cret-ssl"


@pytest.fixture
def log(tmp_path: Path, tlc_site: TlcSimulator) -> str:
    """The log of a task that logs all that is secret, as a worker of this line of Airflow writes it."""
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "leaky.py").write_text(DAG)
    webhook = {"conn_type": "http", "host": tlc_site.url + "/services/s3cret-hook"}
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")]),
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(tmp_path / "logs"),
        "NYC_TAXI_TLC_URL": tlc_site.url.replace("http://", "http://me:s3cret%40tlc@"),
        "AIRFLOW_CONN_WAREHOUSE": json.dumps({"conn_type": "duckdb", "host": LAKE}),
        "AIRFLOW_CONN_ALERT_WEBHOOK": json.dumps(webhook),
    }
    airflow = str(Path(sys.executable).parent / "airflow")
    if IS_AIRFLOW_3:
        commands = [[sys.executable, "-c", SUPERVISE]]
    else:
        backfill = "dags backfill leaky --local -s 2023-02-01 -e 2023-02-01"
        commands = [[airflow, "db", "migrate"], [airflow, *backfill.split()]]
    output = [subprocess.run(command, env=environment, capture_output=True, text=True) for command in commands]
    logs = [path.read_text() for path in tmp_path.glob("logs/**/*leak*/**/*.log")]
    assert [bool(log) for log in logs] == [True], output
    return logs[0]


def test_no_secret_is_in_it(log: str) -> None:
    for shown in (
        "printed: ",
        "logged: ",
        "raised: ",
        "me:***@127.0.0.1",
        "password='***' sslpassword=***",
        "POST ***",
    ):
        assert shown in log
    assert "s3cret" not in log
