"""A run whose name does not show its month or week gets a note that does, in Airflow's own database."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunType
from sqlalchemy import select

from include.orchestration.compat import IS_AIRFLOW_3

pytestmark = pytest.mark.usefixtures("metadata_database")

DATE = datetime(2023, 2, 17, 12, tzinfo=UTC)


@pytest.fixture
def begin(dags_to_read: Any) -> Iterator[Callable[..., str | None]]:
    """Start a run as the scheduler does, which tells the listeners and then commits; return the stored note."""
    made = []

    def run(
        dag_id: str, kind: str = "manual", note: str | None = None, date: datetime | None = DATE, **conf: Any
    ) -> Any:
        run_id = f"{kind}__{len(made)}"
        facts = {"run_after": DATE} if IS_AIRFLOW_3 else {}
        with create_session() as session:
            found = DagRun(
                dag_id=dag_id,
                run_id=run_id,
                run_type=DagRunType(kind),
                state=DagRunState.RUNNING,
                conf=conf,
                **{"logical_date" if IS_AIRFLOW_3 else "execution_date": date},
                **facts,
            )
            found.note = note
            session.add(found)
            session.commit()
            made.append((dag_id, run_id))
            found.dag = dags_to_read.dags[dag_id]
            found.notify_dagrun_state_changed(msg="started")
        with create_session() as session:
            stored = session.scalars(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)).one()
            text = stored.note
            session.delete(stored)
        return text

    return run


@pytest.mark.parametrize(
    ("dag_id", "conf", "note"),
    [
        ("taxi_trips_green", {}, "Month 2023-02"),
        ("taxi_trips_green", {"month": "2021-07"}, "Month 2021-07"),
        ("taxi_trips_green", {"month": None}, "Month 2023-02"),
        ("trips_by_week_green", {}, "Week 2023-02-13 to 2023-02-19"),
        ("trips_by_week_green", {"week": "2021-07-09"}, "Week 2021-07-05 to 2021-07-11"),
        ("trips_by_week_green", {"week": "2020-12-31"}, "Week 2020-12-28 to 2021-01-03"),
    ],
)
def test_a_run_by_hand_has_its_month_or_week_in_a_note(begin, dag_id, conf, note):
    assert begin(dag_id, **conf) == note


@pytest.mark.parametrize("kind", ["scheduled", "backfill"])
def test_a_run_of_the_schedule_or_a_backfill_has_it_in_its_name_unless_it_was_given_a_month(begin, kind):
    assert begin("taxi_trips_green", kind) is None
    assert begin("taxi_trips_green", kind, month="2021-07") == "Month 2021-07"


def test_somebodys_note_stays_as_it_is(begin):
    assert begin("taxi_trips_green", note="the new edition", month="2021-07") == "the new edition"


@pytest.mark.skipif(not IS_AIRFLOW_3, reason="on 2.11 every run has a logical date")
def test_a_run_without_a_date_has_the_month_it_was_given_or_no_note(begin):
    assert begin("taxi_trips_green", date=None, month="2021-07") == "Month 2021-07"
    assert begin("taxi_trips_green", date=None) is None


@pytest.mark.parametrize("month", ["July", "2021-13", 7, ["2021-07"]])
def test_a_month_that_is_none_does_not_disturb_the_scheduler(begin, month):
    assert begin("taxi_trips_green", month=month) is None


def test_a_run_of_another_dag_has_none(begin):
    assert begin("warehouse_status") is None
