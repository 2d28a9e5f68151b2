"""taxi_trips_editions run for real: checks of a simulated TLC start runs of taxi_trips_green, or report."""

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from sqlalchemy import delete, select

from include.tlc_simulator.faults import Status
from include.tlc_simulator.server import TlcSimulator
from tests.dags.running import query, run
from tests.dags.test_adhoc_request import instances

pytestmark = [
    pytest.mark.usefixtures("metadata_database", "no_pauses"),
    # 2.11 looks up all names that templates may use, its deprecated ones too, when it renders a map index.
    pytest.mark.filterwarnings("ignore:Accessing .* from the template is deprecated"),
]

MOMENTS = itertools.count()
NOTHING_NEW = {
    ("read_loads", -1): "success",
    ("ask", -1): "success",
    ("find_republished", -1): "success",
    ("start", -1): "skipped",
    ("report", -1): "success",
}


@pytest.fixture
def check(dag_bag: Any) -> Callable[[], Any]:
    """Run `taxi_trips_editions` once."""

    def once() -> Any:
        moment = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=next(MOMENTS))
        return run(dag_bag.dags["taxi_trips_editions"], moment.isoformat())

    return once


@pytest.fixture
def loaded(dag_bag: Any, simulator: TlcSimulator) -> Callable[..., None]:
    """Load months of green trips, as a backfill does."""

    def load(*months: str) -> None:
        for month in months:
            assert str(run(dag_bag.dags["taxi_trips_green"], f"{month}-01").state) == "success"

    return load


@pytest.fixture(autouse=True)
def only_queued_runs(dag_bag: Any) -> Iterator[None]:
    """Delete the runs that the test leaves queued, because nothing will run them."""
    yield
    with create_session() as session:
        forget = delete(DagRun).where(DagRun.run_id.like("edition__%"))
        session.execute(forget, execution_options={"synchronize_session": False})


def started() -> dict[str, DagRun]:
    """Return the runs that checks have started, by month."""
    with create_session() as session:
        found = session.scalars(select(DagRun).where(DagRun.run_id.like("edition__%"))).all()
        assert {done.dag_id for done in found} <= {"taxi_trips_green"}
        assert len({done.conf["month"] for done in found}) == len(found)
        return {done.conf["month"]: done for done in found}


def test_a_check_of_an_empty_warehouse_is_a_success(check: Callable[[], Any], simulator: TlcSimulator) -> None:
    done = check()
    assert str(done.state) == "success"
    assert instances(done) == NOTHING_NEW
    assert simulator.requests == []


def test_months_as_they_were_loaded_start_nothing(
    check: Callable[[], Any], loaded: Callable[..., None], simulator: TlcSimulator
) -> None:
    loaded("2023-01", "2023-02")
    before = len(simulator.requests)
    assert instances(check()) == NOTHING_NEW
    asked = [(request.method, request.status) for request in simulator.requests[before:]]
    assert asked == [("HEAD", 304)] * 2
    assert started() == {}


@pytest.mark.slow
def test_a_month_published_again_is_run_once_and_then_loaded(
    dag_bag: Any, check: Callable[[], Any], loaded: Callable[..., None], simulator: TlcSimulator, data_dir: Path
) -> None:
    loaded("2023-01", "2023-02")
    simulator.republish("green", "2023-02")

    done = check()
    assert str(done.state) == "success"
    assert instances(done)["start", 0] == "success"
    (first,) = started().values()
    assert (first.dag_id, first.conf, str(first.state)) == ("taxi_trips_green", {"month": "2023-02"}, "queued")
    assert first.run_id.startswith("edition__2023-02__")
    # The date is in the run's month, but differs from the date of the scheduled run.
    assert "2023-02-01 00:00:00.000000" < f"{first.logical_date:%Y-%m-%d %H:%M:%S.%f}" < "2023-03"

    # The next day: the run is still queued, as it would be if the DAG were paused.
    done = check()
    assert str(done.state) == "success"
    assert instances(done)["start", 0] == "skipped"
    assert {found.run_id for found in started().values()} == {first.run_id}

    # The run itself finds the new edition and loads it.
    again = run(dag_bag.dags["taxi_trips_green"], first.logical_date.isoformat()[:19], **first.conf)
    assert str(again.state) == "success"
    assert query(data_dir, "SELECT count(DISTINCT etag), count(*) FROM loads WHERE month(partition_month) = 2") == [
        (2, 2)
    ]
    assert instances(check()) == NOTHING_NEW
    assert {found.run_id for found in started().values()} == {first.run_id}


@pytest.mark.slow
def test_a_run_that_has_failed_for_good_is_not_started_again(
    check: Callable[[], Any], loaded: Callable[..., None], simulator: TlcSimulator
) -> None:
    loaded("2023-01")
    simulator.republish("green", "2023-01")
    check()
    with create_session() as session:
        session.scalars(select(DagRun).where(DagRun.run_id.like("edition__%"))).one().state = "failed"
    assert instances(check())["start", 0] == "skipped"
    assert str(started()["2023-01"].state) == "failed"


@pytest.mark.slow
def test_two_months_published_again_at_the_same_time_are_two_runs(
    check: Callable[[], Any], loaded: Callable[..., None], simulator: TlcSimulator
) -> None:
    loaded("2023-01", "2023-02", "2023-03")
    for month in ("2023-01", "2023-03"):
        simulator.republish("green", month)
    assert str(check().state) == "success"
    assert sorted(started()) == ["2023-01", "2023-03"]


@pytest.mark.slow
def test_a_withdrawn_month_is_reported_once_and_kept(
    check: Callable[[], Any],
    loaded: Callable[..., None],
    simulator: TlcSimulator,
    data_dir: Path,
    logged: Callable[[], str],
) -> None:
    loaded("2023-01", "2023-02")
    before = query(data_dir, "SELECT * FROM green_trips ORDER BY ALL")
    simulator.withdraw("green", "2023-01")
    logged()

    done = check()
    assert str(done.state) == "failed"
    assert instances(done) == NOTHING_NEW | {("report", -1): "failed"}
    said = logged()
    assert "the TLC's site has withdrawn green 2023-01 (403 or 404)" in said
    assert "taxi_trips_editions.report failed" in said  # the alert
    assert query(data_dir, "SELECT * FROM green_trips ORDER BY ALL") == before

    assert instances(check()) == NOTHING_NEW
    assert "already reported as withdrawn by an earlier check: green 2023-01" in logged()

    simulator.publish("green", "2023-01")
    assert instances(check()) == NOTHING_NEW
    simulator.withdraw("green", "2023-01")
    assert instances(check())["report", -1] == "failed"
    assert started() == {}


@pytest.mark.slow
def test_what_the_site_has_said_counts_where_it_has_not_said_all(
    check: Callable[[], Any], loaded: Callable[..., None], simulator: TlcSimulator, logged: Callable[[], str]
) -> None:
    loaded("2023-01", "2023-02")
    simulator.republish("green", "2023-01")
    simulator.add_fault("2023-02", Status(503))

    done = check()
    assert str(done.state) == "failed"
    assert instances(done) == {
        ("read_loads", -1): "success",
        ("ask", -1): "failed",
        ("find_republished", -1): "success",
        ("start", 0): "success",
        ("report", -1): "upstream_failed",
    }
    assert "did not answer for 1 of 2 months" in logged()
    assert sorted(started()) == ["2023-01"]


def test_a_setting_that_is_wrong_fails_it_and_says_which(
    check: Callable[[], Any], simulator: TlcSimulator, logged: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NYC_TAXI_FLEETS", "purple")
    done = check()
    assert str(done.state) == "failed"
    assert instances(done)["find_republished", -1] == "skipped"
    assert "no fleet 'purple' in the catalogue" in logged()
