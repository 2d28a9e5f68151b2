"""The runs of a monthly DAG, read by a command and by a task."""

from datetime import UTC, datetime

import pytest
from airflow.api.common.mark_tasks import set_dag_run_state_to_failed
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select

from include.orchestration.compat import IS_AIRFLOW_3
from include.orchestration.month_runs import MonthRun, all_runs, unsettled_runs
from include.tlc_simulator.faults import Status
from tests.dags.conftest import dag_bag, metadata_database, no_pauses, simulator  # noqa: F401
from tests.dags.running import run, states

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("metadata_database", "no_pauses")]
DAG_ID = "taxi_trips_green"


@pytest.fixture
def fail(dag_bag, simulator):  # noqa: F811
    """Run the DAG while the site returns an error; return the run, in which `wait_for_file` has failed."""

    def run_in_vain(day, **conf):
        simulator.add_fault("/trip-data/", Status(500), methods=("HEAD",))
        done = run(dag_bag.dags[DAG_ID], day, **conf)
        simulator.clear_faults()
        assert str(done.state) == "failed"
        return done

    return run_in_vain


@pytest.fixture(params=["from outside", "in a task"])
def ask(request, dag_bag, monkeypatch):  # noqa: F811
    """Call `unsettled_runs` as a command does, through the database, or in a task; return the runs by id."""
    if request.param == "from outside":
        return lambda *arguments, function=unsettled_runs: {found.run_id: found for found in function(*arguments)}

    def ask_in_task(*arguments, function=unsettled_runs):
        dag, found = dag_bag.dags["warehouse_status"], []
        task = dag.get_task("report")
        monkeypatch.setattr(task, "python_callable", lambda: found.extend(function(*arguments)))
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


def test_only_the_tasks_asked_for_decide(dag_bag, simulator, ask):  # noqa: F811
    simulator.add_fault("/trip-data/", Status(403), methods=("GET",))
    failed = run(dag_bag.dags[DAG_ID], "2022-08-01")
    assert ask(DAG_ID, ["download"])[failed.run_id].tasks == {"download": "failed"}
    assert failed.run_id not in ask(DAG_ID, ["wait_for_file"])


def test_a_dag_that_never_ran_has_none(ask):
    assert ask("taxi_trips_purple") == {}


def test_the_oldest_start_comes_first_and_what_has_not_started_last(fail):
    earlier, later = fail("2022-09-01"), fail("2022-10-01")
    order = [found.run_id for found in unsettled_runs(DAG_ID)]
    assert order.index(earlier.run_id) < order.index(later.run_id)


def scheduled(dag):
    """Return the DAG as the scheduler and the web server see it."""
    if not IS_AIRFLOW_3:
        return dag
    from airflow.models.serialized_dag import SerializedDagModel

    with create_session() as session:
        return session.scalar(SerializedDagModel.latest_item_select_object(dag.dag_id)).dag


@pytest.fixture
def mark_failed(dag_bag, fail):  # noqa: F811
    """Make a run whose tasks are in the given states, and mark it as failed as the web UI does."""

    def mark(day, **tasks):
        dag = dag_bag.dags[DAG_ID]
        with create_session() as session:
            made = fail(day)  # its tasks have no work to do: their states are set
            for instance in session.scalars(
                select(TaskInstance).where(TaskInstance.dag_id == DAG_ID, TaskInstance.run_id == made.run_id)
            ):
                instance.state = tasks.get(instance.task_id)
            session.scalars(
                select(DagRun).where(DagRun.dag_id == DAG_ID, DagRun.run_id == made.run_id)
            ).one().state = "running"
            session.commit()
            set_dag_run_state_to_failed(dag=scheduled(dag), run_id=made.run_id, commit=True, session=session)
        return made.run_id

    return mark


def test_a_run_that_was_marked_failed_while_it_worked_or_waited_was_cancelled(mark_failed, simulator, ask):  # noqa: F811
    done = {"wait_for_file": "success"}
    marked = [
        mark_failed("2021-01-01", **done, download="running"),
        mark_failed("2021-02-01", wait_for_file="up_for_reschedule"),
        mark_failed("2021-03-01", **done),
        mark_failed("2021-04-01"),
    ]
    found = ask(DAG_ID, function=all_runs)
    assert [(found[run_id].month, found[run_id].state, found[run_id].cancelled) for run_id in marked] == [
        ("2021-01", "failed", True),
        ("2021-02", "failed", True),
        ("2021-03", "failed", True),
        ("2021-04", "failed", True),
    ]


def test_all_runs_are_those_too_that_ended_well_and_none_that_failed_was_cancelled(fail, ask, dag_bag):  # noqa: F811
    failed = fail("2021-05-01")
    well = run(dag_bag.dags[DAG_ID], "2021-06-01")
    found = ask(DAG_ID, function=all_runs)
    assert (found[failed.run_id].state, found[failed.run_id].cancelled) == ("failed", False)
    assert (found[well.run_id].month, found[well.run_id].state, found[well.run_id].cancelled) == (
        "2021-06",
        "success",
        False,
    )
    assert found[well.run_id].tasks == {}


@pytest.mark.parametrize(
    ("state", "tasks", "skipped", "cancelled"),
    [
        ("failed", {}, False, True),
        ("failed", {"load": "none", "map": "removed"}, False, True),
        ("failed", {"download": "failed"}, True, True),
        ("failed", {"download": "failed", "load": "upstream_failed"}, False, False),
        ("failed", {"map": "failed"}, False, False),
        ("failed", {"load": "upstream_failed"}, False, False),
        ("running", {"load": "none"}, False, False),
        ("success", {}, True, False),
    ],
)
def test_a_run_was_cancelled_when_it_ended_and_no_task_of_it_had_failed_by_itself(state, tasks, skipped, cancelled):
    assert MonthRun("r", "2022-05", state, None, tasks, skipped).cancelled is cancelled


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
