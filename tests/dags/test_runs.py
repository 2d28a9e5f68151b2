"""Each DAG run for real, in this process: every task, against a simulated TLC and a warehouse on a temporary path."""

import contextlib
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from airflow.exceptions import ParamValidationError
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select

from include.orchestration.airflow_line import IS_AIRFLOW_3
from include.tlc_simulator.faults import ErrorPage, Status
from include.tlc_simulator.server import TlcSimulator

pytestmark = pytest.mark.usefixtures("metadata_database")


def run(dag: Any, day: str | None, **conf: Any) -> Any:
    """Run all tasks of `dag` for a date, as `airflow dags test` does; the run is returned, also when it failed."""
    moment = datetime.fromisoformat(day).replace(tzinfo=UTC) if day else None
    # It does not raise when a task fails; what it raises besides is the run's end.
    return dag.test(**{"logical_date" if IS_AIRFLOW_3 else "execution_date": moment}, run_conf=conf or None)


def states(done: Any) -> dict[str, str]:
    with create_session() as session:
        found = session.scalars(select(TaskInstance).where(TaskInstance.run_id == done.run_id)).all()
        return {task.task_id: str(task.state) for task in found if task.dag_id == done.dag_id}


def query(data_dir: Path, sql: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(duckdb.connect(str(data_dir / "warehouse.duckdb"))) as con:
        return con.execute(sql).fetchall()


@pytest.fixture(autouse=True)
def no_pauses(dag_bag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing task is not tried again: `dag.test` would sit out its retry delays."""
    for dag in dag_bag.dags.values():
        for task in dag.tasks:
            monkeypatch.setattr(task, "retries", 0)


def test_taxi_zones_loads_all_zones(dag_bag: Any, simulator: TlcSimulator, data_dir: Path) -> None:
    assert str(run(dag_bag.dags["taxi_zones"], "2023-01-01").state) == "success"
    assert query(data_dir, "SELECT count(*), count(geometry) FROM zones") == [(265, 263)]


def test_a_date_means_the_month_that_contains_it(dag_bag: Any, simulator: TlcSimulator, data_dir: Path) -> None:
    done = run(dag_bag.dags["taxi_trips_green"], "2023-02-01")

    assert set(states(done).values()) == {"success"}
    assert query(data_dir, "SELECT DISTINCT partition_month FROM green_trips") == [(date(2023, 2, 1),)]
    assert query(data_dir, "SELECT rows_in_file, rows_loaded, run_id FROM loads") == [(1000, 1000, done.run_id)]
    made = {path.name for path in (data_dir / "outputs" / "green").glob("manhattan*")}
    assert made == {
        "manhattan_stats_2023-02.geojson",
        "manhattan_stats.geojson",
        "manhattan_map_2023-02.png",
        "manhattan_map.png",
    }


def test_the_month_of_the_form_comes_before_the_date(dag_bag: Any, simulator: TlcSimulator, data_dir: Path) -> None:
    assert str(run(dag_bag.dags["taxi_trips_yellow"], "2023-01-15", month="2023-03").state) == "success"
    assert query(data_dir, "SELECT fleet, partition_month FROM loads") == [("yellow", date(2023, 3, 1))]


def test_a_month_before_the_schedules_first_can_be_run(dag_bag: Any, simulator: TlcSimulator, data_dir: Path) -> None:
    assert set(states(run(dag_bag.dags["taxi_trips_green"], "2021-12-31")).values()) == {"success"}
    assert query(data_dir, "SELECT partition_month, rows_loaded FROM loads") == [(date(2021, 12, 1), 1000)]


def test_a_month_before_the_tlcs_first_fails_and_says_so(dag_bag: Any, simulator: TlcSimulator) -> None:
    done = run(dag_bag.dags["taxi_trips_green"], "2013-01-01")
    assert states(done)["wait_for_file"] == "failed"
    assert not [request for request in simulator.requests if "green" in request.path]


def test_asset_events_say_what_was_done(dag_bag: Any, simulator: TlcSimulator, data_dir: Path) -> None:
    if IS_AIRFLOW_3:
        from airflow.models.asset import AssetEvent as Event
    else:
        from airflow.models.dataset import DatasetEvent as Event
    done = run(dag_bag.dags["taxi_trips_green"], "2023-01-01")

    with create_session() as session:
        events = {
            event.source_task_id: event.extra
            for event in session.scalars(select(Event).where(Event.source_run_id == done.run_id)).all()
        }
    assert set(events) == {"download", "load", "aggregate", "map"}
    for task_id, extra in events.items():
        assert extra["month"] == "2023-01", task_id
        assert extra["seconds"] > 0, task_id
    assert events["download"]["bytes"] == (data_dir / "raw" / "green_tripdata_2023-01.parquet").stat().st_size
    assert events["load"]["rows"] == 1000
    assert events["load"]["quality"]["pickup_outside_month"] > 0
    assert Path(events["map"]["path"]).read_bytes().startswith(b"\x89PNG")


def test_trips_are_not_loaded_before_the_zones(dag_bag: Any, simulator: TlcSimulator, data_dir: Path) -> None:
    simulator.add_fault("/misc/", ErrorPage())
    done = run(dag_bag.dags["taxi_trips_green"], "2023-01-01")

    assert states(done)["ensure_zones"] == "failed"
    assert states(done)["load"] == "upstream_failed"
    assert query(data_dir, "SELECT count(*) FROM green_trips") == [(0,)]

    simulator.clear_faults()
    assert set(states(run(dag_bag.dags["taxi_trips_green"], "2023-01-02")).values()) == {"success"}
    assert query(data_dir, "SELECT count(*) FROM zones") == [(265,)]


def test_a_failed_download_keeps_the_month_as_it_was(dag_bag: Any, simulator: TlcSimulator, data_dir: Path) -> None:
    run(dag_bag.dags["taxi_trips_green"], "2023-01-01")
    before = query(data_dir, "SELECT * FROM green_trips ORDER BY ALL")
    simulator.republish("green", "2023-01")
    simulator.add_fault("/trip-data/", ErrorPage(), methods=("GET",))

    done = run(dag_bag.dags["taxi_trips_green"], "2023-01-03")

    assert states(done)["download"] == "failed"
    assert states(done)["load"] == "upstream_failed"
    assert query(data_dir, "SELECT * FROM green_trips ORDER BY ALL") == before


def test_an_error_of_the_site_is_not_taken_for_not_yet_published(dag_bag: Any, simulator: TlcSimulator) -> None:
    simulator.add_fault("/trip-data/", Status(500), methods=("HEAD",))
    assert states(run(dag_bag.dags["taxi_trips_green"], "2023-01-01"))["wait_for_file"] == "failed"


@pytest.mark.skipif(not IS_AIRFLOW_3, reason="on 2.11 every run has a logical date")
def test_a_run_without_a_date_works_when_it_has_a_month(dag_bag: Any, simulator: TlcSimulator, data_dir: Path) -> None:
    assert str(run(dag_bag.dags["taxi_trips_green"], None, month="2023-02").state) == "success"
    assert query(data_dir, "SELECT partition_month FROM loads") == [(date(2023, 2, 1),)]


@pytest.mark.parametrize("month", ["2023-13", "2023-1", "../etc", "2023-01-01", "'; drop table zones; --"])
def test_a_malformed_month_is_refused_by_the_form(dag_bag: Any, month: str) -> None:
    form = dag_bag.dags["taxi_trips_green"].params.get_param("month")
    assert form.resolve("2023-02") == "2023-02"
    with pytest.raises(ParamValidationError, match="does not match"):
        form.resolve(month)


def test_outputs_hold_every_manhattan_zone(dag_bag: Any, simulator: TlcSimulator, data_dir: Path) -> None:
    run(dag_bag.dags["taxi_trips_green"], "2023-01-01")
    collection = json.loads((data_dir / "outputs" / "green" / "manhattan_stats_2023-01.geojson").read_text())
    wanted = query(data_dir, "SELECT zone_id FROM zones WHERE borough = 'Manhattan' AND geometry IS NOT NULL")
    assert [feature["properties"]["zone_id"] for feature in collection["features"]] == sorted(x for (x,) in wanted)
