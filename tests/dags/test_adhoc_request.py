"""adhoc_request and adhoc_request_sensor run for real: from a form's values or a file to CSV, chart and runs."""

import csv
import itertools
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from airflow.exceptions import ParamValidationError
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import delete, select

from include.nyc_taxi.reports import request_inbox
from include.orchestration.compat import IS_AIRFLOW_3
from include.tlc_simulator.server import TlcSimulator
from tests.dags.running import query, run, states

if IS_AIRFLOW_3:
    from airflow.models.asset import AssetEvent
    from airflow.models.xcom import XComModel as XCom
else:
    from airflow.models.dataset import DatasetEvent as AssetEvent
    from airflow.models.xcom import XCom

pytestmark = [
    pytest.mark.usefixtures("metadata_database", "no_pauses"),
    # 2.11 looks up all names that templates may use, its deprecated ones too, when it renders a map index.
    pytest.mark.filterwarnings("ignore:Accessing .* from the template is deprecated"),
]

GIVEN = {
    "fleet": "green",
    "borough": "Manhattan",
    "start_date": "2023-01-09",
    "end_date": "2023-01-22",
    "name": "two-weeks",
}
MOMENTS = itertools.count()


@pytest.fixture
def ask(dag_bag: Any) -> Callable[..., Any]:
    """Run `adhoc_request` with a configuration."""

    def once(**conf: Any) -> Any:
        moment = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=next(MOMENTS))
        return run(dag_bag.dags["adhoc_request"], moment.isoformat(), **conf)

    return once


class TestAdhocRequest:
    @pytest.fixture
    def month(self, dag_bag: Any, simulator: TlcSimulator) -> None:
        """Green trips of 2023-01 in the warehouse."""
        assert str(run(dag_bag.dags["taxi_trips_green"], "2023-01-01").state) == "success"

    @pytest.mark.slow
    def test_its_file_is_what_a_direct_query_of_the_parquet_file_says(
        self, ask: Callable[..., Any], month: None, data_dir: Path
    ) -> None:
        assert set(states(ask(**GIVEN)).values()) == {"success"}

        with (data_dir / "outputs" / "requests" / "two-weeks.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        found = {(row["weekday"], int(row["hour"])): int(row["num_trips"]) for row in rows if row["num_trips"] != "0"}
        raw, lookup = data_dir / "raw" / "green_tripdata_2023-01.parquet", data_dir / "raw" / "taxi_zone_lookup.csv"
        wanted = duckdb.execute(
            "SELECT dayname(lpep_pickup_datetime), hour(lpep_pickup_datetime), count(*) "
            f"FROM '{raw}' JOIN read_csv('{lookup}', all_varchar = true) ON PULocationID = LocationID::INTEGER "
            "WHERE Borough = 'Manhattan' AND lpep_pickup_datetime::DATE BETWEEN '2023-01-09' AND '2023-01-22' "
            "GROUP BY ALL"
        ).fetchall()
        assert len(rows) == 168
        assert found == {(weekday, hour): trips for weekday, hour, trips in wanted}
        assert sum(found.values()) > 50
        assert (data_dir / "outputs" / "requests" / "two-weeks.png").read_bytes().startswith(b"\x89PNG")

    def test_its_tasks_return_their_files_and_its_event_says_what_was_done(
        self, ask: Callable[..., Any], month: None, data_dir: Path
    ) -> None:
        done = ask(**GIVEN)
        assert returned(done, "count") == "requests/two-weeks.csv"
        assert returned(done, "draw") == "requests/two-weeks.png"
        with create_session() as session:
            (event,) = session.scalars(select(AssetEvent).where(AssetEvent.source_run_id == done.run_id)).all()
        assert event.source_task_id == "draw"
        assert event.extra.items() >= GIVEN.items()
        assert event.extra["rows"] == 168
        assert event.extra["trips"] > 50
        assert event.extra["path"] == str(data_dir / "outputs" / "requests" / "two-weeks.png")
        assert event.extra["csv_path"] == str(data_dir / "outputs" / "requests" / "two-weeks.csv")

    def test_months_that_are_not_loaded_are_named_and_nothing_is_written(
        self, ask: Callable[..., Any], month: None, data_dir: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        done = ask(**GIVEN | {"end_date": "2023-03-01"})
        assert "green 2023-02 to 2023-03 are not loaded" in caplog.text
        assert states(done) == {"check": "success", "count": "failed", "draw": "upstream_failed"}
        assert not (data_dir / "outputs" / "requests").exists()

    @pytest.mark.parametrize("wrong", [{"end_date": "2023-01-08"}, {"start_date": "2010-01-01"}, {"speed": "high"}])
    def test_what_the_form_cannot_check_fails_before_anything_is_done(
        self, ask: Callable[..., Any], data_dir: Path, wrong: dict[str, str]
    ) -> None:
        done = ask(**GIVEN | wrong)
        assert states(done) == {"check": "failed", "count": "upstream_failed", "draw": "upstream_failed"}
        assert not data_dir.exists()

    @pytest.mark.parametrize(
        "wrong",
        [
            {"borough": "'; drop table zones; --"},
            {"borough": ""},
            {"fleet": "purple"},
            {"start_date": "09.01.2023"},
            {"start_date": "2023-02-30"},
            {"end_date": None},
            *({"name": name} for name in ["../x", "/etc/x", "a/b", "", ".", "a.b", "x" * 65, None]),
        ],
        ids=str,
    )
    def test_the_form_refuses_what_is_wrong(self, dag_bag: Any, wrong: dict[str, str]) -> None:
        ((key, value),) = wrong.items()
        form = dag_bag.dags["adhoc_request"].params.get_param(key)
        assert form.resolve(GIVEN[key]) == GIVEN[key]
        with pytest.raises(ParamValidationError):
            form.resolve(value)

    @pytest.mark.parametrize("key", GIVEN)
    def test_the_form_asks_for_every_value(self, dag_bag: Any, key: str) -> None:
        with pytest.raises(ParamValidationError, match="No value passed"):
            dag_bag.dags["adhoc_request"].params.get_param(key).resolve()

    def test_has_lists_and_date_pickers_in_its_form(self, dag_bag: Any) -> None:
        form = {key: dag_bag.dags["adhoc_request"].params.get_param(key) for key in GIVEN}
        assert form["fleet"].schema["enum"] == ["yellow", "green", "fhv", "fhvhv"]
        assert "Staten Island" in form["borough"].schema["enum"]
        for key in ("start_date", "end_date"):
            assert form[key].schema["format"] == "date"
            assert "included" in form[key].description

    def test_runs_when_asked_without_being_unpaused_first(self, dag_bag: Any) -> None:
        dag = dag_bag.dags["adhoc_request"]
        assert dag.is_paused_upon_creation is False
        assert type(dag.timetable).__name__ == "NullTimetable"


def returned(done: Any, task_id: str) -> Any:
    """Return what a task of a run has returned."""
    wanted = {"dag_id": done.dag_id, "run_id": done.run_id, "task_id": task_id, "key": "return_value"}
    with create_session() as session:
        found = session.scalars(select(XCom).filter_by(**wanted)).one()
        return XCom.deserialize_value(found) if IS_AIRFLOW_3 else found.value


class TestAdhocRequestSensor:
    @pytest.fixture(autouse=True)
    def no_runs(self) -> Iterator[None]:
        """Delete the runs of earlier tests, whose files had the same names."""
        with create_session() as session:
            session.execute(delete(DagRun).where(DagRun.dag_id == "adhoc_request"))
        return

    @pytest.fixture
    def poll(self, dag_bag: Any) -> Callable[[], Any]:
        """Run `adhoc_request_sensor` once."""

        def once() -> Any:
            moment = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=next(MOMENTS))
            return run(dag_bag.dags["adhoc_request_sensor"], moment.isoformat())

        return once

    @pytest.fixture
    def put(self, data_dir: Path) -> Callable[..., Path]:
        """Write a request file whose last change was a while ago."""

        def write(file: str, text: str = "", **changed: str) -> Path:
            path = data_dir / "requests" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text or json.dumps({key: GIVEN[key] for key in GIVEN if key != "name"} | changed))
            os.utime(path, (time.time() - 60,) * 2)
            return path

        return write

    def test_an_empty_folder_is_a_success(self, poll: Callable[[], Any], data_dir: Path) -> None:
        done = poll()
        assert str(done.state) == "success"
        assert instances(done) == {
            ("claim", -1): "success",
            ("find_malformed", -1): "success",
            ("request.start", -1): "skipped",
            ("request.confirm", -1): "skipped",
            ("report", -1): "skipped",
        }
        assert (data_dir / "requests").is_dir()

    @pytest.mark.slow
    def test_twenty_files_at_once_start_twenty_runs_and_a_second_poll_none(
        self, poll: Callable[[], Any], put: Callable[..., Path]
    ) -> None:
        for number in range(20):
            put(f"burst-{number}.json")
        assert str(poll().state) == "success"
        started = runs()
        assert sorted(found["name"] for found in started.values()) == sorted(f"burst-{number}" for number in range(20))
        assert all(run_id.startswith(f"file__{conf['name']}__1__") for run_id, conf in started.items())

        assert str(poll().state) == "success"
        assert runs() == started

    def test_a_run_is_given_exactly_what_the_file_asks_for(
        self, poll: Callable[[], Any], put: Callable[..., Path]
    ) -> None:
        put("queens.json", borough="Queens")
        poll()
        (conf,) = runs().values()
        assert conf == GIVEN | {"borough": "Queens", "name": "queens"}

    def test_a_file_that_changes_starts_one_more_run(self, poll: Callable[[], Any], put: Callable[..., Path]) -> None:
        put("a.json")
        put("b.json")
        poll()
        put("a.json", borough="Bronx")
        poll()
        assert sorted((conf["name"], conf["borough"]) for conf in runs().values()) == [
            ("a", "Bronx"),
            ("a", "Manhattan"),
            ("b", "Manhattan"),
        ]

    def test_a_malformed_file_is_reported_once_and_stops_nothing_else(
        self, poll: Callable[[], Any], put: Callable[..., Path], caplog: pytest.LogCaptureFixture
    ) -> None:
        put("bad.json", '{"fleet": "yellow"')
        put("injected.json", borough="'; drop table zones; --")
        put("up.json", name="../up")
        put("good.json")
        with caplog.at_level(logging.ERROR):
            done = poll()
        assert str(done.state) == "failed"
        assert instances(done) == {
            ("claim", -1): "success",
            ("find_malformed", -1): "success",
            ("request.start", 0): "success",
            ("request.confirm", 0): "success",
            ("report", 0): "failed",
            ("report", 1): "failed",
            ("report", 2): "failed",
        }
        assert [conf["name"] for conf in runs().values()] == ["good"]
        for says in (
            "requests/bad.json starts no run: the file is not JSON",
            'drop table zones; --": expected one of Manhattan',
            "requests/up.json starts no run: the request is wrong: name '../up'",
        ):
            assert says in caplog.text

        done = poll()
        assert str(done.state) == "success"
        assert instances(done)["report", -1] == "skipped"

        put("bad.json")
        poll()
        assert sorted(conf["name"] for conf in runs().values()) == ["bad", "good"]

    def test_a_claim_that_was_started_but_not_confirmed_is_not_started_twice(
        self, poll: Callable[[], Any], put: Callable[..., Path], data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put("a.json")
        with monkeypatch.context() as killed:
            killed.setattr(request_inbox, "settle", lambda *_, **__: os.strerror(5))
            poll()
        assert len(runs()) == 1
        assert len(request_inbox.claim(data_dir / "requests")) == 1

        done = poll()
        assert str(done.state) == "success"
        assert instances(done)["request.start", 0] == "skipped"
        assert instances(done)["request.confirm", 0] == "success"
        assert len(runs()) == 1
        assert request_inbox.claim(data_dir / "requests") == []

    def test_a_claim_that_another_poll_is_about_to_start_is_started_once(
        self, poll: Callable[[], Any], put: Callable[..., Path], data_dir: Path
    ) -> None:
        put("a.json")
        (other,) = request_inbox.claim(data_dir / "requests")
        poll()
        assert list(runs()) == [other.run_id]

    def test_the_run_that_a_file_started_makes_the_report(
        self,
        poll: Callable[[], Any],
        put: Callable[..., Path],
        dag_bag: Any,
        ask: Callable[..., Any],
        simulator: TlcSimulator,
        data_dir: Path,
    ) -> None:
        run(dag_bag.dags["taxi_trips_green"], "2023-01-01")
        put("two-weeks.json")
        poll()
        (conf,) = runs().values()
        assert set(states(ask(**conf)).values()) == {"success"}
        assert (data_dir / "outputs" / "requests" / "two-weeks.png").exists()
        assert query(data_dir, "SELECT count(*) FROM zones") == [(265,)]


def runs() -> dict[str, dict[str, str]]:
    """Return the queued runs of adhoc_request with their configuration."""
    with create_session() as session:
        found = session.scalars(select(DagRun).where(DagRun.dag_id == "adhoc_request")).all()
        assert {str(done.state) for done in found} <= {"queued"}
        return {done.run_id: done.conf for done in found}


def instances(done: Any) -> dict[tuple[str, int], str]:
    """Return the states of a run's task instances by task and map index (-1 if not mapped)."""
    with create_session() as session:
        found = session.scalars(select(TaskInstance).where(TaskInstance.run_id == done.run_id)).all()
        return {(task.task_id, task.map_index): str(task.state) for task in found if task.dag_id == done.dag_id}
