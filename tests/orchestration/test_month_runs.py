"""Which runs of a monthly DAG have not ended well, asked from outside and from within a task."""

from datetime import UTC, datetime

import pytest

from include.orchestration.airflow_line import IS_AIRFLOW_3
from include.orchestration.month_runs import MonthRun, unsettled_runs
from include.tlc_simulator.faults import Status
from tests.dags.conftest import dag_bag, metadata_database, no_pauses, simulator  # noqa: F401
from tests.dags.running import run, states

pytestmark = pytest.mark.usefixtures("metadata_database", "no_pauses")
DAG_ID = "taxi_trips_green"


@pytest.fixture
def fail(dag_bag, simulator):  # noqa: F811
    """Run the fleet's DAG while the site refuses its file; returns the run, of which `wait_for_file` has failed."""

    def run_in_vain(day, **conf):
        simulator.add_fault("/trip-data/", Status(500), methods=("HEAD",))
        done = run(dag_bag.dags[DAG_ID], day, **conf)
        simulator.clear_faults()
        assert str(done.state) == "failed"
        return done

    return run_in_vain


@pytest.fixture(params=["from outside", "in a task"])
def ask(request, dag_bag, monkeypatch):  # noqa: F811
    """Call `unsettled_runs` as a command does, through the database, or in a running task; the runs by id."""
    if request.param == "from outside":
        return lambda *arguments, **more: {found.run_id: found for found in unsettled_runs(*arguments, **more)}

    def ask_in_task(*arguments, **more):
        dag, found = dag_bag.dags["warehouse_status"], []
        task = dag.get_task("report")
        monkeypatch.setattr(task, "python_callable", lambda: found.extend(unsettled_runs(*arguments, **more)))
        assert str(run(dag, "2023-06-01").state) == "success"
        return {each.run_id: each for each in found}

    return ask_in_task


def test_a_run_by_date_is_of_the_month_that_contains_it(fail, ask):
    failed = fail("2022-05-17")
    found = ask(DAG_ID)[failed.run_id]
    assert (found.month, found.state, found.failed) == ("2022-05", "failed", ("wait_for_file",))
    assert found.tasks["load"] == "upstream_failed"
    assert found.tasks["wait_for_file"] == "failed"
    assert found.started == datetime(2022, 5, 17, tzinfo=UTC)  # `dag.test` says that a run starts at its date


def test_a_run_by_month_is_of_that_month_whatever_its_date(fail, ask):
    failed = fail("2022-06-17", month="2021-11")
    assert ask(DAG_ID)[failed.run_id].month == "2021-11"


@pytest.mark.skipif(not IS_AIRFLOW_3, reason="on 2.11 every run has a logical date")
@pytest.mark.parametrize(("conf", "month"), [({"month": "2021-12"}, "2021-12"), ({}, None)])
def test_a_run_without_a_date_is_of_the_month_it_was_given_or_of_none(fail, ask, conf, month):
    failed = fail(None, **conf)
    assert ask(DAG_ID)[failed.run_id].month == month


def test_a_run_that_has_ended_well_is_not_listed_and_neither_is_one_of_another_dag(fail, ask, dag_bag):  # noqa: F811
    failed = fail("2022-07-01")
    done = run(dag_bag.dags["taxi_zones"], "2022-07-01")
    assert set(states(done).values()) == {"success"}
    assert done.run_id not in ask("taxi_zones")
    assert failed.run_id in ask(DAG_ID)


def test_only_the_tasks_asked_for_decide(fail, ask):
    failed = fail("2022-08-01")
    assert ask(DAG_ID, ["wait_for_file"])[failed.run_id].tasks == {"wait_for_file": "failed"}
    assert failed.run_id not in ask(DAG_ID, ["prepare"])


def test_a_dag_that_never_ran_has_none(ask):
    assert ask("taxi_trips_purple") == {}


def test_the_oldest_start_comes_first_and_what_has_not_started_last(fail):
    earlier, later = fail("2022-09-01"), fail("2022-10-01")
    order = [found.run_id for found in unsettled_runs(DAG_ID)]
    assert order.index(earlier.run_id) < order.index(later.run_id)


@pytest.mark.parametrize(
    ("tasks", "failed"),
    [
        ({"load": "failed", "aggregate": "upstream_failed", "download": "failed"}, ("download", "load")),
        ({"aggregate": "upstream_failed", "map": "upstream_failed"}, ("aggregate", "map")),
        ({"wait_for_file": "up_for_reschedule", "load": "none"}, ()),
    ],
)
def test_the_tasks_to_look_at_are_those_that_failed_themselves(tasks, failed):
    assert MonthRun("r", "2022-05", "failed", None, tasks).failed == failed
