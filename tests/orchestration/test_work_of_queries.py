"""What the page and the commands read of Airflow's database: of a long history, only what they need.

Rows are counted, in a database with Airflow's own tables and nothing else, so no DAG has to run.
"""

import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from airflow.models import import_all_models
from sqlalchemy import create_engine, insert
from sqlalchemy.orm import Session

from include.nyc_taxi.months import month_range
from include.nyc_taxi.web.snapshot import Loaded
from include.orchestration import assets, compat, month_runs, page

MONTHS = month_range("2003-01", "2022-12")
LOADED = Loaded(1, 1, "https://tlc.test/x", None, None, "2023-01-01T00:00:00+00:00", "r", None, None, ())
DAG_ID = "taxi_trips_green"


@pytest.fixture
def database():
    """An engine with the tables. Their keys refer to tables of other models, which only have to be known."""
    if not compat.IS_AIRFLOW_3:
        import airflow.providers.fab.auth_manager.models  # noqa: F401
    import_all_models()
    event, asset, _ = compat.asset_models()
    models = (compat.DagRun, compat.TaskInstance, asset, event)
    engine = create_engine("sqlite://")
    for model in models:
        model.__table__.create(engine)
    return engine


class Counting(Session):
    """A session that counts the rows that it hands out."""

    rows = 0

    def execute(self, *arguments, **options):
        found = super().execute(*arguments, **options).all()
        Counting.rows += len(found)
        return found


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setattr(Counting, "rows", 0)
    return lambda: Counting.rows


def test_a_months_panel_reads_only_the_events_of_the_months_that_it_shows(database, counted):
    model, asset, key = compat.asset_models()
    uris = [of_fleet("green").uri for of_fleet in page.STEPS.values()]
    now = datetime(2023, 1, 1, tzinfo=UTC)
    with Session(database) as session:
        for number, uri in enumerate([*uris, assets.trips("yellow").uri], 1):
            named = {"name": uri} if compat.IS_AIRFLOW_3 else {}
            session.execute(insert(asset.__table__).values(id=number, uri=uri, extra={}, **named))
            for day, month in enumerate(MONTHS):
                extra = {"month": month, "seconds": number + 0.5}
                made = {key.key: number, "source_run_id": f"run {month}", "timestamp": now + timedelta(days=day)}
                session.execute(insert(model.__table__).values(extra=extra, **made))
        session.commit()
    shown = {month: replace(LOADED, run_id=f"run {month}") for month in MONTHS[-3:]}
    with Counting(database) as session:
        seconds = page._seconds(session, "green", shown)
    assert seconds == {month: {"download": 1.5, "load": 2.5, "aggregate": 3.5, "map": 4.5} for month in MONTHS[-3:]}
    assert counted() == 3 * 4


def test_the_status_reads_a_row_for_each_run_and_no_tasks_that_have_succeeded(database, counted, monkeypatch):
    run, task = compat.DagRun.__table__, compat.TaskInstance.__table__
    date_name = compat.logical_date().key
    with Session(database) as session:
        for month in MONTHS:
            day = datetime(month.first_day.year, month.first_day.month, 1, tzinfo=UTC)
            state = "failed" if month == "2022-11" else "success"
            more = {"run_after": day} if compat.IS_AIRFLOW_3 else {}
            values = {"dag_id": DAG_ID, "run_id": month, "run_type": "scheduled", "state": state, "start_date": day}
            session.execute(insert(run).values(**values, **more, **{date_name: day}, log_template_id=None))
            for name in ("download", "load"):
                of_task = {"task_id": name, "state": state, "pool": "p", "try_number": 1, "map_index": -1}
                session.execute(insert(task).values(dag_id=DAG_ID, run_id=month, **of_task))
        session.commit()
    monkeypatch.setattr(compat, "create_session", lambda: contextlib.closing(Counting(database)), raising=False)
    found = month_runs.all_runs(DAG_ID)
    assert [each.month for each in found] == MONTHS
    assert [(each.month, each.failed) for each in found if each.failed] == [("2022-11", ("download", "load"))]
    assert counted() == len(MONTHS) + 2
