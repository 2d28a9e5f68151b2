"""The sensors for marts and other tables, with different warehouses and runs."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException

from calendar_timetables import START_DATE
from include.nyc_taxi import warehouse
from include.orchestration import month_sensor, tables
from include.orchestration.month_runs import MonthRun
from include.orchestration.month_sensor import TableSensor
from warehouse_hook import WarehouseHook

LOADED_AT = datetime(2023, 4, 1, 12, tzinfo=UTC)
MONTH = "2023-01"
LOADS, MARTS = "taxi_trips_green", "trips_marts_green"


@pytest.fixture(params=["file", "lake"])
def con(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Execute SQL in the warehouse of the connection `warehouse`: a statement and its values, or several, at once."""
    if request.param == "lake":
        monkeypatch.setenv(
            "AIRFLOW_CONN_WAREHOUSE",
            f'{{"conn_type": "duckdb", "host": "ducklake:{tmp_path}/catalog.ducklake", '
            f'"extra": {{"data_path": "{tmp_path}/lake/"}}}}',
        )

    def execute(sql: str | Sequence[tuple[object, ...]], *values: object) -> None:
        with WarehouseHook().opened() as con, warehouse.transaction(con):
            warehouse.ensure_tables(con)
            for statement, *its_values in [(sql, *values)] if isinstance(sql, str) else sql:
                con.execute(str(statement), its_values)

    return execute


def load(con: Callable[..., Any], at: datetime = LOADED_AT, fleet: str = "green", run_id: str = "run 0") -> None:
    row = "INSERT INTO loads VALUES (?, '2023-01-01', 'u', 'e', NULL, 1, 1, 1, '{}', ?, ?, NULL, '[]', false)"
    con([("DELETE FROM loads WHERE fleet = ?", fleet), (row, fleet, at.replace(tzinfo=None), run_id)])


def build(con: Callable[..., Any], mart: str = "daily_trips", loaded_at: datetime = LOADED_AT) -> None:
    """Leave a mart as dbt does: a table, and its record."""
    record = (
        "CREATE TABLE IF NOT EXISTS marts.built_months (mart VARCHAR NOT NULL, fleet VARCHAR NOT NULL, "
        "partition_month DATE NOT NULL, loaded_at TIMESTAMP NOT NULL, built_at TIMESTAMP NOT NULL)"
    )
    moment = loaded_at.replace(tzinfo=None)
    con(
        [
            ("CREATE SCHEMA IF NOT EXISTS marts",),
            (f"CREATE TABLE IF NOT EXISTS marts.{mart} (fleet VARCHAR)",),
            (record,),
            ("DELETE FROM marts.built_months WHERE mart = ?", mart),
            ("INSERT INTO marts.built_months VALUES (?, 'green', '2023-01-01', ?, ?)", mart, moment, moment),
        ]
    )


@pytest.fixture
def poke(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Poke once for a table, with these unsettled runs by DAG."""

    def poke(table: str, partition: str | None = MONTH, runs: Mapping[str, list[MonthRun]] | None = None) -> bool:
        def unsettled_runs(
            dag_id: str, task_ids: Any = (), settled: frozenset[str] = frozenset({"success", "skipped"}), **_: Any
        ) -> list[MonthRun]:
            found = []
            for run in (runs or {}).get(dag_id, []):
                states = {name: state for name, state in run.tasks.items() if not task_ids or name in task_ids}
                if set(states.values()) - settled:
                    found.append(
                        MonthRun(run.run_id, run.month, run.state, run.started, states, False, run.ended, dag_id)
                    )
            return found

        monkeypatch.setattr(month_sensor, "unsettled_runs", unsettled_runs)
        with DAG("reader", start_date=START_DATE, schedule=None):
            sensor = tables.needs(table, partition, fleet="green" if partition and "green" not in table else None)
        assert isinstance(sensor, TableSensor)
        return sensor.poke({})

    return poke


def a_run(task: str, state: str = "none", run_id: str = "run 1", hours: int | None = 1, **options: Any) -> MonthRun:
    """Make a run that started some hours after LOADED_AT and in which a task has this state."""
    started = None if hours is None else LOADED_AT + timedelta(hours=hours)
    of_run = {"state": "failed" if state in ("failed", "upstream_failed") else "running", "month": MONTH} | options
    ended = started and started + timedelta(minutes=30) if of_run["state"] == "failed" else None
    month = of_run["month"]
    return MonthRun(run_id, month, of_run["state"], started, {task: state}, ended=of_run.get("ended", ended))


class TestMarts:
    def test_a_mart_built_from_the_latest_load_is_enough_whoever_has_built_it(
        self, con: Callable[..., Any], poke: Callable[..., bool], logged: Callable[[], str]
    ) -> None:
        load(con)
        build(con)
        again = a_run("build.daily_trips")  # it replaces the month by the same rows, in one transaction
        assert poke("marts.daily_trips", runs={MARTS: [again]})
        assert "marts.daily_trips has green 2023-01, built from the load of 2023-04-01 12:00:00 UTC" in logged()

    def test_without_a_warehouse_it_waits_and_makes_none(
        self, poke: Callable[..., bool], logged: Callable[[], str], data_dir: Path
    ) -> None:
        assert not poke("marts.daily_trips")
        expected = "lacks green 2023-01, which is not loaded: trigger taxi_trips_green for 2023-01, or unpause that DAG"
        assert f"marts.daily_trips {expected}" in logged()
        assert not (data_dir / "warehouse.duckdb").exists()

    def test_a_month_that_is_loaded_and_not_built_is_waited_for(
        self, con: Callable[..., Any], poke: Callable[..., bool], logged: Callable[[], str]
    ) -> None:
        load(con)
        build(con, "airport_trips")
        assert not poke("marts.daily_trips")
        expected = "lacks green 2023-01, loaded at 2023-04-01 12:00:00 UTC: trigger trips_marts_green for 2023-01"
        assert f"marts.daily_trips {expected}, or unpause that DAG" in logged()

    def test_a_mart_built_from_an_earlier_load_is_waited_for(
        self, con: Callable[..., Any], poke: Callable[..., bool], logged: Callable[[], str]
    ) -> None:
        load(con, LOADED_AT)
        build(con, loaded_at=LOADED_AT - timedelta(days=1))
        assert not poke("marts.daily_trips")
        assert (
            "built from the load of 2023-03-31 12:00:00 UTC, but it was loaded at 2023-04-01 12:00:00 UTC" in logged()
        )

    def test_a_record_of_a_mart_that_somebody_has_dropped_is_not_enough(
        self, con: Callable[..., Any], poke: Callable[..., bool]
    ) -> None:
        load(con)
        build(con)
        con("DROP TABLE marts.daily_trips")
        assert not poke("marts.daily_trips")

    def test_a_view_is_there_when_it_exists_and_the_mart_that_it_reads_is_built(
        self, con: Callable[..., Any], poke: Callable[..., bool]
    ) -> None:
        load(con)
        build(con, "zone_hourly_demand", LOADED_AT - timedelta(days=1))
        assert not poke("marts.fleet_market_share")
        build(con, "zone_hourly_demand")
        assert not poke("marts.fleet_market_share")
        con("CREATE VIEW marts.fleet_market_share AS SELECT * FROM marts.zone_hourly_demand")
        assert poke("marts.fleet_market_share")

    def test_a_run_on_its_way_is_waited_for_and_named(
        self, con: Callable[..., Any], poke: Callable[..., bool], logged: Callable[[], str]
    ) -> None:
        load(con)
        assert not poke("marts.daily_trips", runs={MARTS: [a_run("build.daily_trips")]})
        assert "Waiting for run 1 of trips_marts_green (running): its task `build.daily_trips` is none" in logged()

    @pytest.mark.parametrize("hours", [-1, 1])  # a run waits for the load, so it may have begun before it
    def test_a_run_that_has_failed_since_the_load_ends_the_wait(
        self, con: Callable[..., Any], poke: Callable[..., bool], hours: int
    ) -> None:
        load(con)
        failed = a_run("build.daily_trips", "failed", hours=hours, ended=LOADED_AT + timedelta(hours=2))
        with pytest.raises(AirflowFailException) as error:
            poke("marts.daily_trips", runs={MARTS: [failed]})
        assert "trips_marts_green has failed for 2023-01, in build.daily_trips (run run 1)" in str(error.value)
        assert "this task needs green 2023-01 in marts.daily_trips" in str(error.value)

    def test_a_run_that_failed_before_the_month_was_loaded_again_is_history(
        self, con: Callable[..., Any], poke: Callable[..., bool]
    ) -> None:
        load(con)
        assert not poke("marts.daily_trips", runs={MARTS: [a_run("build.daily_trips", "failed", hours=-3)]})

    def test_a_load_that_has_failed_ends_the_wait_also_if_nobody_builds_the_marts(
        self, poke: Callable[..., bool]
    ) -> None:
        with pytest.raises(AirflowFailException, match="taxi_trips_green has failed for 2023-01, in load"):
            poke("marts.daily_trips", runs={LOADS: [a_run("load", "failed")]})

    def test_a_load_on_its_way_is_waited_for(self, poke: Callable[..., bool], logged: Callable[[], str]) -> None:
        assert not poke("marts.daily_trips", runs={LOADS: [a_run("load")]})
        assert "Waiting for run 1 of taxi_trips_green (running): its task `load` is none" in logged()

    def test_a_fleet_that_has_no_such_month_is_not_waited_for_when_all_fleets_are_needed(
        self, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
    ) -> None:
        with DAG("reader", start_date=START_DATE, schedule=None) as dag:
            tables.needs("marts.daily_trips", "2013-12")
        assert dag.get_task("wait_for_daily_trips.green").poke({})
        assert "The TLC has published no file of green before 2014-01" in logged()


class TestRows:
    def test_zones_are_there_when_there_are_rows(
        self, con: Callable[..., Any], poke: Callable[..., bool], logged: Callable[[], str]
    ) -> None:
        assert not poke("zones", None)
        assert "zones does not have rows yet: trigger taxi_zones, or unpause that DAG" in logged()
        con("INSERT INTO zones VALUES (1, 'Newark Airport', 'EWR', 'EWR', NULL)")
        assert poke("zones", None, runs={"taxi_zones": [a_run("load", month=None)]})
        assert "zones has rows" in logged()

    def test_a_run_of_zones_that_has_failed_ends_the_wait(self, poke: Callable[..., bool]) -> None:
        with pytest.raises(AirflowFailException, match=r"taxi_zones has failed for 2023-01, in load \(run run 1\)"):
            poke("zones", None, runs={"taxi_zones": [a_run("load", "failed")]})

    def test_a_week_is_there_when_it_has_its_row(
        self, con: Callable[..., Any], poke: Callable[..., bool], logged: Callable[[], str]
    ) -> None:
        con(
            "INSERT INTO trips_by_week (fleet, period, num_trips) "
            "VALUES ('green', '2023-01-23', 1), ('fhv', '2023-01-30', 1)"
        )
        assert not poke("trips_by_week", "2023-02-01")
        expected = "does not have green week 2023-01-30 yet: trigger trips_by_week_green for 2023-01-30"
        assert f"trips_by_week {expected}, or unpause that DAG" in logged()
        con("INSERT INTO trips_by_week (fleet, period, num_trips) VALUES ('green', '2023-01-30', 1)")
        assert poke("trips_by_week", "2023-02-01")

    def test_runs_of_other_weeks_are_of_no_interest(self, poke: Callable[..., bool]) -> None:
        runs = {"trips_by_week_green": [a_run("aggregate", "failed", month="2023-01-23")]}
        assert not poke("trips_by_week", "2023-02-01", runs=runs)
        runs = {"trips_by_week_green": [a_run("aggregate", "failed", month="2023-01-30")]}
        with pytest.raises(AirflowFailException, match="trips_by_week_green has failed for 2023-01-30, in aggregate"):
            poke("trips_by_week", "2023-02-01", runs=runs)


class TestFiguresOfAMonth:
    """`trips_by_zone`: the rows have to be those of the month's latest load."""

    @pytest.fixture(autouse=True)
    def loaded(self, con: Callable[..., Any]) -> None:
        load(con)

    @pytest.fixture
    def counted(self, con: Callable[..., Any]) -> None:
        con("INSERT INTO trips_by_zone VALUES ('green', '2023-01-01', 1, 7)")

    def test_there_are_none_yet(self, poke: Callable[..., bool], logged: Callable[[], str]) -> None:
        assert not poke("trips_by_zone")
        assert "trips_by_zone does not have green 2023-01 yet: trigger taxi_trips_green for 2023-01" in logged()

    def test_rows_are_enough_when_no_run_is_about_to_replace_them(
        self, counted: None, poke: Callable[..., bool]
    ) -> None:
        assert poke("trips_by_zone")
        assert poke("trips_by_zone", runs={LOADS: [a_run("aggregate", "failed", hours=-1)]})

    def test_the_run_that_has_loaded_the_month_and_not_counted_it_yet_is_waited_for(
        self, counted: None, poke: Callable[..., bool]
    ) -> None:
        assert not poke("trips_by_zone", runs={LOADS: [a_run("aggregate", run_id="run 0", hours=-1)]})

    @pytest.mark.parametrize("later", [[], [a_run("aggregate", "upstream_failed", "run 2")]])
    def test_rows_of_the_load_before_are_not_enough_when_counting_has_failed(
        self, counted: None, poke: Callable[..., bool], later: list[MonthRun]
    ) -> None:
        with pytest.raises(AirflowFailException, match=r"in aggregate \(run run 0\)"):
            poke("trips_by_zone", runs={LOADS: [a_run("aggregate", "failed", "run 0", hours=-1), *later]})

    def test_a_later_run_that_has_failed_before_it_loaded_anything_changes_nothing(
        self, counted: None, poke: Callable[..., bool], logged: Callable[[], str]
    ) -> None:
        assert poke("trips_by_zone", runs={LOADS: [a_run("aggregate", "upstream_failed")]})
        assert "trips_by_zone has green 2023-01 and stays there, although a later run of taxi_trips_green" in logged()


def test_a_sensor_does_not_keep_the_warehouse_open(con: Callable[..., Any], poke: Callable[..., bool]) -> None:
    load(con)
    poke("marts.daily_trips")
    poke("zones", None)
    if not WarehouseHook().is_lake:
        with contextlib.closing(duckdb.connect(WarehouseHook().get_database())) as other:
            assert other.execute("SELECT count(*) FROM loads").fetchone() == (1,)
