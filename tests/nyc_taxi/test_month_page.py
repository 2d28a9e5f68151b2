"""The data of the panel about one month."""

import json
import shlex
from dataclasses import replace
from datetime import timedelta

import pytest

from include.nyc_taxi import settings
from include.nyc_taxi.errors import MonthError
from include.nyc_taxi.months import Month
from include.nyc_taxi.web import month, outputs
from include.nyc_taxi.web.grid import Dag
from include.nyc_taxi.web.month import Facts, FailedTask
from include.nyc_taxi.web.snapshot import Check, Refusal
from tests.nyc_taxi.test_grid import LOADED, NOW, load_of, run, taken


class Links:
    """Addresses that say what they were made of."""

    def dag(self, dag_id):
        return f"/{dag_id}"

    def run(self, dag_id, run_id):
        return f"/{dag_id}/{run_id}"

    def task(self, dag_id, run_id, task_id):
        return f"/{dag_id}/{run_id}/{task_id}"

    def log(self, dag_id, run_id, task_id, attempt):
        return f"/{dag_id}/{run_id}/{task_id}/{attempt}"


FACTS = Facts(Links(), "/nyc-taxi", 3)
REFUSED = (
    Check("rows_as_a_year_before", "error", 0.5, 0.9, "90 % fewer rows"),
    Check("unknown_zone", "warn", 0, 0.5, "half of the trips"),
    Check("pickup_outside_month", "warn", 0.05, 0.0),
)


def panel(name="2023-01", contents=None, runs=(), facts=FACTS, **dag):
    snapshot = taken(**(contents or {}))
    made = month.month_page(
        "green", Month(name), snapshot, Dag("taxi_trips_green", runs=tuple(runs), **dag), facts, NOW
    )
    assert json.loads(json.dumps(made)) == made
    return made


def test_of_a_month_that_is_not_loaded_has_no_load_but_all_keys_of_one_that_is():
    empty, full = panel(), panel(contents={"months": {"2023-01": load_of()}})
    assert empty.keys() == full.keys()
    assert (empty["load"], empty["checks"], empty["history"], empty["map_url"]) == (None, [], [], None)
    assert empty["inputs"][0]["url"].endswith("/trip-data/green_tripdata_2023-01.parquet")


def test_says_which_edition_is_loaded_and_what_it_changed():
    load = load_of(changes={"rows": [60, 70]}, unknown_columns=("new",))
    made = panel(contents={"months": {"2023-01": load}})["load"]
    assert made["changes"] == {"rows": [60, 70]}
    assert (made["rows"], made["etag"], made["unknown_columns"]) == (68_211, '"9051137bd2a7"', ["new"])


def test_has_neighbours_within_the_fleets_months_only():
    assert (panel("2023-01")["previous"], panel("2023-01")["next"]) == ("2022-12", "2023-02")
    first = month.catalogue.fleet("green").first_month
    assert panel(first)["previous"] is None
    assert panel("2023-08")["next"] is None
    with pytest.raises(MonthError, match="first month"):
        panel(first.previous)


def test_shows_each_rule_with_its_limit_unit_and_reason_the_broken_ones_first():
    checks = panel(contents={"months": {"2023-01": load_of(checks=tuple(reversed(REFUSED)))}})["checks"]
    assert [check["rule"] for check in checks] == ["rows_as_a_year_before", "unknown_zone", "pickup_outside_month"]
    assert all(check["reason"] and check["unit"] for check in checks)
    assert [check["accepted"] for check in checks] == [True, False, False]
    assert [check["passed"] for check in checks] == [False, False, True]


def test_shows_a_rule_that_no_longer_exists():
    (check,) = panel(contents={"months": {"2023-01": load_of(checks=(Check("gone", "warn", 1, 0.5),))}})["checks"]
    assert check["reason"] == "This rule is no longer applied."


def test_has_no_number_that_browsers_cannot_read():
    checks = (Check("rows_as_a_year_before", "warn", 1, float("inf"), "no rows a year before"),)
    made = panel(contents={"months": {"2023-01": load_of(checks=checks)}})
    assert json.dumps(made, allow_nan=False)
    assert (made["checks"][0]["value"], made["checks"][0]["passed"]) == (None, False)


def test_of_a_refused_edition_has_the_broken_rules_and_the_command_that_accepts_it():
    refusals = {"2023-01": Refusal(NOW.isoformat(), "another", REFUSED)}
    made = panel(contents={"months": {"2023-01": load_of()}, "refusals": refusals}, runs=[run()])
    assert made["state"] == "refused"
    assert [check["rule"] for check in made["refusal"]["rules"]] == ["rows_as_a_year_before", "unknown_zone"]
    *command, conf = shlex.split(made["commands"]["accept"])
    assert command == ["airflow", "dags", "trigger", "taxi_trips_green", "--conf"]
    assert json.loads(conf) == {"month": "2023-01", "accept": True}


def test_of_an_edition_that_nobody_may_accept_has_no_such_command():
    (rule,) = [rule for rule in month.rules.MONTH_RULES if not rule.can_be_accepted]
    refusal = Refusal(NOW.isoformat(), "another", (Check(rule.name, "error", 0, 1.0, "lost rows"),))
    assert panel(contents={"refusals": {"2023-01": refusal}}, runs=[run()])["commands"]["accept"] is None


def test_has_the_history_of_the_36_months_before():
    names = [Month("2019-01")]
    while names[-1] < "2023-02":
        names.append(names[-1].next)
    facts = replace(FACTS, seconds={"2023-01": {"load": 1.5, "map": 2.0}})
    made = panel(contents={"months": {name: load_of(name) for name in names}}, facts=facts)
    shown = [past["month"] for past in made["history"]]
    assert (shown[0], shown[-1], len(shown)) == ("2020-01", "2023-01", 37)
    assert made["history"][-1]["seconds"] == {"load": 1.5, "map": 2.0}
    assert made["history"][0]["seconds"] == {}


def test_has_the_weeks_that_overlap_the_month_and_the_zones_by_name():
    weeks = {"2022-12-26": 1, "2023-01-09": 2, "2023-01-30": 3, "2023-02-06": 4}
    snapshot = replace(
        taken(months={"2023-01": load_of(top_zones=((7, 90), (8, 80)))}, weeks=weeks), zones={7: "Astoria"}
    )
    made = month.month_page("green", Month("2023-01"), snapshot, Dag("taxi_trips_green"), FACTS, NOW)
    assert [week["monday"] for week in made["weeks"]] == ["2022-12-26", "2023-01-09", "2023-01-30"]
    assert made["top_zones"] == [
        {"zone_id": 7, "zone": "Astoria", "trips": 90},
        {"zone_id": 8, "zone": "Zone 8", "trips": 80},
    ]


def test_has_its_runs_the_newest_first_and_the_logs_of_failed_tasks():
    runs = [
        run(run_id="older"),
        run(run_id="newer", after=timedelta(hours=2)),
        run("2023-02", run_id="of another month"),
    ]
    facts = replace(FACTS, failed={"newer": [FailedTask("load", 4)]})
    newer, older = panel(runs=runs, facts=facts)["runs"]
    assert (newer["run_id"], newer["url"]) == ("newer", "/taxi_trips_green/newer")
    assert newer["failed"] == [{"task_id": "load", "try": 4, "log_url": "/taxi_trips_green/newer/load/4"}]
    assert newer["started"] == (LOADED + timedelta(hours=2)).isoformat(timespec="seconds")
    assert (older["run_id"], older["failed"]) == ("older", [])


def test_links_to_the_outputs_that_exist():
    folder = settings.outputs_dir("green")
    folder.mkdir(parents=True)
    (folder / "manhattan_map_2023-01.png").write_bytes(b"png")
    made = panel()
    assert made["map_url"].startswith("/nyc-taxi/files/green/manhattan_map_2023-01.png?v=")
    assert made["stats_url"] is None
    (output,) = made["outputs"]
    assert output["url"] == "/nyc-taxi/outputs/green/manhattan_map_2023-01.png"


def test_has_another_address_for_a_map_that_was_drawn_again_so_that_an_open_page_shows_it():
    picture = settings.outputs_dir("green") / "manhattan_map_2023-01.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"png")
    before = panel()["map_url"]
    assert panel()["map_url"] == before
    picture.write_bytes(b"another png")
    assert panel()["map_url"] != before


def test_lists_the_charts_of_the_marts_for_those_who_may_read_the_dag_that_draws_them():
    folder = settings.outputs_dir("green")
    folder.mkdir(parents=True)
    names = ["trips_at_airports_2023-01.csv", "trips_at_airports_2023-01.png"]
    for name in names:
        (folder / name).write_bytes(b"x")
    assert [output["label"] for output in panel()["outputs"]] == names
    others = replace(FACTS, may_see=outputs.visible({"taxi_trips_green"}))
    assert panel(facts=others)["outputs"] == []


@pytest.mark.parametrize(
    ("line", "command"), [(3, ["airflow", "backfill", "create"]), (2, ["airflow", "dags", "backfill"])]
)
def test_has_this_lines_command_that_loads_the_month_again(line, command):
    words = shlex.split(panel(facts=replace(FACTS, line=line))["commands"]["backfill"])
    assert words[:3] == command
    assert words.count("2023-01-01T00:00:00+00:00") == 2


def test_the_commands_of_the_buttons_do_what_these_do():
    """They clear the newest run; a new run if there is none, or one that 2.11 would not run again, or that accepts."""
    by_hand = run(run_id="manual__it's", date=LOADED)
    backfill = run(run_id="scheduled__2023-01-01", date=LOADED, is_backfill=True)

    def commands(line, *runs):
        failed = {each.run_id: [FailedTask("load", 1)] for each in runs if each.state == "failed"}
        made = panel(runs=runs, facts=replace(FACTS, line=line, failed=failed))["commands"]
        return [made[name] and shlex.split(made[name])[1:] for name in ("again", "failed")]

    trigger = ["dags", "trigger", "taxi_trips_green", "--conf", '{"month": "2023-01"}']
    again = [*trigger[:-1], '{"month": "2023-01", "again": true}']
    date = LOADED.isoformat()
    cleared = ["tasks", "clear", "taxi_trips_green", "--start-date", date, "--end-date", date]
    by_id = ["dags", "clear", "taxi_trips_green", "--run-id"]
    assert commands(3) == commands(2) == [again, None]
    assert commands(2, backfill) == [again, trigger]
    accepting = run(run_id="manual__accepting", date=LOADED, state="success", accepts=True)
    assert commands(3, accepting) == commands(2, accepting) == [again, None]
    assert commands(2, by_hand) == [[*cleared, "--yes"], [*cleared, "--only-failed", "--yes"]]
    for each in (backfill, by_hand):
        assert commands(3, each) == [[*by_id, each.run_id, "--yes"], [*by_id, each.run_id, "--only-failed", "--yes"]]
    assert commands(3, by_hand, run(run_id="later", state="success", after=timedelta(hours=2)))[1] is None


def test_offers_no_repair_of_a_run_that_was_cancelled_because_its_skipped_tasks_would_stay_skipped():
    cancelled = run(cancelled=True)
    facts = replace(FACTS, failed={cancelled.run_id: [FailedTask("download", 1)]})
    made = panel(runs=[cancelled], facts=facts)
    assert made["commands"]["failed"] is None
    assert cancelled.run_id in made["commands"]["again"]
    assert made["runs"][0]["failed"][0]["task_id"] == "download"


def test_never_links_to_anything_but_http():
    loads = {"2023-01": load_of(source_url="javascript:alert(1)")}
    assert panel(contents={"months": loads})["inputs"][0]["url"] is None
