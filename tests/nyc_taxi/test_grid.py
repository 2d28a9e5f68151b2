"""The data of the grid: the states of months and weeks."""

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.nyc_taxi import catalogue
from include.nyc_taxi.source.download import Edition, month_path
from include.nyc_taxi.status import editions
from include.nyc_taxi.web import grid, snapshot
from include.nyc_taxi.web.grid import Dag, Run, State
from include.nyc_taxi.web.snapshot import Check, Loaded, Place, Refusal, Snapshot

NOW = datetime(2023, 9, 15, 12, tzinfo=UTC)
LOADED = datetime(2023, 9, 12, 12, tzinfo=UTC)
MODIFIED, LATER = "Mon, 20 Mar 2023 14:30:00 GMT", "Tue, 20 Jun 2023 14:30:00 GMT"
URL = "https://tlc.test"
BROKEN = Check("rows_as_a_year_before", "error", 0.5, 0.9, "90 % fewer rows")


def load_of(month="2023-01", **facts):
    load = Loaded(
        rows=68_211,
        bytes=1000,
        source_url=URL + catalogue.file_path("green", month),
        etag='"9051137bd2a7"',
        last_modified=MODIFIED,
        loaded_at=LOADED.isoformat(),
        run_id="loader",
        simulated=False,
        changes=None,
        unknown_columns=(),
        checks=(Check("unknown_zone", "warn", 0, 0.0),),
    )
    return replace(load, **facts)


def taken(months=None, refusals=None, weeks=None):
    return Snapshot(
        NOW.isoformat(),
        "1.5.5",
        Place("file", "/w.duckdb"),
        months={"green": months or {}},
        refusals={"green": refusals or {}},
        weeks={"green": weeks or {}},
    )


def run(month="2023-01", state="failed", failed=("load",), run_id="another", after=timedelta(hours=1), **facts):
    started = None if state == "queued" else LOADED + after
    return Run(run_id, month, state, started, failed if state == "failed" else (), **facts)


def cell(month="2023-01", *, runs=(), **contents):
    (found,) = grid.cells("green", [month], taken(**contents), runs, NOW)
    return found


def put_file(month="2023-01", size=1000, etag='"9051137bd2a7"', modified=MODIFIED):
    path = month_path("green", month)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    edition = Edition(URL, etag, modified, size)
    path.with_name(f"{path.name}.edition.json").write_text(json.dumps(asdict(edition)))


class TestStateOfAMonth:
    def test_loaded(self):
        found = cell(months={"2023-01": load_of()})
        assert (found.state, found.run_id) == (State.LOADED, "loader")

    def test_loaded_with_warnings(self):
        broken = Check("unknown_zone", "warn", 0, 0.5, "half of the trips")
        found = cell(months={"2023-01": load_of(checks=(broken,))})
        assert (found.state, found.as_json()["warnings"]) == (State.WITH_WARNINGS, 1)

    def test_downloaded(self):
        put_file()
        assert cell().state == State.DOWNLOADED

    def test_newer_edition_in_raw(self):
        put_file(etag='"new"', modified=LATER)
        assert cell(months={"2023-01": load_of()}).state == State.NEWER_EDITION

    @pytest.mark.parametrize(
        ("answer", "state"),
        [
            ({"published": False, "etag": None, "last_modified": None}, State.WITHDRAWN),
            ({"published": True, "etag": '"new"', "last_modified": LATER}, State.NEWER_EDITION),
            ({"published": True, "etag": 'W/"9051137bd2a7"', "last_modified": MODIFIED}, State.LOADED),
        ],
    )
    def test_what_the_site_last_said(self, answer, state):
        ledger = editions._ledger_path()
        ledger.parent.mkdir(parents=True)
        said = {"answered_at": "2023-09-14T00:00:00.000000+00:00"} | answer
        ledger.write_text(json.dumps({load_of().source_url: said}))
        assert cell(months={"2023-01": load_of()}).state == state
        # An edition that was loaded after the answer may be newer than the answer.
        after = load_of(loaded_at="2023-09-15T00:00:00+00:00")
        assert cell(months={"2023-01": after}).state in (State.LOADED, State.WITHDRAWN)

    def test_a_damaged_ledger_hides_no_month(self, logged):
        ledger = editions._ledger_path()
        ledger.parent.mkdir(parents=True)
        ledger.write_text("{")
        assert cell(months={"2023-01": load_of()}).state == State.LOADED
        assert "shows no newer editions" in logged()

    def test_refused_by_the_run_that_failed(self):
        refusal = Refusal(NOW.isoformat(), "another", (BROKEN,))
        found = cell(months={"2023-01": load_of()}, refusals={"2023-01": refusal}, runs=[run()])
        assert (found.state, found.failed) == (State.REFUSED, ("load",))
        assert found.note == "The edition that was loaded before is kept."
        assert cell(refusals={"2023-01": refusal}, runs=[run()]).note == "Nothing is loaded."

    def test_failed_for_another_reason_after_a_refusal(self):
        refusal = Refusal(NOW.isoformat(), "earlier", (BROKEN,))
        found = cell(months={"2023-01": load_of()}, refusals={"2023-01": refusal}, runs=[run(failed=("download",))])
        assert (found.state, found.run_id, found.failed) == (State.FAILED, "another", ("download",))

    def test_failed(self):
        assert cell(runs=[run()]).state == State.FAILED
        assert cell(months={"2023-01": load_of()}, runs=[run()]).state == State.FAILED

    def test_a_failure_before_the_load_is_history(self):
        assert cell(months={"2023-01": load_of()}, runs=[run(after=-timedelta(hours=1))]).state == State.LOADED

    @pytest.mark.parametrize("state", ["queued", "running"])
    def test_active(self, state):
        assert cell(runs=[run(state=state)]).state == state
        assert cell(months={"2023-01": load_of()}, runs=[run(state=state)]).state == state

    def test_a_run_that_only_waits_for_the_tlc_is_not_running(self):
        assert cell("2023-08", runs=[run("2023-08", state="running", waits=True)]).state == State.NOT_PUBLISHED

    def test_cancelled_is_a_note(self):
        found = cell(months={"2023-01": load_of()}, runs=[run(failed=(), cancelled=True)])
        assert (found.state, found.note) == (State.LOADED, "The last run was cancelled.")

    def test_published_if_a_later_month_is_loaded(self):
        found = cell("2023-06", months={"2023-07": load_of("2023-07")})
        assert (found.state, found.note) == (State.PUBLISHED, None)

    @pytest.mark.parametrize(("month", "state"), [("2023-01", State.PUBLISHED), ("2023-08", State.NOT_PUBLISHED)])
    def test_guessed_by_age_if_nobody_has_asked_and_said_so(self, month, state):
        found = cell(month)
        assert found.state == state
        assert "nobody has asked" in found.note


class TestGrid:
    def test_has_every_month_of_a_fleet_that_the_user_may_read(self):
        dags = {"taxi_trips_green": Dag("taxi_trips_green", may_trigger=True)}
        made = grid.grid(["yellow", "green"], taken({"2023-01": load_of()}), dags, NOW)
        (green,) = made["fleets"]
        assert (green["name"], green["title"], green["may_trigger"]) == ("green", "Green taxis", True)
        assert green["months"][0]["month"] == green["first_month"] == catalogue.fleet("green").first_month
        assert green["months"][-1]["month"] == "2023-08"
        assert green["counts"]["loaded"] == 1
        assert sum(green["counts"].values()) == len(green["months"])
        assert made["snapshot"]["place"] == "/w.duckdb"
        assert made["hint"] is None
        assert json.loads(json.dumps(made)) == made

    def test_without_a_snapshot_says_what_to_run(self):
        assert snapshot.read() is None
        made = grid.grid(["green"], None, {"taxi_trips_green": Dag("taxi_trips_green")}, NOW, snapshot.problem())
        assert made["snapshot"] is None
        assert "make status" in made["hint"]
        assert made["fleets"][0]["months"]

    def test_explains_every_state_with_a_mark_of_its_own(self):
        made = grid.grid([], None, {}, NOW)
        assert {state["name"] for state in made["states"]} == set(State)
        assert len({state["mark"] for state in made["states"]}) == len(State)

    @pytest.mark.parametrize(
        ("state", "waits", "busy"), [("running", False, True), ("queued", False, True), ("running", True, False)]
    )
    def test_is_busy_while_something_moves(self, state, waits, busy):
        dag = Dag("taxi_trips_green", runs=(run("2023-08", state=state, waits=waits),))
        assert grid.grid(["green"], None, {dag.dag_id: dag}, NOW)["is_busy"] is busy

    @pytest.mark.parametrize(("state", "busy"), [("queued", False), ("running", True)])
    def test_is_not_busy_while_runs_of_a_paused_dag_are_queued(self, state, busy):
        dag = Dag("taxi_trips_green", is_paused=True, runs=(run(state=state),))
        assert grid.grid(["green"], None, {dag.dag_id: dag}, NOW)["is_busy"] is busy

    @pytest.mark.parametrize(
        ("run_id", "state", "is_backfill", "has_backfill"),
        [
            ("backfill__2023-08-31T23:59:59+00:00", "running", True, True),
            ("scheduled__2023-08-31T23:59:59+00:00", "running", True, True),
            ("taxi_warehouse_page__2023-09-15T12:00:00.000Z__2023-08", "queued", False, True),
            ("backfill__2023-08-31T23:59:59+00:00", "failed", True, False),
            ("scheduled__2023-08-31T23:59:59+00:00", "running", False, False),
        ],
    )
    def test_knows_of_a_backfill_although_its_runs_only_wait(self, run_id, state, is_backfill, has_backfill):
        facts = {"run_id": run_id, "is_backfill": is_backfill, "waits": state == "running"}
        dag = Dag("taxi_trips_green", runs=(run("2023-08", state=state, **facts),))
        (fleet,) = grid.grid(["green"], None, {dag.dag_id: dag}, NOW)["fleets"]
        assert fleet["has_backfill"] is has_backfill

    def test_has_the_weeks_of_loaded_months_and_of_runs(self):
        weeks = Dag(
            "trips_by_week_green",
            runs=(
                run("2023-01-09", failed=("aggregate",)),
                run("2023-01-16", state="running"),
                run("2023-02-06", state="running", waits=True),
            ),
        )
        dags = {"taxi_trips_green": Dag("taxi_trips_green"), weeks.dag_id: weeks}
        made = grid.grid(["green"], taken({"2023-01": load_of()}, weeks={"2023-01-02": 9}), dags, NOW)
        found = {week["monday"]: (week["state"], week["trips"]) for week in made["fleets"][0]["weeks"]}
        assert found == {
            "2023-01-02": ("counted", 9),
            "2023-01-09": ("failed", None),
            "2023-01-16": ("running", None),
            "2023-01-23": ("not counted", None),
            "2023-01-30": ("not counted", None),
            "2023-02-06": ("not counted", None),
        }

    def test_has_all_months_of_all_fleets(self):
        months = {fleet: grid.months_until(fleet, NOW.date()) for fleet in catalogue.FLEETS}
        full = replace(
            taken(), months={fleet: {month: load_of() for month in found} for fleet, found in months.items()}
        )
        dags = {f"taxi_trips_{fleet}": Dag(f"taxi_trips_{fleet}") for fleet in months}
        made = grid.grid(months, full, dags, NOW)
        assert [fleet["counts"] for fleet in made["fleets"]] == [{"loaded": len(found)} for found in months.values()]


def test_the_grid_never_opens_the_warehouse(monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("the page must never open the warehouse")

    monkeypatch.setattr("duckdb.connect", forbidden)
    grid.grid(["green"], snapshot.read(), {"taxi_trips_green": Dag("taxi_trips_green")}, NOW)


class TestWork:
    """What a poll reads does not grow faster than what it shows."""

    @pytest.fixture
    def poll(self):
        """Make the grid of all fleets, each with one loaded month; the green one's file is in raw/."""
        put_file()
        ledger = {load_of().source_url: editions._Seen("2023-09-14T00:00:00.000000+00:00", True, '"new"', LATER)}
        editions._ledger_path().write_text(json.dumps({url: asdict(seen) for url, seen in ledger.items()}))
        months = {fleet: {"2023-01": load_of()} for fleet in catalogue.FLEETS}
        dags = {grid.months_dag_id(fleet): Dag(grid.months_dag_id(fleet)) for fleet in catalogue.FLEETS}
        return lambda: grid.grid(catalogue.FLEETS, replace(taken(), months=months), dags, NOW)

    def test_raw_is_listed_once_and_not_once_for_each_fleet(self, poll, monkeypatch):
        listed, iterdir = [], Path.iterdir
        monkeypatch.setattr(Path, "iterdir", lambda folder: listed.append(folder) or iterdir(folder))
        assert len(poll()["fleets"]) == 4
        assert len(listed) == 1

    def test_a_months_panel_does_not_list_the_files_of_all_months(self, poll, monkeypatch):
        monkeypatch.setattr(Path, "iterdir", lambda folder: pytest.fail(f"{folder} is listed"))
        assert cell(months={"2023-01": load_of()}).state == State.NEWER_EDITION

    def test_files_that_have_not_changed_are_not_read_again_and_others_are(self, poll, monkeypatch):
        read, read_text = [], Path.read_text
        monkeypatch.setattr(Path, "read_text", lambda file, **given: read.append(file.name) or read_text(file, **given))
        first = poll()
        assert sorted(read) == [".editions.json", "green_tripdata_2023-01.parquet.edition.json"]
        assert poll() == first
        assert len(read) == 2
        put_file(etag='"another"')
        poll()
        assert read[2:] == ["green_tripdata_2023-01.parquet.edition.json"]
