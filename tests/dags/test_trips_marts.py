"""The DAG of marts run for real, in this process and with dbt's own program, on a small month."""

import json
import shutil
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select

from include.local import dbt
from include.nyc_taxi import catalogue, settings, warehouse
from include.nyc_taxi.months import Month
from include.nyc_taxi.trips.load import load_month
from include.nyc_taxi.web import uses
from include.orchestration import assets, dbt_tasks, page
from include.orchestration.compat import IS_AIRFLOW_3, asset_models
from include.tlc_simulator.trips import write_month
from tests.dags.running import query, run, states
from tests.with_dbt import needs_dbt
from warehouse_hook import WarehouseHook

pytestmark = [
    pytest.mark.slow,
    needs_dbt,
    pytest.mark.usefixtures("metadata_database"),
    pytest.mark.xdist_group("trips_marts"),  # one prepared warehouse for all tests
]
once = pytest.mark.skipif(not IS_AIRFLOW_3, reason="what dbt and cosmos do here does not depend on Airflow's line")
"""A start of dbt takes seconds of processor time. 2.11 has a whole run, a failed model, and a run without dbt."""

ROWS = 500
COUNTED = "SELECT fleet, sum(num_trips)::BIGINT FROM marts.daily_trips GROUP BY ALL ORDER BY ALL"


def fill(con: duckdb.DuckDBPyConnection, folder: Path, *fleets: str) -> None:
    """Load a month of each fleet, and zones of which one is an airport."""
    for zone_id in range(1, catalogue.ZONES + 1):
        name = "JFK Airport" if zone_id == 132 else f"Zone {zone_id}"
        con.execute("INSERT INTO zones VALUES (?, ?, 'Queens', 'Boro Zone', NULL)", [zone_id, name])
    for fleet in fleets:
        file = folder / catalogue.file_name(fleet, "2023-01")
        write_month(file, fleet, "2023-01", rows=ROWS)
        load_month(con, fleet, Month("2023-01"), file, "run 1")


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two warehouses: `loaded.duckdb` with a month of two fleets, and `staged.duckdb` after `stage`."""
    folder = tmp_path_factory.mktemp("trips_marts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NYC_TAXI_DATA_DIR", str(folder / "data"))
        file = settings.warehouse_path()
        file.parent.mkdir()
        with duckdb.connect(str(file)) as con:
            warehouse.make_ready(con)
            fill(con, folder, "green", "yellow")
        shutil.copy(file, folder / "loaded.duckdb")
        stage = ["--select", "path:models/staging", "path:seeds", "--exclude-resource-type", "unit_test"]
        assert dbt.run(["build", *stage]) == 0
        shutil.copy(file, folder / "staged.duckdb")
    return folder


@pytest.fixture(autouse=True)
def data_dir(templates: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory that is empty at first. It is always the same: for another path, dbt reads all models anew."""
    folder = templates / "data"
    shutil.rmtree(folder)
    folder.mkdir()
    monkeypatch.setenv("NYC_TAXI_DATA_DIR", str(folder))
    return folder


@pytest.fixture
def loaded(templates: Path, data_dir: Path) -> None:
    """A warehouse with one month of two fleets, as an older version has made it."""
    with duckdb.connect(str(shutil.copy(templates / "loaded.duckdb", settings.warehouse_path()))) as con:
        con.execute("DROP VIEW trips_flagged")


@pytest.fixture
def staged(templates: Path, data_dir: Path) -> None:
    """The same, after the task `stage`."""
    shutil.copy(templates / "staged.duckdb", settings.warehouse_path())


@pytest.fixture
def marts(dag_bag: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The DAG of green marts, with retry delays of tenths of a second."""
    dag = dag_bag.dags["trips_marts_green"]
    for task in dag.tasks:
        monkeypatch.setattr(task, "retry_delay", timedelta(seconds=0.1))
        monkeypatch.setattr(task, "max_retry_delay", timedelta(seconds=0.5))
    return dag


def run_only(dag: Any, *task_ids: str) -> Any:
    """Run these tasks of the month again, as if the others had been marked as success."""
    return run(dag, "2023-01-01", marked="|".join(id_ for id_ in dag.task_ids if id_ not in task_ids))


def tries(done: Any, task_id: str) -> int:
    with create_session() as session:
        found = session.scalars(select(TaskInstance).where(TaskInstance.run_id == done.run_id)).all()
        return next(task.try_number for task in found if task.dag_id == done.dag_id and task.task_id == task_id)


def rendered(done: Any, task_id: str) -> dict[str, Any]:
    fields = RenderedTaskInstanceFields
    with create_session() as session:
        found = session.scalars(
            select(fields.rendered_fields).where(
                fields.dag_id == done.dag_id, fields.run_id == done.run_id, fields.task_id == task_id
            )
        ).one()
        return dict(found)


def event_of(asset: Any) -> dict[str, Any]:
    """The facts in the asset's newest event."""
    event, model, asset_id = asset_models()
    with create_session() as session:
        found = session.scalars(
            select(event.extra)
            .join(model, model.id == asset_id)
            .where(model.uri == asset.uri)
            .order_by(event.id.desc())
        ).first()
        return dict(found or {})


def wrapper(path: Path, after: str) -> Path:
    """A program that runs dbt, and kills it with SIGKILL when it has printed a line with these words."""
    path.write_text(
        f"#!{sys.executable}\n"
        "import subprocess, sys\n"
        f"dbt = subprocess.Popen([{str(settings.dbt_program())!r}, *sys.argv[1:]], stdout=subprocess.PIPE, text=True)\n"
        "for line in dbt.stdout:\n"
        "    print(line, end='', flush=True)\n"
        f"    if {after!r} in line:\n"
        "        dbt.kill()\n"
        "        break\n"
        "sys.exit(abs(dbt.wait()))\n"
    )
    path.chmod(0o755)
    return path


def test_a_month_is_built_tested_published_and_drawn(loaded: None, marts: Any, data_dir: Path) -> None:
    done = run(marts, "2023-01-01")

    assert set(states(done).values()) == {"success"}
    declared = {task.task_id for task in marts.tasks if page.uses_of(task, marts.dag_id)[0]}
    assert {use.task_id for use in uses.warehouse_uses()} == declared, "the page shows who opens the warehouse"
    assert query(data_dir, COUNTED) == [("green", ROWS)], "no other fleet's months are touched"
    built = "SELECT DISTINCT fleet, strftime(partition_month, '%Y-%m') FROM marts.built_months"
    assert query(data_dir, built) == [("green", "2023-01")]
    rows = query(data_dir, "SELECT count(*) FROM marts.daily_trips")[0][0]
    facts = event_of(assets.mart("daily_trips", "green"))
    assert (facts["month"], facts["rows"]) == ("2023-01", rows)
    picture = data_dir / "outputs" / "green" / "trips_at_airports_2023-01.png"
    assert event_of(assets.airport_chart("green"))["path"] == str(picture)
    assert picture.exists()
    assert (data_dir / "outputs" / "all_fleets" / "market_share_2023-01.png").exists()
    fields = rendered(done, "build.daily_trips")
    assert fields["env"] == {"MARTS_FLEET": "green", "MARTS_FROM": "2023-01", "MARTS_TO": "2023-01"}
    assert "cast(pickup_datetime as date) as day" in fields["compiled_sql"]

    # One model of one month again, as after its task has been cleared.
    query(data_dir, "UPDATE marts.daily_trips SET num_trips = 0")
    assert states(run_only(marts, "build.daily_trips"))["build.daily_trips"] == "success"
    assert query(data_dir, COUNTED) == [("green", ROWS)]


def test_the_alert_of_a_wrong_model_says_what_dbt_says_and_the_model_is_not_tried_again(
    staged: None, marts: Any, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chat: Any, logged: Any
) -> None:
    copy = shutil.copytree(dbt_tasks.PROJECT, tmp_path / "project")
    model = copy / "models" / "marts" / "daily_trips.sql"
    model.write_text(model.read_text().replace("cast(pickup_datetime as date)", "cast(picked_up as date)"))
    monkeypatch.setattr(marts.get_task("build.daily_trips"), "project_dir", str(copy))

    done = run_only(marts, "build.daily_trips")

    assert states(done)["build.daily_trips"] == "failed"
    assert tries(done, "build.daily_trips") == 1
    ((_, _, posted),) = chat.posts
    text = posted["text"]
    assert text.startswith("trips_marts_green.build.daily_trips failed for 2023-01")
    assert "error: dbt has failed (exit status 1): model daily_trips (include/dbt/models/marts/daily_trips.sql)" in text
    assert 'Binder Error: Referenced column "picked_up" not found' in text
    assert "LINE " in text
    log, line = logged(), "ERROR creating sql incremental model marts.daily_trips"
    # 2.11 logs and prints what it logs.
    assert log.count(line) == (1 if IS_AIRFLOW_3 else 2), "dbt's lines are not repeated after a failure"


@once
def test_a_test_that_finds_rows_fails_the_task_of_its_model(
    staged: None, marts: Any, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chat: Any
) -> None:
    copy = shutil.copytree(dbt_tasks.PROJECT, tmp_path / "project")
    model = copy / "models" / "marts" / "daily_trips.sql"
    model.write_text(model.read_text().replace("count(*) as num_trips", "count(*) - 1 as num_trips"))
    monkeypatch.setattr(marts.get_task("build.daily_trips"), "project_dir", str(copy))

    done = run_only(marts, "build.daily_trips")

    assert states(done)["build.daily_trips"] == "failed"
    assert tries(done, "build.daily_trips") == 1
    ((_, _, posted),) = chat.posts
    assert (
        "test counts_every_trip_daily_trips_ of daily_trips (include/dbt/models/marts/marts.yml): Got 1 result"
        in (posted["text"])
    )


def test_without_dbt_the_first_task_fails_at_once_and_says_what_to_do(
    staged: None, marts: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chat: Any
) -> None:
    monkeypatch.setenv("NYC_TAXI_DBT", str(tmp_path / "none"))
    done = run_only(marts, "stage", "build.daily_trips")
    assert states(done)["stage"] == "failed"
    assert states(done)["build.daily_trips"] == "upstream_failed"
    assert tries(done, "stage") == 1
    ((_, _, posted),) = chat.posts
    assert (
        f"NYC_TAXI_DBT: expected the path of the program dbt, found no program at {tmp_path / 'none'}" in posted["text"]
    )


@once
def test_after_a_kill_the_next_try_leaves_the_month_right(
    staged: None, marts: Any, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marts.get_task("build.daily_trips"), "retries", 0)
    for after in ("START sql incremental model", "OK created sql incremental model"):
        with monkeypatch.context() as killed:
            killed.setenv("NYC_TAXI_DBT", str(wrapper(tmp_path / "dbt", after)))
            done = run_only(marts, "build.daily_trips")
        assert states(done)["build.daily_trips"] == "failed"
    # The second try got so far, after the first one had been killed.
    assert query(data_dir, COUNTED) == [("green", ROWS)]
    done = run_only(marts, "build.daily_trips")
    assert states(done)["build.daily_trips"] == "success"
    assert query(data_dir, COUNTED) == [("green", ROWS)]


@once
def test_a_lake_is_built_like_a_file(
    marts: Any, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {
        "conn_type": "duckdb",
        "host": f"ducklake:{tmp_path}/catalog.db",
        "extra": {"data_path": f"{tmp_path}/lake/"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(connection))
    with WarehouseHook().opened() as con:
        fill(con, tmp_path, "green")
    done = run_only(marts, "wait_for_month", "stage", "build.daily_trips")
    assert states(done)["build.daily_trips"] == "success"
    with WarehouseHook().opened() as con:
        assert con.execute(COUNTED).fetchall() == [("green", ROWS)]
