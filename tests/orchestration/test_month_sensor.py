"""The sensor that waits for a month, with different warehouses and runs."""

from datetime import UTC, datetime, timedelta

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.standard.sensors.external_task import ExternalTaskSensor

from include.nyc_taxi import warehouse
from include.orchestration import month_sensor
from include.orchestration.month_runs import MonthRun
from include.orchestration.month_sensor import MonthLoadedSensor
from warehouse_hook import WarehouseHook

LOADED_AT = datetime(2023, 4, 1, 12, tzinfo=UTC)


@pytest.fixture
def loaded(data_dir):
    """Record green 2023-01 in `loads`, with the time LOADED_AT."""
    with WarehouseHook().transaction() as con:
        warehouse.ensure_tables(con)
        con.execute(
            "INSERT INTO loads VALUES "
            "('green', '2023-01-01', 'u', 'e', NULL, 1, 1, 1, '{}', ?, 'run 0', NULL, '[]', false)",
            [LOADED_AT.replace(tzinfo=None)],
        )


@pytest.fixture
def poke(monkeypatch):
    """Poke once for green 2023-01, with these unsettled runs."""

    def look(*runs):
        asked = []

        def unsettled_runs(dag_id, task_ids=(), settled=frozenset({"success", "skipped"})):
            asked.append(dag_id)
            states = [{n: s for n, s in run.tasks.items() if not task_ids or n in task_ids} for run in runs]
            return [
                MonthRun(run.run_id, run.month, run.state, run.started, tasks)
                for run, tasks in zip(runs, states, strict=True)
                if set(tasks.values()) - settled
            ]

        monkeypatch.setattr(month_sensor, "unsettled_runs", unsettled_runs)
        sensor = MonthLoadedSensor(task_id="wait", fleet="green", month="2023-01", mode="reschedule")
        answer = sensor.poke({})
        assert set(asked) == {"taxi_trips_green"}
        return answer

    return look


def a_run(run_id="run 1", month="2023-01", state="running", hours=1, **tasks):
    """Make a run that started some hours after LOADED_AT, or that is queued (None)."""
    started = None if hours is None else LOADED_AT + timedelta(hours=hours)
    return MonthRun(run_id, month, state, started, tasks or {"load": "none"})


FAILED = {"state": "failed", "download": "failed", "load": "upstream_failed"}


def test_is_an_external_task_sensor_that_waits_for_the_load_and_holds_no_worker():
    sensor = MonthLoadedSensor(task_id="wait", fleet="green", month="2023-01", mode="reschedule")
    assert isinstance(sensor, ExternalTaskSensor)
    assert (sensor.external_dag_id, sensor.external_task_ids) == ("taxi_trips_green", ["load"])
    assert sensor.reschedule
    assert not sensor.deferrable


def test_a_month_that_is_not_loaded_and_that_nobody_runs_is_waited_for(poke, logged):
    assert not poke()
    assert "2023-01 is not loaded: trigger taxi_trips_green for it, or unpause that DAG" in logged()


def test_a_loaded_month_is_enough_whoever_loaded_it(loaded, poke):
    assert poke()


def test_another_months_runs_are_of_no_interest(loaded, poke):
    assert poke(a_run(month="2023-02"), a_run(month=None, **FAILED))


def test_a_run_on_its_way_is_waited_for(poke, logged):
    assert not poke(a_run())
    assert "Waiting for run 1 of taxi_trips_green (running): its task `load` is none" in logged()


@pytest.mark.parametrize("hours", [1, None])
def test_a_loaded_month_that_is_run_again_is_waited_for(loaded, poke, hours):
    assert not poke(a_run(hours=hours))


def test_a_run_that_began_before_the_last_load_is_history(loaded, poke):
    assert poke(a_run(hours=-1), a_run("run 2", hours=-2, **FAILED))


@pytest.mark.parametrize("state", ["failed", "running"])  # running: another branch of it has not ended
def test_a_failed_run_fails_the_week_for_good_and_says_where_and_what_to_do(poke, state):
    with pytest.raises(AirflowFailException) as error:
        poke(a_run(**{**FAILED, "state": state}))
    assert "taxi_trips_green has failed for 2023-01, in download (run run 1)" in str(error.value)
    assert "clear the failed task there, then clear this one" in str(error.value)


@pytest.mark.parametrize(
    "states",
    [
        FAILED,
        {"state": "failed", "download": "success", "load": "failed"},  # a new edition that was refused
        {"state": "running", "load": "failed"},
    ],
)
def test_a_loaded_month_is_enough_also_when_a_later_run_has_failed_and_the_log_says_so(loaded, poke, logged, states):
    assert poke(a_run(**states))
    log = logged()
    assert "green 2023-01 has been loaded since 2023-04-01 12:00:00 UTC and stays loaded" in log
    assert "a later run of taxi_trips_green has failed: run 1" in log


def test_a_new_try_after_a_failed_run_is_waited_for(poke):
    assert not poke(a_run(**FAILED), a_run("run 2", hours=2))


def test_a_load_that_was_skipped_because_nothing_is_new_is_as_good_as_one_that_succeeded(loaded, poke):
    assert poke(a_run(state="success", load="skipped"))


def test_a_run_that_a_user_marked_failed_before_its_load_fails_the_week(poke):
    with pytest.raises(AirflowFailException, match="has failed for 2023-01"):
        poke(a_run(state="failed", load="skipped"))


def test_a_skipped_load_of_a_month_that_is_not_in_the_warehouse_is_not_taken_for_a_load(poke):
    assert not poke(a_run(state="success", load="skipped"))
