"""The registry of tables and the DAGs: what makes a table, what waits for it, and a DAG that needs tables."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from airflow.providers.common.compat.sdk import get_current_context

from include.local import dbt, table_picture, table_registry
from include.nyc_taxi import catalogue
from include.nyc_taxi.warehouse import registry as warehouse_tables
from include.nyc_taxi.web.visit import Visit
from include.orchestration import tables
from include.orchestration.compat import IS_AIRFLOW_3
from include.orchestration.month_sensor import TableSensor
from include.orchestration.tables import Table
from include.tlc_simulator.server import TlcSimulator
from tests.conftest import ROOT
from tests.dags.running import query, run, states
from tests.with_dbt import needs_dbt

MANIFEST = json.loads(table_registry.MANIFEST.read_text())
MADE = [table for table in tables.registry() if table.made_by]
PICTURE = ROOT / "docs" / "images" / "tables.svg"
ALSO = {("zones", "taxi_trips_green.load"), ("trips_by_week", "taxi_trips_green.load")}
"""Tables and tasks that write them besides their makers: where there are no zones, and where a month changes weeks."""


def test_the_registry_is_as_the_manifest_and_the_dags_are(dags_to_read: Any) -> None:
    expected = table_registry.describe(MANIFEST, table_registry.waits(dags_to_read.dags))
    assert tables.FILE.read_text() == expected, "stale: run `make dbt-manifest` or `make docs`"


def test_every_table_of_the_warehouse_and_every_mart_has_a_maker() -> None:
    names = {table.name for table in MADE}
    assert {table.name for table in (*warehouse_tables.tables(), *warehouse_tables.views())} <= names
    models = [node for node in MANIFEST["nodes"].values() if node["resource_type"] == "model"]
    models = [node for node in models if node["config"]["materialized"] != "ephemeral"]  # a step, and no table
    assert {f"marts.{node['name']}" for node in models if node["schema"] == "marts"} <= names


@pytest.mark.parametrize("table", MADE, ids=lambda table: table.name)
def test_the_maker_of_a_table_is_a_task_whose_runs_make_what_it_says(dags_to_read: Any, table: Table) -> None:
    assert table.made_by is not None
    for fleet in [table.fleet] if table.fleet else catalogue.FLEETS:
        maker = table.made_by.of(fleet)
        dag = dags_to_read.dags[maker.dag]
        assert maker.task in dag.task_ids, (
            f"{maker.dag} has no task {maker.task}, which {table.file} says makes {table.name}"
        )
        assert {"month", "week"} & set(dag.params) == ({maker.partition} if maker.partition else set())


def test_every_task_of_dbt_that_builds_a_model_is_that_models_maker(dags_to_read: Any) -> None:
    for fleet in catalogue.FLEETS:
        tasks = {name for name in dags_to_read.dags[f"trips_marts_{fleet}"].task_ids if name.startswith("build.")}
        makers = [table.made_by.of(fleet) for table in MADE if table.made_by]
        assert tasks == {maker.task for maker in makers if maker.dag == f"trips_marts_{fleet}"}


def test_every_wait_ends_and_is_for_the_task_that_makes_the_table(dags_to_read: Any) -> None:
    sensors = [task for dag in dags_to_read.dags.values() for task in dag.tasks if isinstance(task, TableSensor)]
    assert len(sensors) >= 4 * len(catalogue.FLEETS)
    for sensor in sensors:
        maker = tables.registry().maker(sensor.table).of(sensor.fleet)
        assert (sensor.external_dag_id, sensor.external_task_ids) == (maker.dag, [maker.task])
        assert sensor.timeout == tables.LIMITS[maker.partition].total_seconds()
        assert sensor.mode == "reschedule"


class TestThePicture:
    root = ElementTree.parse(PICTURE).getroot()

    def test_is_as_the_registry_is(self) -> None:
        assert PICTURE.read_text() == table_picture.draw(tables.registry()), "stale: run `make docs`"

    def test_has_an_arrow_for_each_dag_that_waits_for_another_and_no_other(self, dags_to_read: Any) -> None:
        arrows = {(path.get("data-from"), path.get("data-to")) for path in self.root.iter() if path.get("data-from")}
        waits = {
            (task.external_dag_id.replace("green", "<fleet>"), dag_id.replace("green", "<fleet>"))
            for dag_id, dag in dags_to_read.dags.items()
            for task in dag.tasks
            if isinstance(task, TableSensor) and dag_id.endswith("_green")
        }
        assert arrows == waits

    def test_has_every_table_below_the_dag_that_makes_it(self) -> None:
        shown = {
            ("".join(text.itertext()), text.get("data-maker")) for text in self.root.iter() if text.get("data-maker")
        }
        made = {
            (table.name, table.made_by.of("green").dag)
            for table in MADE
            if table.made_by and table.fleet in (None, "green")
        }
        renamed = {
            (name.replace("green_trips", "<fleet>_trips"), dag_id.replace("green", "<fleet>")) for name, dag_id in made
        }
        assert shown == renamed


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('needs("marts.daily_trip", MONTH)', "there is no table 'marts.daily_trip': did you mean marts.daily_trips?"),
        ('needs("staging.vendors")', "include/dbt/seeds/vendors.csv does not say what makes staging.vendors"),
        ('needs("trips_by_week", MONTH, fleet="green")', "waits for trips_by_week of trips_by_week_green"),
    ],
)
def test_a_need_that_cannot_be_met_is_an_import_error_of_the_dag_file(
    dags_to_read: Any, tmp_path: Path, line: str, sentence: str
) -> None:
    path = tmp_path / "needy.py"
    path.write_text(
        "from airflow.providers.common.compat.sdk import DAG\n"
        "from calendar_timetables import START_DATE\n"
        "from include.orchestration.month import MONTH\n"
        "from include.orchestration.tables import needs\n"
        f"with DAG('trips_by_week_green', schedule=None, start_date=START_DATE):\n    {line}\n"
    )
    bag = type(dags_to_read)(str(path))
    (error,) = bag.import_errors.values()
    assert f"TableError: {path}: needs(" in error
    assert sentence in error
    assert bag.dags == {}


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """The tables that tasks have changed, each with `dag.task`, observed when a task opens and leaves the warehouse."""
    found: set[tuple[str, str]] = set()
    before: dict[Visit, dict[str, Any]] = {}
    begin, end = Visit.begin, Visit.end

    def contents(con: Any) -> dict[str, Any]:
        names = [table.name for table in warehouse_tables.tables()]
        existing = {name for (name,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
        sql = "SELECT count(*), bit_xor(hash(t)) FROM {} AS t"
        return {name: con.execute(sql.format(name)).fetchone() for name in names if name in existing}

    def begin_observed(visit: Visit, con: Any) -> None:
        before[visit] = contents(con)
        begin(visit, con)

    def end_observed(visit: Visit, con: Any) -> None:
        task = get_current_context()["ti"]
        nothing = {table.name: (0, None) for table in warehouse_tables.tables()}
        changed = contents(con).items() - (nothing | before.pop(visit)).items()
        found.update((name, f"{task.dag_id}.{task.task_id}") for name, _ in changed)
        end(visit, con)

    # Not the hook itself: Airflow imports plugins again.
    monkeypatch.setattr(Visit, "begin", begin_observed)
    monkeypatch.setattr(Visit, "end", end_observed)
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("metadata_database", "no_pauses")
def test_each_task_that_writes_a_table_is_that_tables_maker(
    dag_bag: Any, simulator: TlcSimulator, data_dir: Path, writes: set[tuple[str, str]]
) -> None:
    """Tasks that write something else of a DAG's own doing are in ALSO, and in docs/reference/tables.md."""
    done = [run(dag_bag.dags["taxi_zones"], "2023-01-01")]
    done += [
        run(dag_bag.dags["taxi_trips_green"], "2023-01-01"),
        run(dag_bag.dags["trips_by_week_green"], "2023-01-09"),
    ]
    simulator.republish("green", "2023-01")
    query(data_dir, "DELETE FROM zones")
    done += [run(dag_bag.dags["taxi_trips_green"], "2023-01-02"), run(dag_bag.dags["warehouse_status"], "2023-01-03")]
    request = {"fleet": "green", "borough": "Queens", "start_date": "2023-01-01", "end_date": "2023-01-31", "name": "a"}
    done.append(run(dag_bag.dags["adhoc_request"], "2023-01-04", **request))
    assert {str(each.state) for each in done} == {"success"}

    of_green = [table for table in MADE if table.kind == "source" and table.fleet in (None, "green")]
    views = {view.name for view in warehouse_tables.views()}
    makers = {
        (table.name, f"{maker.dag}.{maker.task}")
        for table in of_green
        if table.name not in views and (maker := tables.registry().maker(table.name).of("green"))
    }
    assert writes == makers | ALSO
    page = (ROOT / "docs" / "reference" / "tables.md").read_text()
    assert re.search(r"One task also writes tables .*`load`.*zones.*recounts the weeks", page, re.DOTALL)


@pytest.fixture
def example(dags_to_read: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The DAG in docs/how-to/marts.md, exactly as the page shows it."""
    page = (ROOT / "docs" / "how-to" / "marts.md").read_text()
    ((name, text),) = re.findall(r"```python\n# dags/(\S+)\n(.*?)```", page, re.DOTALL)
    path = tmp_path / name
    path.write_text(text)
    bag = type(dags_to_read)(str(path))
    assert bag.import_errors == {}
    if IS_AIRFLOW_3:
        # Airflow 3 only runs DAGs that are in its database, from a bundle that it knows.
        from airflow.dag_processing.dagbag import sync_bag_to_db

        sync_bag_to_db(bag, "dags-folder", bundle_version=None)
    dag = bag.dags["busiest_day_green"]
    for task in dag.tasks:
        monkeypatch.setattr(task, "retries", 0)
    return dag


@needs_dbt
@pytest.mark.slow
@pytest.mark.usefixtures("metadata_database", "no_pauses")
def test_the_dag_in_the_documentation_gets_its_mart_and_its_table(
    dag_bag: Any, example: Any, simulator: TlcSimulator, data_dir: Path, logged: Any
) -> None:
    run(dag_bag.dags["taxi_trips_green"], "2023-02-01")
    assert dbt.run(["build", "--select", "+daily_trips"], fleet="green", first="2023-02") == 0
    logged()

    done = run(example, "2023-02-01")

    assert states(done) == dict.fromkeys(["wait_for_daily_trips", "wait_for_zones", "find"], "success")
    log = logged()
    assert "marts.daily_trips has green 2023-02, built from the load of" in log
    assert "zones has rows" in log
    by_day = "SELECT pickup_datetime::DATE::VARCHAR, count(*) FROM green_trips GROUP BY ALL"
    trips = dict(query(data_dir, by_day))
    (day,) = {*re.findall(r"The busiest day of 2023-02 was (\d{4}-\d\d-\d\d)", log)}  # 2.11 logs it twice
    assert trips[day] == max(trips.values())


@pytest.mark.slow
@pytest.mark.usefixtures("metadata_database", "no_pauses")
def test_the_dag_in_the_documentation_fails_when_the_run_that_was_to_make_its_mart_has_failed(
    dag_bag: Any, example: Any, simulator: TlcSimulator, data_dir: Path, logged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(dag_bag.dags["taxi_trips_green"], "2023-02-01")
    monkeypatch.setenv("NYC_TAXI_DBT", str(data_dir / "no-dbt"))
    failed = run(dag_bag.dags["trips_marts_green"], "2023-02-01")
    assert states(failed)["stage"] == "failed"

    done = run(example, "2023-02-01")

    assert states(done) == {"wait_for_daily_trips": "failed", "wait_for_zones": "success", "find": "upstream_failed"}
    assert f"trips_marts_green has failed for 2023-02, in stage (run {failed.run_id})" in logged()
