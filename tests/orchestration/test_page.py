"""What the page of the warehouse reads from Airflow's metadata database, after real runs of the DAGs."""

from datetime import UTC, datetime

import pytest
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import delete, event

from include.nyc_taxi import settings
from include.nyc_taxi.web import uses
from include.orchestration import compat, page
from include.tlc_simulator.faults import Status
from tests.dags.conftest import dag_bag, metadata_database, no_pauses, simulator  # noqa: F401
from tests.dags.running import run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("metadata_database", "no_pauses", "no_runs")]
MONTHS, WEEKS = "taxi_trips_green", "trips_by_week_green"
READER = page.Rights(frozenset({MONTHS, WEEKS}), frozenset())
REPORT = {
    "fleet": "green",
    "borough": "Manhattan",
    "start_date": "2023-01-09",
    "end_date": "2023-01-22",
    "name": "two-weeks",
}


@pytest.fixture
def no_runs(metadata_database):  # noqa: F811
    """No run that another test has left."""
    with create_session() as session:
        session.execute(delete(TaskInstance))
        session.execute(delete(DagRun))


@pytest.fixture
def ask():
    """Call a function of the page as the web server does: with a session of its own."""

    def with_session(function, *arguments):
        with create_session() as session:
            return function(session, *arguments)

    return with_session


def month_of(made, name):
    (green,) = made["fleets"]
    return next(cell for cell in green["months"] if cell["month"] == name)


def test_a_month_that_was_loaded_has_its_facts_and_the_seconds_of_its_tasks(dag_bag, simulator, ask):  # noqa: F811
    done = run(dag_bag.dags[MONTHS], "2023-01-01")
    assert str(done.state) == "success"
    cell = month_of(ask(page.grid_data, READER), "2023-01")
    assert cell["state"] in ("loaded", "loaded_with_warnings")
    assert (cell["rows"], cell["run_id"]) == (1000, done.run_id)
    made = ask(page.month_data, READER, "green", "2023-01")
    assert made["history"][-1]["seconds"].keys() == {"download", "load", "aggregate", "map"}
    assert made["load"]["simulated"] is True
    assert len(made["top_zones"]) == 10
    assert "manhattan_stats_2023-01.geojson?v=" in made["stats_url"]
    (shown,) = made["runs"]
    assert (shown["run_id"], shown["state"], shown["failed"]) == (done.run_id, "success", [])


def test_a_month_that_failed_names_the_tasks_and_links_to_their_logs(dag_bag, simulator, ask):  # noqa: F811
    simulator.add_fault("/trip-data/", Status(500), methods=("HEAD",))
    failed = run(dag_bag.dags[MONTHS], "2023-02-01")
    cell = month_of(ask(page.grid_data, READER), "2023-02")
    assert (cell["state"], cell["failed"], cell["run_id"]) == ("failed", ["wait_for_file"], failed.run_id)
    (shown,) = ask(page.month_data, READER, "green", "2023-02")["runs"]
    by_task = {task["task_id"]: task for task in shown["failed"]}
    assert by_task["wait_for_file"]["try"] == 1
    assert by_task.keys() == {"wait_for_file", "download", "load", "aggregate", "map"}
    assert f"/dags/{MONTHS}/" in by_task["wait_for_file"]["log_url"]


def test_every_task_that_opened_the_warehouse_or_asked_the_site_is_declared(dag_bag, simulator, ask):  # noqa: F811
    """All DAGs run for real. What their tasks did is compared with what the DAGs say that they do."""
    for dag_id, day, conf in [
        ("taxi_zones", "2023-01-01", {}),
        (MONTHS, "2023-01-01", {}),
        (WEEKS, "2023-01-10", {}),
        ("adhoc_request", "2023-01-01", REPORT),
        ("adhoc_request_sensor", "2023-01-01", {}),
        ("taxi_trips_editions", "2023-01-01", {}),
        ("marts_of_reloaded_months", "2023-01-01", {}),
        ("warehouse_status", "2023-01-01", {}),
        ("warehouse_maintenance", "2023-01-01", {}),
    ]:
        assert str(run(dag_bag.dags[dag_id], day, **conf).state) == "success", dag_id
    # The DAGs of marts need dbt: tests/dags/test_trips_marts.py runs them, and makes the same comparison.
    kinds = ("taxi_trips", "trips_by_week", "trips_marts")
    others = {f"{kind}_{fleet}" for kind in kinds for fleet in settings.fleets()}
    ran = set(dag_bag.dags) - others | {MONTHS, WEEKS}
    declared = ask(page.declared_uses, ran)
    opened = {(use.dag_id, use.task_id) for use in uses.warehouse_uses()}
    # Of a file there is nothing to maintain, so this one task does not open it.
    wanted = {(use.dag_id, use.task_id) for use, _ in declared if use} - {("warehouse_maintenance", "maintain")}
    assert opened == wanted
    asked = {(use.dag_id, use.task_id) for use in uses.site_uses()}
    sure = {(use.dag_id, use.task_id) for _, use in declared if use}
    assert sure - asked == {(MONTHS, "load")}  # the zones were there, so it had nothing to download
    assert asked - sure == {("taxi_trips_editions", "ask"), ("warehouse_status", "report")}


def test_records_what_each_task_cost(dag_bag, simulator):  # noqa: F811
    done = run(dag_bag.dags[MONTHS], "2023-01-01")
    found = {use.task_id: use for use in uses.warehouse_uses()}
    assert {use.run_id for use in found.values()} == {done.run_id}
    assert found["load"].rows == 1000
    assert (found["load"].wrote, found["aggregate"].wrote) == (True, True)
    assert all(use.hold_seconds > 0 and use.wait_seconds >= 0 for use in found.values())
    site = {use.task_id: use for use in uses.site_uses()}
    assert site["download"].bytes == (settings.raw_dir() / "green_tripdata_2023-01.parquet").stat().st_size
    assert site["wait_for_file"].requests == 1


def test_counts_what_was_asked_again(dag_bag, simulator):  # noqa: F811
    simulator.add_fault("/trip-data/", Status(503), methods=("GET",), times=1)
    run(dag_bag.dags[MONTHS], "2023-01-01")
    site = {use.task_id: use for use in uses.site_uses()}
    assert (site["download"].requests, site["download"].retries) == (2, 1)


def test_a_weeks_run_is_of_its_week(dag_bag, simulator, ask):  # noqa: F811
    run(dag_bag.dags[MONTHS], "2023-01-01")
    run(dag_bag.dags[WEEKS], "2023-01-12")
    (green,) = ask(page.grid_data, READER)["fleets"]
    week = next(week for week in green["weeks"] if week["monday"] == "2023-01-09")
    assert week["state"] == "counted"
    assert week["trips"] > 0


def test_what_the_user_may_not_read_is_left_out(ask):
    nobody = page.Rights(frozenset(), frozenset())
    assert ask(page.grid_data, nobody)["fleets"] == []
    assert ask(page.month_data, nobody, "green", "2023-01") is None
    made = ask(page.resource_data, nobody)
    assert (made["warehouse"]["uses"], made["tlc"]["uses"], made["warehouse"]["waiting"]) == ([], [], [])
    months_only = ask(page.grid_data, page.Rights(frozenset({MONTHS}), frozenset()))
    assert [fleet["weeks"] for fleet in months_only["fleets"]] == [[]]


def test_says_why_a_user_has_no_buttons(ask):
    (green,) = ask(page.grid_data, READER)["fleets"]
    assert (green["may_trigger"], green["why_not"]) == (False, page.MAY_NOT)
    (green,) = ask(page.grid_data, page.Rights(READER.readable, READER.readable))["fleets"]
    assert (green["may_trigger"], green["why_not"], green["is_paused"]) == (True, None, True)


def test_a_dag_that_airflow_has_not_read_yet_has_no_buttons(ask):
    unknown = page.Rights(frozenset({"taxi_trips_new"}), frozenset({"taxi_trips_new"}))
    dag = ask(page.dags, unknown.readable, unknown)["taxi_trips_new"]
    assert (dag.is_paused, dag.may_trigger, dag.runs) == (True, False, ())
    assert "has not read" in dag.why_not


def add_runs(dag_id, runs):
    """Put ended runs into Airflow's database: (run id, date, state, start, form) each."""
    table, date = DagRun.__table__, "logical_date" if compat.IS_AIRFLOW_3 else "execution_date"
    with create_session() as session:
        for run_id, day, state, start, form in runs:
            values = {
                "dag_id": dag_id,
                "run_id": run_id,
                date: datetime.fromisoformat(day).replace(tzinfo=UTC),
                "state": state,
                "start_date": datetime.fromisoformat(start).replace(tzinfo=UTC),
                "end_date": datetime.fromisoformat(start).replace(tzinfo=UTC),
                "run_type": "manual" if form else "backfill",
                "conf": form or {},
            }
            extra = {"run_after": values["start_date"], "clear_number": 0} if compat.IS_AIRFLOW_3 else {}
            session.execute(table.insert().values(**values | extra))


def shown(ask, dag_id=MONTHS):
    return [each.run_id for each in ask(page.dags, READER.readable, READER)[dag_id].runs]


@pytest.mark.usefixtures("no_runs")
class TestRunsThatMatter:
    """The grid reads the runs that its states depend on, and not those of years."""

    def test_a_success_matters_only_if_it_makes_a_failure_of_its_month_history(self, ask):
        failed = ("failed", "2023-02-01", "failed", "2023-05-01", None)
        add_runs(
            MONTHS,
            [
                ("long ago", "2023-01-01", "success", "2023-04-01", None),
                ("before", "2023-03-05", "success", "2023-04-02", {"month": "2023-02"}),
                failed,
                ("another month", "2023-03-01", "success", "2023-06-01", None),
                ("another form", "2023-06-05", "success", "2023-06-02", {"month": "2023-03"}),
                ("mended", "2023-06-06", "success", "2023-06-03", {"month": "2023-02"}),
            ],
        )
        assert shown(ask) == ["failed", "mended"]
        assert month_of(ask(page.grid_data, READER), "2023-02")["state"] != "failed"

    def test_a_run_by_hand_is_mended_by_the_run_of_the_date(self, ask):
        add_runs(
            MONTHS,
            [
                ("by hand", "2023-04-05", "failed", "2023-05-01", {"month": "2023-02"}),
                ("of the date", "2023-02-01", "success", "2023-06-01", None),
            ],
        )
        assert shown(ask) == ["by hand", "of the date"]

    def test_of_weeks_too(self, ask):
        add_runs(
            WEEKS,
            [
                ("failed", "2023-01-09", "failed", "2023-05-01", None),
                ("another", "2023-01-16", "success", "2023-06-01", None),
                ("mended", "2023-06-01", "success", "2023-06-02", {"week": "2023-01-11"}),
            ],
        )
        assert shown(ask, WEEKS) == ["failed", "mended"]

    def test_nothing_is_read_where_all_is_well(self, ask):
        add_runs(MONTHS, [(f"run{n}", f"2023-0{n}-01", "success", "2023-05-01", None) for n in range(1, 5)])
        assert shown(ask) == []

    @pytest.mark.parametrize("form", ["2023-01 or 2023-02", "x", "2023-13"])
    def test_a_form_that_names_no_month_hides_no_other_run(self, ask, form):
        add_runs(
            MONTHS,
            [
                ("strange", "2023-04-05", "failed", "2023-05-01", {"month": form}),
                ("failed", "2023-02-01", "failed", "2023-05-02", None),
            ],
        )
        assert shown(ask) == ["strange", "failed"]

    def test_the_panel_of_a_month_has_all_of_its_runs(self, ask):
        add_runs(
            MONTHS,
            [
                ("of the date", "2023-02-01", "success", "2023-04-01", None),
                ("by hand", "2024-04-05", "success", "2024-04-05", {"month": "2023-02", "accept": True}),
                ("another", "2023-03-01", "success", "2023-06-01", None),
                ("by hand too", "2023-02-10", "success", "2023-06-01", {"month": "2023-05"}),
            ],
        )
        runs = ask(page.month_data, READER, "green", "2023-02")["runs"]
        assert [(each["run_id"], each["accepts"]) for each in runs] == [("by hand", True), ("of the date", False)]


def test_the_number_of_queries_does_not_depend_on_the_number_of_runs(ask):
    def count():
        queries = []
        with create_session() as session:
            engine = session.get_bind()

            def note(*arguments):
                queries.append(arguments[2])

            event.listen(engine, "before_cursor_execute", note)
            try:
                found = page.dags(session, READER.readable, READER)
            finally:
                event.remove(engine, "before_cursor_execute", note)
        return len(found[MONTHS].runs), len(queries)

    counted = []
    for number in range(1, 4):
        add_runs(MONTHS, [(f"run{number}", f"2023-0{number}-01", "failed", f"2023-05-0{number}", None)])
        counted.append(count())
    assert [runs for runs, _ in counted] == [1, 2, 3]
    assert len({queries for _, queries in counted}) == 1
