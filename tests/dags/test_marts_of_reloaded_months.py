"""marts_of_reloaded_months run for real: it starts a run of trips_marts_green for a month that was loaded again."""

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from sqlalchemy import delete, select

from include.nyc_taxi import warehouse
from include.orchestration.month import month_of_run
from tests.dags.running import query, run
from tests.dags.test_adhoc_request import instances

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("metadata_database", "no_pauses"),
    # 2.11 looks up all names that templates may use, its deprecated ones too, when it renders a map index.
    pytest.mark.filterwarnings("ignore:Accessing .* from the template is deprecated"),
]

MOMENTS = itertools.count()
LOAD = "INSERT INTO loads VALUES ('green', '2023-01-01', 'u', 'e', NULL, 1, 1, 1, '1', '{}', 'run', NULL, '[]', false)"


@pytest.fixture
def check(dag_bag: Any) -> Iterator[Callable[[], str]]:
    """Run `marts_of_reloaded_months` once, and return the state of its task `start`."""

    def once() -> str:
        moment = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=next(MOMENTS))
        done = run(dag_bag.dags["marts_of_reloaded_months"], moment.isoformat())
        assert str(done.state) == "success"
        found = instances(done)
        return found.get(("start", 0)) or found["start", -1]

    yield once
    with create_session() as session:  # nothing will run them
        forget = delete(DagRun).where(DagRun.run_id.like("reload__%"))
        session.execute(forget, execution_options={"synchronize_session": False})


def started() -> list[DagRun]:
    with create_session() as session:
        return list(session.scalars(select(DagRun).where(DagRun.run_id.like("reload__%")).order_by(DagRun.id)).all())


def test_a_month_that_is_loaded_again_is_built_again_once(check: Callable[[], str], data_dir: Path) -> None:
    assert check() == "skipped", "there is no warehouse yet"
    data_dir.mkdir(exist_ok=True)
    with duckdb.connect(str(data_dir / "warehouse.duckdb")) as con:
        warehouse.make_ready(con)
        con.execute(LOAD.format("2023-04-01 12:00:00"))
        con.execute("CREATE SCHEMA marts")
        con.execute(
            "CREATE TABLE marts.built_months AS "
            "SELECT 'daily_trips' AS mart, fleet, partition_month, loaded_at, loaded_at AS built_at FROM loads"
        )
    assert check() == "skipped"

    query(data_dir, LOAD.format("2023-04-02 12:00:00"))
    assert check() == "success"
    (first,) = started()
    assert (first.dag_id, first.conf, str(first.state)) == ("trips_marts_green", {"month": "2023-01"}, "queued")
    assert month_of_run(first) == "2023-01"

    assert check() == "skipped", "the next day the run is still queued, as it would be if its DAG were paused"
    query(data_dir, LOAD.format("2023-04-03 12:00:00"))
    assert check() == "success"
    assert len({(each.run_id, each.logical_date) for each in started()}) == 2

    query(data_dir, "UPDATE marts.built_months SET loaded_at = '2023-04-03 12:00:00'")
    assert check() == "skipped"
