"""The registry of tables, and what a DAG file gets when it says what it needs, or cannot get."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from calendar_timetables import START_DATE
from include.local import table_registry
from include.local.errors import CommandError
from include.nyc_taxi import catalogue
from include.orchestration import tables
from include.orchestration.defaults import WAREHOUSE_POOL
from include.orchestration.month import MONTH
from include.orchestration.month_sensor import MonthLoadedSensor, TableSensor
from include.orchestration.table_sensors import MartBuiltSensor, RowsSensor
from include.orchestration.tables import Registry, TableError, needs, needs_of
from include.orchestration.week import WEEK

MANIFEST = json.loads(table_registry.MANIFEST.read_text())


def a_dag(dag_id: str) -> DAG:
    return DAG(dag_id, start_date=START_DATE, schedule=None)


@pytest.fixture(autouse=True)
def no_other_dags(monkeypatch: pytest.MonkeyPatch) -> None:
    """The DAGs of other tests are of no interest, nor those of the test before that nobody has collected yet."""
    tables._dags.clear()
    monkeypatch.setattr(tables, "_registry", None)


@pytest.fixture
def dag() -> Iterator[DAG]:
    """A DAG that is being made."""
    with a_dag("reader") as made:
        yield made


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let DAG files read another registry: that of the manifest after a change."""

    def use(change: Callable[[Any], None] = lambda manifest: None, waits: Any = None) -> None:
        manifest = json.loads(json.dumps(MANIFEST))
        change(manifest)
        content = json.loads(table_registry.describe(manifest, {}))
        registry = Registry(content | {"waits": waits or {}})
        monkeypatch.setattr(tables, "registry", lambda: registry)

    return use


def sensors_of(dag: DAG) -> dict[str, Any]:
    return {task.task_id: task for task in dag.tasks}


class TestTheSensorThatFits:
    def test_of_what_load_writes_it_waits_for_the_month_in_loads(self, dag: DAG) -> None:
        for table in ("green_trips", "quality_checks", "trips", "trips_clean", "latest_loads", "loads"):
            sensor = needs(table, MONTH, fleet="green")
            assert isinstance(sensor, MonthLoadedSensor)
            assert (sensor.fleet, sensor.month, sensor.table) == ("green", MONTH, table)
            assert sensor.task_id == f"wait_for_{table}"

    def test_of_a_mart_it_waits_for_the_marts_record(self, dag: DAG) -> None:
        sensor = needs("marts.daily_trips", MONTH, fleet="green")
        assert isinstance(sensor, MartBuiltSensor)
        assert (sensor.task_id, sensor.table, sensor.marts) == (
            "wait_for_daily_trips",
            "marts.daily_trips",
            ["daily_trips"],
        )
        assert (sensor.fleet, sensor.month, sensor.loader) == ("green", MONTH, "taxi_trips_green")
        assert (sensor.external_dag_id, sensor.external_task_ids) == ("trips_marts_green", ["build.daily_trips"])

    def test_of_a_mart_that_is_a_view_it_waits_for_the_record_of_those_that_it_reads(self, dag: DAG) -> None:
        sensor = needs("marts.fleet_market_share", MONTH, fleet="fhv")
        assert isinstance(sensor, MartBuiltSensor)
        assert (sensor.table, sensor.marts) == ("marts.fleet_market_share", ["zone_hourly_demand"])
        assert sensor.external_task_ids == ["build.fleet_market_share"]

    def test_of_a_table_as_a_whole_it_waits_for_rows(self, dag: DAG) -> None:
        sensor = needs("zones")
        assert isinstance(sensor, RowsSensor)
        assert (sensor.fleet, sensor.month, sensor.week) == (None, None, None)
        assert (sensor.external_dag_id, sensor.external_task_ids) == ("taxi_zones", ["load"])

    def test_of_figures_it_waits_for_the_rows_of_their_month_or_week(self, dag: DAG) -> None:
        week = needs("trips_by_week", WEEK, fleet="green")
        month = needs("trips_by_zone", MONTH, fleet="green")
        assert isinstance(week, RowsSensor)
        assert isinstance(month, RowsSensor)
        assert (week.week, week.month, week.column, week.fleet) == (WEEK, None, "period", "green")
        assert (month.week, month.month, month.column) == (None, MONTH, "partition_month")
        assert month.external_task_ids == ["aggregate"]

    def test_without_a_fleet_there_is_one_for_each_in_a_group_that_tasks_can_follow(self, dag: DAG) -> None:
        after = needs("zones", task_id="after")
        [needs("marts.daily_trips", MONTH), needs("green_trips", MONTH)] >> after
        assert after.upstream_task_ids == {
            "wait_for_green_trips",
            *(f"wait_for_daily_trips.{x}" for x in catalogue.FLEETS),
        }
        of_fleets = [sensors_of(dag)[f"wait_for_daily_trips.{fleet}"] for fleet in catalogue.FLEETS]
        assert [(sensor.fleet, sensor.is_one_of_all) for sensor in of_fleets] == [(x, True) for x in catalogue.FLEETS]

    def test_it_holds_no_worker_stands_in_the_pool_and_ends(self, dag: DAG) -> None:
        for name, partition in (("green_trips", MONTH), ("marts.daily_trips", MONTH), ("zones", None)):
            sensor = needs(name, partition, fleet=None if name != "marts.daily_trips" else "green")
            assert isinstance(sensor, TableSensor)
            assert (sensor.pool, sensor.mode, sensor.reschedule, sensor.deferrable) == (
                WAREHOUSE_POOL,
                "reschedule",
                True,
                False,
            )
            assert 0 < sensor.timeout <= timedelta(days=150).total_seconds()
        quick = needs("zones", task_id="quick", timeout=timedelta(hours=1))
        assert isinstance(quick, TableSensor)
        assert quick.timeout == 3600

    def test_of_a_dag_that_dbt_runs_there_is_one_for_each_task_that_makes_what_dbt_reads(self, dag: DAG) -> None:
        needs_of("trips_marts_{fleet}", "green", MONTH)
        found = {name: (type(task), task.external_dag_id, task.fleet) for name, task in sensors_of(dag).items()}
        assert found == {
            "wait_for_month": (MonthLoadedSensor, "taxi_trips_green", "green"),
            "wait_for_zones": (RowsSensor, "taxi_zones", None),
        }

    def test_a_fleet_that_is_added_to_the_catalogue_has_a_table_and_its_maker(
        self, dag: DAG, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        green = catalogue.fleet("green")
        monkeypatch.setitem(
            catalogue.FLEETS, "hover", catalogue.Fleet("hover", "Hovercrafts", green.layouts, green.columns)
        )
        sensor = needs("hover_trips", MONTH)
        assert isinstance(sensor, MonthLoadedSensor)
        assert sensor.external_dag_id == "taxi_trips_hover"


class TestWhatCannotBeWaitedFor:
    """Each is an error when the DAG file is parsed, and names the file, the table and what to do."""

    def refused(self, *arguments: Any, **options: Any) -> str:
        with pytest.raises(TableError) as error:
            needs(*arguments, **options)
        message = str(error.value)
        assert message.startswith(f"tests/orchestration/test_tables.py: needs({arguments[0]!r}): ")
        return message

    def test_a_table_that_does_not_exist_and_the_one_that_was_meant(self, dag: DAG) -> None:
        assert "there is no table 'marts.dayly_trips': did you mean marts.daily_trips?" in self.refused(
            "marts.dayly_trips"
        )
        assert "did you mean marts.daily_trips?" in self.refused("daily_trips", MONTH)
        assert "did you mean" not in self.refused("qqqqqqqq")

    def test_a_step_that_is_no_table(self, dag: DAG) -> None:
        assert "marts.int_trip_ends is a step within other queries" in self.refused("marts.int_trip_ends")

    def test_a_table_without_a_maker(self, dag: DAG, use: Callable[..., None]) -> None:
        def forget(manifest: Any) -> None:
            del manifest["sources"]["source.nyc_taxi.warehouse.zones"]["config"]["meta"]["made_by"]

        use(forget)
        message = self.refused("zones")
        assert "include/dbt/models/sources.yml does not say what makes zones" in message
        assert "add `meta: {made_by: " in message
        with pytest.raises(TableError, match="does not say what makes zones"):
            needs_of("trips_marts_{fleet}", "green", MONTH)

    def test_a_month_that_is_missing_or_that_a_table_does_not_have(self, dag: DAG) -> None:
        assert "makes it month by month: say which month is needed, such as MONTH" in self.refused("green_trips")
        assert "makes it week by week: say which week is needed, such as WEEK" in self.refused("trips_by_week")
        assert "taxi_zones makes all of it in each run" in self.refused("zones", MONTH)

    def test_a_fleet_that_the_table_or_this_airflow_does_not_have(
        self, dag: DAG, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert "not a table of the fleet fhv" in self.refused("green_trips", MONTH, fleet="fhv")
        monkeypatch.setenv("NYC_TAXI_FLEETS", "yellow")
        assert "NYC_TAXI_FLEETS leaves out green, so no DAG makes it" in self.refused("green_trips", MONTH)

    def test_a_mart_that_keeps_no_record_of_its_months(self, dag: DAG, use: Callable[..., None]) -> None:
        def store_as_table(manifest: Any) -> None:
            manifest["nodes"]["model.nyc_taxi.daily_trips"]["config"]["materialized"] = "table"

        use(store_as_table)
        message = self.refused("marts.daily_trips", MONTH, fleet="green")
        assert "include/dbt/models/marts/daily_trips.sql stores it as a table, which has no record" in message

    def test_outside_of_a_dag(self) -> None:
        assert "call it within `with DAG(…):`" in self.refused("zones")

    def test_a_dag_that_dbt_does_not_run(self, dag: DAG) -> None:
        with pytest.raises(TableError, match=re.escape("needs_of('trips_marts_green'): no table in include/dbt says")):
            needs_of("trips_marts_green", "green", MONTH)


class TestCircles:
    def test_a_loading_dag_that_waits_for_a_mart_made_from_what_it_loads(self) -> None:
        with a_dag("taxi_trips_green"):  # noqa: SIM117
            with pytest.raises(TableError) as error:
                needs("marts.daily_trips", MONTH, fleet="green")
        assert str(error.value).startswith("tests/orchestration/test_tables.py: needs('marts.daily_trips'): ")
        circle = r"waits for \S+ of \S+, which waits for \S+ of \S+, so none of them could ever begin: take one"
        assert re.search(circle, str(error.value))
        assert "marts.daily_trips of trips_marts_green" in str(error.value)

    def test_a_dag_that_waits_for_what_it_makes_itself(self) -> None:
        with a_dag("trips_by_week_green"):  # noqa: SIM117
            with pytest.raises(
                TableError, match="trips_by_week_green waits for trips_by_week of trips_by_week_green, so"
            ):
                needs("trips_by_week", WEEK, fleet="green")

    def test_dags_of_two_files_of_which_the_registry_has_one(self, use: Callable[..., None]) -> None:
        use(waits={"taxi_zones": {"trips_by_week_green": ["trips_by_week"]}})
        with a_dag("trips_by_week_green"):  # noqa: SIM117
            with pytest.raises(TableError, match="trips_by_week of trips_by_week_green"):
                needs("zones")

    def test_new_dags_that_the_registry_does_not_have_yet(self) -> None:
        with a_dag("taxi_zones") as first:
            needs("trips_by_week", WEEK, fleet="green")
        with a_dag("trips_by_week_green"):  # noqa: SIM117
            with pytest.raises(TableError, match="trips_by_week of trips_by_week_green"):
                needs("zones")
        assert first.task_ids

    def test_a_need_that_was_taken_away_is_forgotten(self, use: Callable[..., None]) -> None:
        use(waits={"adhoc_request": {"adhoc_request": ["zones"]}})
        with a_dag("adhoc_request") as mended:
            needs("marts.daily_trips", MONTH, fleet="green")
        assert tables.waits_of(mended) == {"trips_marts_green": ["marts.daily_trips"]}

    def test_fleets_do_not_wait_for_themselves_through_each_other(self) -> None:
        with a_dag("trips_by_week_green"):
            assert needs("trips_by_week", WEEK, fleet="yellow")

    def test_the_registry_with_a_circle_is_not_written(self) -> None:
        with pytest.raises(TableError, match="so none of them could ever begin"):
            table_registry.describe(MANIFEST, {"taxi_trips_green": {"trips_marts_green": ["marts.daily_trips"]}})


def test_the_registry_takes_a_dag_file_no_time() -> None:
    """It is small, because a DAG file is parsed every half minute; the manifest has 13,000 lines."""
    assert tables.FILE.stat().st_size < table_registry.MANIFEST.stat().st_size / 20


def test_a_registry_that_git_could_not_merge_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "tables.json"
    broken.write_text('<<<<<<< HEAD\n{"tables": {}')
    monkeypatch.setattr(tables, "FILE", broken)
    monkeypatch.setattr(table_registry, "read_dags", lambda folder: {})
    table_registry.write()
    assert json.loads(broken.read_text())["tables"].keys() >= {"zones", "marts.daily_trips"}


def test_a_dag_file_that_cannot_be_read_leaves_the_registry_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_dags(folder: Path) -> Any:
        raise ValueError("dags/theirs.py: no such table")

    kept = tmp_path / "tables.json"
    kept.write_text("kept")
    monkeypatch.setattr(tables, "FILE", kept)
    monkeypatch.setattr(table_registry, "read_dags", read_dags)
    with pytest.raises(CommandError, match=r"tables\.json was not written: dags/theirs\.py: no such table"):
        table_registry.write()
    assert kept.read_text() == "kept"
