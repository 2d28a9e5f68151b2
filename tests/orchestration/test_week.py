"""The week of a run."""

from types import SimpleNamespace

import pendulum
import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException
from airflow.providers.standard.operators.python import PythonOperator

from calendar_timetables import CalendarWeekTimetable
from include.orchestration.week import FIRST_MONTH, LAST_MONTH, MACROS, WEEK, logical_week, months_of_week, week_param


def run(day="2023-02-01T00:00:00", run_type="manual"):
    """Make a run with a logical date, or without one (None)."""
    return SimpleNamespace(run_id=f"{run_type}__1", run_type=run_type, logical_date=day and pendulum.parse(day))


def test_it_is_the_monday_of_the_week_that_contains_the_logical_date():
    assert logical_week({"week": None}, run("2023-01-30T00:00:00")) == "2023-01-30"
    assert logical_week({}, run("2023-02-05T23:59:59")) == "2023-01-30"


def test_any_day_of_the_form_means_its_week_and_comes_first():
    assert logical_week({"week": "2021-07-09"}, run()) == "2021-07-05"
    assert logical_week({"week": "2021-07-09"}, run(None)) == "2021-07-05"


@pytest.mark.parametrize("run_type", ["backfill", "scheduled"])
def test_a_run_that_airflow_has_made_for_a_date_fails_for_good_when_its_week_is_another_one(run_type):
    with pytest.raises(AirflowFailException, match="is the run of 2023-01-30, but its `week` says 2021-07-05"):
        logical_week({"week": "2021-07-09"}, run(run_type=run_type))
    assert logical_week({"week": "2023-02-05"}, run(run_type=run_type)) == "2023-01-30"


def test_a_week_that_has_not_ended_is_refused_for_good():
    today = pendulum.now("UTC")
    with pytest.raises(AirflowFailException, match=f"the week of {today.start_of('week'):%Y-%m-%d} has not ended"):
        logical_week({}, run(today.isoformat()))
    ended = today.start_of("week").subtract(days=7)
    assert logical_week({"week": f"{ended:%Y-%m-%d}"}, run()) == f"{ended:%Y-%m-%d}"


def test_a_run_with_neither_fails_for_good_and_says_how_to_trigger_it():
    with pytest.raises(AirflowFailException, match="the run manual__1 has no logical date and no week") as error:
        logical_week({"week": None}, run(None))
    assert """--conf '{"week": "2023-01-30"}'""" in str(error.value)


def test_a_week_that_is_no_day_fails_for_good():
    with pytest.raises(AirflowFailException, match="is not a day"):
        logical_week({"week": "'; drop table zones; --"}, run())


def test_a_date_between_two_weeks_is_refused_where_it_may_be_either(monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__DEFAULT_TIMEZONE", "Asia/Kolkata")
    with pytest.raises(AirflowFailException, match="2023-01-23 or 2023-01-30, in UTC or in Airflow's default"):
        logical_week({}, run("2023-01-29T20:00:00"))
    assert logical_week({}, run("2023-01-29T18:30:00")) == "2023-01-30"  # 2023-01-30, written without an offset


def test_its_months_are_one_or_two():
    assert months_of_week({}, run("2023-02-01T00:00:00")) == ["2023-01", "2023-02"]
    assert months_of_week({"week": "2023-02-08"}, run(None)) == ["2023-02"]


@pytest.mark.parametrize("value", [None, "2023-02-01"])
def test_the_form_takes_a_day_or_nothing(value):
    assert week_param().resolve(value) == value


@pytest.mark.parametrize("value", ["2023-02", "2023-02-30", "Monday", 20230201, "../2023-02-01"])
def test_the_form_refuses_all_else(value):
    with pytest.raises(Exception, match=r"is not a 'date'|is not of type"):
        week_param().resolve(value)


def test_the_templates_give_a_task_its_week_and_its_months():
    with DAG(
        "d",
        schedule=CalendarWeekTimetable(),
        start_date=pendulum.datetime(2023, 1, 1),
        params={"week": week_param()},
        user_defined_macros=MACROS,
    ):
        task = PythonOperator(task_id="t", python_callable=print, op_args=[WEEK, FIRST_MONTH, LAST_MONTH])
    task.render_template_fields({"params": {"week": None}, "dag_run": run()})
    assert task.op_args == ["2023-01-30", "2023-01", "2023-02"]
