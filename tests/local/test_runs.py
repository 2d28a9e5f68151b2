"""How the backfill commands read and change Airflow's metadata database."""

import contextlib
import sqlite3
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from include.local import backfill_airflow3, progress, runs, summary
from include.local.backfill import Job
from include.local.command_lock import Note
from include.local.errors import CommandError
from include.orchestration import pool_holders
from include.orchestration.compat import IS_AIRFLOW_3
from tests.dags.running import run

pytestmark = pytest.mark.usefixtures("metadata_database", "no_pauses")
DAY = date(2023, 1, 1)


@pytest.mark.parametrize("state", list(TaskInstanceState))
def test_every_state_of_airflow_is_said_in_plain_words(state):
    words = runs.in_words("load", state)
    assert "_" not in words
    assert words in runs.IN_WORDS.values() or state.value == "up_for_reschedule"


def test_a_task_not_looked_at_yet_is_waiting_and_a_sensor_says_for_what():
    assert runs.in_words("load", None) == "waiting"
    assert runs.in_words("wait_for_file", "up_for_reschedule") == "waiting for the TLC's file"
    assert runs.in_words("wait_for_first_month", "up_for_reschedule") == "waiting for a month's trips"


@pytest.fixture
def done(dag_bag, simulator, data_dir):
    """A run of taxi_zones that has ended."""
    return run(dag_bag.dags["taxi_zones"], "2023-01-01")


def zones_job():
    """A job whose only run is the one that `done` makes."""
    return Job("green", "taxi_zones", {"2023-01": DAY}, lambda *_: "")


def note_since(moment):
    """The note of a command that has begun then."""
    return Note("make backfill", 1, 0.0, moment.isoformat(), "taxi_zones", True)


def tasks_of(done, *columns):
    """The query for the run's tasks. On 2.11, other tests can leave runs of other DAGs with the same id."""
    return select(*columns).where(TaskInstance.dag_id == done.dag_id, TaskInstance.run_id == done.run_id)


def row_of(done):
    """The query for the run itself."""
    return select(type(done)).where(type(done).dag_id == done.dag_id, type(done).run_id == done.run_id)


def put(done, state, **fields):
    """Put the run's first task into that state, as if it were in the pool; return its id."""
    with create_session() as session:
        task = session.scalars(tasks_of(done, TaskInstance).order_by(TaskInstance.task_id)).first()
        task.state, task.pool = state, "warehouse"
        for name, value in fields.items():
            setattr(task, name, value)
        return task.task_id


def states(done):
    with create_session() as session:
        return set(session.scalars(tasks_of(done, TaskInstance.state)))


def test_tasks_are_counted_in_words(done):
    found = runs.read_runs("taxi_zones", {"2023-01": DAY})
    counted = runs.count_tasks("taxi_zones", found)
    assert list(counted) == ["done"]
    put(done, None)
    assert runs.count_tasks("taxi_zones", found)["waiting"] == 1


def test_a_run_that_skipped_its_work_is_not_shown_as_a_success(done):
    (found,) = runs.read_runs("taxi_zones", {"2023-01": DAY})
    assert summary._state(found) == "success"
    put(done, "skipped")
    (found,) = runs.read_runs("taxi_zones", {"2023-01": DAY})
    assert summary._state(found) == "nothing new"


@pytest.mark.parametrize(("state", "after"), [("running", "failed"), ("queued", "failed"), ("scheduled", "skipped")])
def test_a_run_that_is_failed_leaves_no_task_on_its_way(done, state, after):
    put(done, state)
    with create_session() as session:
        (it,) = session.scalars(row_of(done))
        it.state = "running"
        runs.fail(session, it)
    assert after in states(done)
    assert not states(done) & {None, "running", "queued", "scheduled"}
    assert runs.read_runs("taxi_zones", {"2023-01": DAY})[0].state == "failed"


class TestTasksThatHoldThePool:
    def test_one_that_no_scheduler_has_queued_and_no_command_runs_is_abandoned_and_released(self, done):
        task_id = put(done, "queued", queued_dttm=None, queued_by_job_id=None)
        (holder,) = [each for each in pool_holders.find() if each.run_id == done.run_id]
        assert holder.is_abandoned
        assert f"taxi_zones.{task_id} of {done.run_id} (queued" in str(holder)
        assert holder in pool_holders.release()
        assert "queued" not in states(done)
        assert pool_holders.release() == []

    def test_one_that_a_scheduler_has_queued_is_its_own(self, done):
        put(done, "queued", queued_dttm=datetime.now(UTC))
        assert [each.is_abandoned for each in pool_holders.find()] == [False]
        put(done, "success")

    def test_one_that_a_living_command_runs_is_left_alone(self, done, start_python):
        # It is recognized by the words of its command line: `airflow dags test taxi_zones`.
        command = start_python("import sys; print('here', flush=True); sys.stdin.read()", "dags", "test", "taxi_zones")
        command.stdout.readline()
        put(done, "running", queued_dttm=None, queued_by_job_id=None)
        assert [each.is_abandoned for each in pool_holders.find()] == [False]
        command.kill()
        command.wait()
        assert [each.is_abandoned for each in pool_holders.find()] == [True]
        put(done, "success")


class TestWhatABackfillWaitsFor:
    @pytest.fixture
    def reasons(self, done, monkeypatch):
        """What the command says of the run."""
        monkeypatch.setattr(runs, "is_paused", lambda dag_id: False)
        return lambda: progress.reasons("taxi_zones", runs.read_runs("taxi_zones", {"2023-01": DAY}))

    @pytest.fixture
    def other(self, dag_bag, done):
        """A run of the same DAG that the command has not started."""
        return run(dag_bag.dags["taxi_zones"], "2023-02-01")

    @pytest.mark.parametrize(
        ("state", "words"),
        [("running", "running"), ("queued", "about to start"), ("up_for_retry", "to be tried again")],
    )
    def test_a_task_at_work_is_named_with_its_month_and_since_when(self, done, reasons, state, words):
        task_id = put(done, state, start_date=datetime(2026, 3, 1, 4, 5, 6, tzinfo=UTC))
        assert reasons() == [
            f"still waiting: `{task_id}` for 2023-01 is {words} since 2026-03-01 04:05:06 UTC",
        ]
        put(done, "success")

    def test_a_task_that_has_never_started_has_no_time(self, done, reasons):
        task_id = put(done, "queued", start_date=None)
        assert reasons() == [f"still waiting: `{task_id}` for 2023-01 is about to start"]
        put(done, "success")

    def test_whoever_else_has_the_pool_is_named_and_our_own_tasks_are_not(self, done, other, reasons):
        put(done, "scheduled")
        task_id = put(other, "running", start_date=datetime(2026, 3, 1, tzinfo=UTC), queued_dttm=datetime.now(UTC))
        assert reasons() == [
            (
                f"still waiting: the pool `warehouse` is taken by taxi_zones.{task_id} of {other.run_id} "
                "(running since 2026-03-01 00:00:00 UTC)"
            )
        ]
        put(other, "success")
        put(done, "success")

    def test_where_nothing_is_at_work_the_scheduler_is_to_be_looked_at(self, done, reasons):
        put(done, "scheduled")
        assert reasons() == ["still waiting: no task is running: is the scheduler working? See its log"]
        put(done, "success")

    @pytest.mark.skipif(not IS_AIRFLOW_3, reason="on 2.11 a backfill runs also where its DAG is paused")
    def test_a_dag_that_somebody_has_paused_is_said_first(self, done, reasons, monkeypatch):
        monkeypatch.setattr(runs, "is_paused", lambda dag_id: True)
        task_id = put(done, "running", start_date=None)
        assert reasons() == [
            "still waiting: taxi_zones has been paused: none of its tasks starts until somebody unpauses it",
            f"still waiting: `{task_id}` for 2023-01 is running",
        ]
        put(done, "success")


@pytest.mark.skipif(not IS_AIRFLOW_3, reason="2.11 has no backfills in its database")
class TestBackfillsOfAirflow3:
    @pytest.fixture
    def backfill(self, dag_bag, simulator, done):
        """A backfill from the web UI, with a run that has not ended."""
        from airflow.models.backfill import Backfill, BackfillDagRun

        with create_session() as session:
            made = Backfill(
                dag_id="taxi_zones",
                from_date=datetime(2023, 1, 1, tzinfo=UTC),
                to_date=datetime(2023, 1, 1, tzinfo=UTC),
                dag_run_conf={},
                reprocess_behavior="none",
                triggering_user_name="anna",
            )
            session.add(made)
            session.flush()
            (it,) = session.scalars(row_of(done))
            it.backfill_id, it.state = made.id, "queued"
            session.add(
                BackfillDagRun(backfill_id=made.id, dag_run_id=it.id, logical_date=it.logical_date, sort_ordinal=1)
            )
            began = made.created_at
        yield began
        with create_session() as session:
            for row in session.scalars(select(Backfill)):
                row.completed_at = datetime.now(UTC)

    def test_somebody_elses_is_named_and_left_alone(self, backfill, done):
        (found,) = runs.open_backfills("taxi_zones")
        assert str(found).startswith("a backfill from 2023-01-01 to 2023-01-01, created by anna at ")
        assert (found.done, found.total) == (0, 1)
        assert runs.cancel_since("taxi_zones", datetime.now(UTC)) == 0
        assert runs.open_backfills("taxi_zones") == [found]

    def test_one_that_is_paused_is_said_to_be_and_is_a_reason_to_wait(self, backfill, done):
        from airflow.models.backfill import Backfill

        with create_session() as session:
            for row in session.scalars(select(Backfill).where(Backfill.completed_at.is_(None))):
                row.is_paused = True
        (found,) = runs.open_backfills("taxi_zones")
        assert str(found).endswith(" UTC, which is paused")
        said = progress.reasons("taxi_zones", runs.read_runs("taxi_zones", {"2023-01": DAY}))
        assert f"still waiting: there is {found}: unpause or cancel it in the web UI" in said

    def test_a_run_that_somebody_has_deleted_is_not_waited_for(self, backfill, done):
        job = Job("green", "taxi_zones", {"2023-01": DAY, "2020-02": date(2020, 2, 1)}, lambda *_: "")
        with pytest.raises(CommandError, match=r"taxi_zones has no run for 2020-02: .* deleted it"):
            backfill_airflow3._check_none_is_missing(job, job.runs())

    def test_it_keeps_ours_from_being_created_and_is_no_error(self, backfill, done):
        assert not backfill_airflow3._create(zones_job(), "none", note_since(backfill))

    def test_a_dag_that_airflow_does_not_know_is_named_with_the_dates(self, backfill, done):
        job = replace(zones_job(), dag_id="no_such_dag")
        with pytest.raises(CommandError, match=r"no_such_dag from 2023-01-01T00:00:00\+00:00 to 2023.*\n.*no_such_dag"):
            backfill_airflow3._create(job, "none", note_since(backfill))

    @pytest.mark.parametrize("busy", [1, 3])
    def test_a_busy_database_is_asked_again_after_what_was_begun_is_cancelled(self, backfill, done, busy, monkeypatch):
        asked, cancelled = [], []

        def create(*given):
            asked.append(given)
            if len(asked) <= busy:
                raise OperationalError("INSERT", {}, sqlite3.OperationalError("database is locked"))

        monkeypatch.setattr(runs, "create_backfill", create)
        monkeypatch.setattr(runs, "cancel_since", lambda *given: cancelled.append(given))
        note = note_since(backfill)
        with pytest.raises(CommandError, match="database is locked") if busy == 3 else contextlib.nullcontext():
            assert backfill_airflow3._create(zones_job(), "completed", note)
        assert asked == [("taxi_zones", DAY, DAY, 4, "completed")] * (2 if busy == 1 else 3)
        assert cancelled == [("taxi_zones", note.moment)] * (1 if busy == 1 else 2)

    def test_our_own_is_ended_with_its_runs(self, backfill, done):
        assert runs.cancel_since("taxi_zones", backfill) == 1
        assert runs.open_backfills("taxi_zones") == []
        assert runs.read_runs("taxi_zones", {"2023-01": DAY})[0].state == "failed"

    def test_a_run_of_ours_that_is_cleared_later_is_started_by_airflow(self, backfill, done):
        from airflow.models.backfill import Backfill

        runs.cancel_since("taxi_zones", backfill)
        with create_session() as session:
            paused = select(Backfill.is_paused).where(Backfill.dag_id == "taxi_zones", Backfill.created_at >= backfill)
            assert session.scalars(paused).all() == [False], "Airflow starts no run of a backfill that is paused"

    def test_one_whose_runs_have_ended_is_marked_as_ended(self, backfill, done):
        with create_session() as session:
            (it,) = session.scalars(row_of(done))
            it.state = "success"
        assert runs.open_backfills("taxi_zones") == []

    def test_a_run_that_somebody_else_has_begun_is_named(self, backfill, done):
        assert runs.unfinished_before("taxi_zones", {"2023-01": DAY}, datetime.now(UTC)) == {"2023-01": done.run_id}
        assert runs.unfinished_before("taxi_zones", {"2023-01": DAY}, backfill) == {}
