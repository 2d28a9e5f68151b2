"""The month of a run."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pendulum
import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException
from airflow.providers.standard.operators.python import PythonOperator

from calendar_timetables import CalendarMonthTimetable
from include.orchestration.month import (
    MACROS,
    MONTH,
    is_backfill_or_cleared,
    logical_month,
    month_of_run,
    month_param,
)


def run(start="2023-02-01T00:00:00", run_type="manual", **conf):
    """Make a run with a logical date, or without one (None)."""
    date = start and pendulum.parse(start)
    return SimpleNamespace(run_id=f"{run_type}__1", run_type=run_type, logical_date=date, conf=conf)


def test_it_is_the_month_that_contains_the_logical_date():
    assert logical_month({"month": None}, run("2023-02-01T00:00:00")) == "2023-02"
    assert logical_month({}, run("2024-12-31T23:59:59")) == "2024-12"


@pytest.mark.parametrize("empty", [None, ""])
def test_an_empty_field_of_the_form_is_no_month(empty):
    assert logical_month({"month": empty}, run()) == "2023-02"


def test_the_month_of_the_form_comes_first():
    assert logical_month({"month": "2021-07"}, run()) == "2021-07"


def test_the_month_of_the_form_is_enough_where_the_run_has_no_date():
    assert logical_month({"month": "2021-07"}, run(None)) == "2021-07"


@pytest.mark.parametrize("run_type", ["backfill", "scheduled"])
class TestARunThatAirflowHasMadeForADate:
    def test_it_fails_for_good_when_its_month_is_another_one(self, run_type):
        with pytest.raises(AirflowFailException, match="is the run of 2023-02, but its `month` says 2021-07") as error:
            logical_month({"month": "2021-07"}, run(run_type=run_type))
        assert "leave that field of the form empty in a backfill" in str(error.value)

    def test_it_may_have_its_own_month_besides(self, run_type):
        assert logical_month({"month": "2023-02"}, run(run_type=run_type)) == "2023-02"

    def test_from_outside_too_it_is_the_run_of_its_date(self, run_type):
        assert month_of_run(run(run_type=run_type, month="2021-07")) == "2023-02"


def test_from_outside_a_manual_run_is_that_of_its_month():
    assert month_of_run(run(month="2021-07")) == "2021-07"
    assert month_of_run(run()) == "2023-02"
    assert month_of_run(run(None)) is None


@pytest.mark.parametrize("run_type", ["manual", "backfill", "scheduled"])
def test_a_month_that_has_not_ended_is_refused_for_good(run_type):
    today = datetime.now(UTC)
    with pytest.raises(AirflowFailException, match=f"{today:%Y-%m} has not ended"):
        logical_month({}, run(today.isoformat(), run_type))


def test_a_month_of_the_form_that_has_not_ended_is_refused_too():
    with pytest.raises(AirflowFailException, match="2098-01 has not ended"):
        logical_month({"month": "2098-01"}, run())


def test_the_month_before_this_one_has_ended():
    last = pendulum.now("UTC").start_of("month").subtract(days=1)
    assert logical_month({}, run(last.isoformat())) == f"{last:%Y-%m}"


@pytest.mark.parametrize(
    ("run_type", "tries_left_over", "asked_for"),
    [("manual", 0, False), ("scheduled", 0, False), ("backfill", 0, True), ("manual", 1, True), ("scheduled", 1, True)],
)
def test_a_backfill_and_a_cleared_run_are_asked_for(run_type, tries_left_over, asked_for):
    task = SimpleNamespace(retries=3)
    ti = SimpleNamespace(max_tries=3 + tries_left_over)
    assert is_backfill_or_cleared(run(run_type=run_type), task, ti) is asked_for


def test_a_run_with_neither_fails_for_good_and_says_how_to_trigger_it():
    with pytest.raises(AirflowFailException, match="the run manual__1 has no logical date and no month") as error:
        logical_month({"month": None}, run(None))
    assert """--conf '{"month": "2023-02"}'""" in str(error.value)


def test_a_date_between_two_months_is_refused_where_it_may_be_either_and_not_where_a_month_is_said(monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__DEFAULT_TIMEZONE", "America/New_York")
    with pytest.raises(AirflowFailException, match=r"2023-01 or 2023-02, in UTC or in Airflow's default time zone"):
        logical_month({}, run("2023-02-01T02:00:00"))
    assert logical_month({"month": "2023-02"}, run("2023-02-01T02:00:00")) == "2023-02"
    assert logical_month({}, run("2023-02-01T00:00:00")) == "2023-02"  # of the schedule
    assert logical_month({}, run("2023-02-01T05:00:00")) == "2023-02"  # written without an offset


@pytest.mark.parametrize("value", [None, "2023-02", "2023-12"])
def test_the_form_takes_a_month_or_nothing(value):
    assert month_param().resolve(value) == value


@pytest.mark.parametrize("value", ["2023-13", "2023-2", "February", "2023-02-01", 202302, "../2023-02"])
def test_the_form_refuses_all_else(value):
    with pytest.raises(Exception, match=r"does not match|is not of type"):
        month_param().resolve(value)


def test_the_form_says_what_to_write():
    assert month_param().schema["title"] == "Month"
    assert "2023-02" in month_param().description
    assert "empty in a backfill" in month_param().description
    assert "starts the catch-up" in month_param().description


@pytest.mark.parametrize(("chosen", "month"), [(None, "2023-02"), ("2021-07", "2021-07")])
def test_the_template_gives_a_task_its_month(chosen, month):
    with DAG(
        "d",
        schedule=CalendarMonthTimetable(),
        start_date=pendulum.datetime(2023, 1, 1),
        params={"month": month_param()},
        user_defined_macros=MACROS,
    ):
        task = PythonOperator(task_id="t", python_callable=print, op_kwargs={"month": MONTH})
    task.render_template_fields({"params": {"month": chosen}, "dag_run": run()})
    assert task.op_kwargs == {"month": month}
