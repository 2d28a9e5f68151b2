"""When lineage is sent, and that it never costs a task more than a few seconds."""

import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException

from include.nyc_taxi.audit.engine import Check, QualityError
from include.nyc_taxi.audit.rules import Severity
from include.nyc_taxi.warehouse import lake, make_ready
from include.orchestration import assets, lineage, month_tasks
from include.orchestration.lineage_datasets import Warehouse
from tests.openlineage_receiver import Receiver, installed
from warehouse_hook import WarehouseHook

MART = "x-nyc-taxi://marts/daily_trips/green"
FACTS = {"month": "2023-02", "rows": 4}


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """A provider that is installed and active, and a task that runs."""
    made = installed(monkeypatch)
    monkeypatch.setattr(lineage, "get_current_context", lambda: {"ti": "this task"})
    monkeypatch.setattr(lineage, "_given_up", False)
    monkeypatch.setattr(lineage, "longest", lambda: 0.2)
    return made


def test_an_event_tells_what_its_task_has_read_and_made(receiver: Receiver) -> None:
    asset = assets.airport_chart("green")
    events = {asset: SimpleNamespace(extra={})}
    with assets.event(events, asset, month="2023-02") as facts:  # type: ignore[arg-type]
        facts.update(path="/srv/outputs/green/trips_at_airports_2023-02.png")
    (sent,) = receiver.sent
    assert sent["task_instance"] == "this task"
    assert [Path(dataset.name).name for dataset in (*sent["inputs"], *sent["outputs"])] == [
        "trips_at_airports_YYYY-MM.csv",
        "trips_at_airports_YYYY-MM.png",
    ]


def test_a_block_that_fails_tells_nothing(receiver: Receiver) -> None:
    asset = assets.trips("green")
    with pytest.raises(ZeroDivisionError), assets.event({}, asset, month="2023-02"):
        raise ZeroDivisionError
    assert receiver.sent == []


def test_a_refused_month_tells_what_the_audit_found(receiver: Receiver) -> None:
    error = QualityError("refused", [Check("unknown_zone", Severity.ERROR, 0, 0.5, "half of them")])
    with pytest.raises(QualityError), assets.event({}, assets.trips("green"), month="2023-02"):
        raise error
    (sent,) = receiver.sent
    (file,) = sent["inputs"]
    assert [check.success for check in file.inputFacets["dataQualityAssertions"].assertions] == [False]
    assert [dataset.name for dataset in sent["outputs"]] == ["warehouse.main.quality_checks"]


def test_a_provider_that_is_not_active_is_sent_nothing(receiver: Receiver) -> None:
    receiver.active = False
    lineage.tell(MART, FACTS)
    assert receiver.sent == []


def test_without_the_provider_nothing_is_even_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage", None)
    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage.api", None)
    monkeypatch.delitem(sys.modules, "include.orchestration.lineage_datasets", raising=False)
    lineage.tell(MART, FACTS)
    assert not lineage.is_on()
    assert "include.orchestration.lineage_datasets" not in sys.modules


def test_a_receiver_that_does_not_answer_is_left_after_the_first_time(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    answered = threading.Event()
    receiver.answer = lambda: answered.wait() and None
    for _ in range(3):
        lineage.tell(MART, FACTS)
    answered.set()
    assert len(receiver.sent) == 1
    assert [record.levelname for record in caplog.records if "has not answered" in record.message] == ["WARNING"]


def test_a_task_waits_as_long_as_the_provider_is_set_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT", "4")
    assert lineage.longest() == 4.0
    monkeypatch.delenv("AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT")
    assert lineage.longest() == 10.0


def test_a_load_that_finds_nothing_new_tells_what_it_has_read(
    receiver: Receiver, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse, site = WarehouseHook(), cast("Any", None)
    with warehouse.opened() as con:
        make_ready(con)
        con.execute("INSERT INTO zones VALUES (1, 'Newark Airport', 'EWR', 'EWR', NULL)")
    monkeypatch.setattr(month_tasks, "_reason_to_skip", lambda *_: "nothing new")
    with (
        pytest.raises(AirflowSkipException, match="nothing new"),
        month_tasks.warehouse_for_load(warehouse, site, "green", "2023-01", None, {}),
    ):
        pytest.fail("the month is loaded")
    (sent,) = receiver.sent
    assert [dataset.name for dataset in sent["inputs"]] == ["warehouse.main.zones", "warehouse.main.latest_loads"]
    assert sent["outputs"] == []


def test_what_cannot_be_described_is_a_warning_and_no_error(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    lineage.tell(MART, {"month": "February"})
    assert receiver.sent == []
    assert "the lineage of this task is not sent: MonthError" in caplog.text


@pytest.mark.parametrize("ended", [KeyboardInterrupt, SystemExit])
def test_who_ends_a_task_ends_it_here_too(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, ended: type[BaseException]
) -> None:
    def end() -> None:
        raise ended

    monkeypatch.setattr(lineage, "get_current_context", end)
    with pytest.raises(ended):
        lineage.tell(MART, FACTS)


class TestPlace:
    def test_is_the_file_as_dbt_names_it(self, data_dir: Path) -> None:
        assert lineage.place() == Warehouse(f"duckdb://{data_dir}/warehouse.duckdb", "warehouse")

    def test_is_where_a_lakes_files_are(self, monkeypatch: pytest.MonkeyPatch) -> None:
        connection = '{"conn_type": "duckdb", "host": "ducklake:postgres:", "extra": {"data_path": "s3://lake/taxi"}}'
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", connection)
        assert lineage.place() == Warehouse("ducklake:s3://lake/taxi", lake.DATABASE)

    def test_has_no_password(self, monkeypatch: pytest.MonkeyPatch) -> None:
        catalog = "ducklake:postgres:dbname=lake host=db password=s3cret"
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", f'{{"conn_type": "duckdb", "host": "{catalog}"}}')
        found = lineage.place_of(WarehouseHook())
        assert "s3cret" not in str(found)
        assert found.namespace.startswith("ducklake:postgres:dbname=lake host=db")
