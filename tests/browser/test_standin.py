"""The stand-in's answers have the keys and types of the real ones, so that the page is tested with what it gets."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

from include.nyc_taxi import settings
from include.nyc_taxi.web import grid, resource, uses
from include.nyc_taxi.web.month import FailedTask
from include.nyc_taxi.web.resource import DeclaredUse, PoolTask
from include.nyc_taxi.web.snapshot import Place, Refusal, Setting
from tests.browser.standin import State
from tests.nyc_taxi.test_grid import LOADED, MODIFIED, NOW, load_of, run, taken
from tests.nyc_taxi.test_month_page import FACTS, REFUSED, Links, panel

BY_NAME = ("counts", "seconds", "changes")
"""Objects whose keys are names of the data: only their values have a shape."""


def shapes(value: Any, path: str = "") -> set[tuple[str, str]]:
    """The places in an answer, such as ".fleets[].name", each with the type of what stands there."""
    if isinstance(value, dict):
        named = path.rpartition(".")[2] in BY_NAME
        inner = [shapes(each, f"{path}.{'*' if named else name}") for name, each in value.items()]
        return {(path, "object")}.union(*inner)
    if isinstance(value, list):
        return {(path, "list")}.union(*(shapes(each, f"{path}[]") for each in value))
    kind = {bool: "bool", int: "number", float: "number", str: "text", type(None): "null"}[type(value)]
    return {(path, kind)}


def of_all(answers: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """The shapes of several answers of a route, as JSON has them."""
    return set().union(*(shapes(json.loads(json.dumps(answer))) for answer in answers))


def compare(standin: list[dict[str, Any]], real: list[dict[str, Any]]) -> None:
    """The stand-in's answers have only places and types of the real ones, and all of their places."""
    expected, found = of_all(real), of_all(standin)
    assert found - expected == set(), "the stand-in answers what the back end never does"
    assert {path for path, _ in expected} - {path for path, _ in found} == set(), "the stand-in leaves this out"


def states() -> list[State]:
    return [State(), State(may=False, has_snapshot=False, states={("green", "2023-03"): "running"})]


def test_the_grid() -> None:
    load = load_of(checks=REFUSED)
    contents = {
        "months": {"2023-01": load},
        "refusals": {"2023-03": Refusal(NOW.isoformat(), "another", REFUSED)},
        "weeks": {"2023-01-02": 15_000},
    }
    runs = (run("2023-02"), run("2023-04", "running"))
    weeks = grid.Dag("trips_by_week_green", runs=(run("2023-01-09", "running", run_id="week"),))
    dags = {"taxi_trips_green": grid.Dag("taxi_trips_green", may_trigger=True, runs=runs), weeks.dag_id: weeks}
    viewed = {"taxi_trips_green": grid.Dag("taxi_trips_green", why_not="You may not.")}
    real = [grid.grid(["green"], taken(**contents), dags, NOW), grid.grid(["green"], None, viewed, NOW, "make demo")]
    compare([state.grid() for state in states()], real)


def test_a_month() -> None:
    folder = settings.outputs_dir("green")
    folder.mkdir(parents=True)
    for name in ("manhattan_map_2023-01.png", "manhattan_stats_2023-01.geojson"):
        (folder / name).write_bytes(b"x")
    load = load_of(
        changes={"rows": [60, 70], "etag": [None, "x"]}, unknown_columns=("new",), checks=REFUSED, top_zones=((7, 90),)
    )
    facts = replace(FACTS, seconds={"2023-01": {"load": 1.5}}, failed={"another": [FailedTask("load", 2)]})
    contents = {
        "months": {"2023-01": replace(load, simulated=True), "2022-12": load_of("2022-12")},
        "refusals": {"2023-01": Refusal(NOW.isoformat(), "another", REFUSED)},
        "weeks": {"2023-01-02": 15_000},
    }
    ended = run(ended=LOADED + timedelta(hours=2))
    real = [
        panel(contents=contents, runs=[ended], facts=facts, may_trigger=True),
        panel(contents={"months": {"2023-01": load_of(last_modified=MODIFIED, source_url="/srv/green.parquet")}}),
        panel(why_not="You may not.", runs=[run(state="queued")]),
        panel("2014-01"),
    ]
    asked = [(state, month) for state in states() for month in ("2023-01", "2023-04", "2023-06", "2024-02", "2026-08")]
    compare([state.month("green", month) for state, month in asked], real)


def test_the_resource(tmp_path: Any, hold_open: Any) -> None:
    pid = hold_open(tmp_path / "warehouse.duckdb").pid
    uses.record(uses.WarehouseUse("2023-09-15", "taxi_trips_green", "run1", "load", 1, 0.5, 2.5, True, 7))
    uses.record(uses.WarehouseUse("2023-09-15", "taxi_trips_green", "run2", "load", 1, 0.5, 2.5, True, None))
    uses.record(uses.SiteUse("2023-09-15", "taxi_trips_green", "run1", "download", bytes=10))
    snapshot = replace(
        taken({"2023-01": load_of()}), at=Place("file", "/w.duckdb", (Setting("threads", "2", "default"),))
    )
    pool = [
        PoolTask("taxi_trips_green", "run1", name, is_running=name == "load", pid=pid, since=LOADED)
        for name in ("load", "aggregate")
    ]
    declared, readable = [DeclaredUse("taxi_trips_green", "load", writes=True)], frozenset({"taxi_trips_green"})
    asked = (pool, declared, declared, Links(), readable)
    file = tmp_path / "warehouse.duckdb"
    real = [resource.resource(taken_, file, "https://tlc.test", *asked) for taken_ in (snapshot, None)]
    compare([state.resource() for state in states()], real)
