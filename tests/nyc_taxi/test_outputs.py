"""What the page shows of the outputs: by fleet and year, and the results of requests."""

import json
import os
from datetime import UTC, datetime

import pytest

from include.nyc_taxi import catalogue, settings
from include.nyc_taxi.web import outputs, pages
from include.nyc_taxi.web.outputs import RequestRun, Requests

BASE = "/airflow/nyc-taxi"
CSV = "fleet,borough,start_date,end_date,weekday,hour,num_trips\ngreen,Queens,2023-01-01,2023-01-31,Monday,0,7\n"
REQUEST = {"fleet": "green", "borough": "Queens", "start_date": "2023-01-01", "end_date": "2023-01-31"}
NOW = datetime(2026, 11, 27, 10, tzinfo=UTC)


class Links:
    def dag(self, dag_id):
        return f"/dags/{dag_id}"

    def run(self, dag_id, run_id):
        return f"/dags/{dag_id}/runs/{run_id}"


@pytest.fixture
def put():
    def put_file(path, content="", made=None):
        file = settings.outputs_root() / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        if made:
            os.utime(file, (made, made))

    return put_file


@pytest.fixture
def months(put):
    for month in ("2022-12", "2023-01", "2023-02"):
        put(f"green/manhattan_map_{month}.png")
        put(f"green/manhattan_map_density_{month}.png")
        put(f"green/manhattan_stats_{month}.geojson")
    for name in ("manhattan_map.png", "manhattan_stats.geojson", "trips_by_week.png", "trips_by_week.csv"):
        put(f"green/{name}")


def ask(folder="", page="", readable=None, requests=None):
    may_see = outputs.visible(outputs.dag_ids() if readable is None else readable)
    found = outputs.outputs(BASE, may_see, folder, page, requests, Links())
    return found and json.loads(json.dumps(found))


def run(name, state="success", **values):
    conf = {**REQUEST, "name": name} if name else {}
    return RequestRun(**{"run_id": f"run-{name}", "state": state, "conf": conf, "asked_at": NOW, **values})


class TestMonths:
    def test_the_newest_year_comes_first_with_its_months_newest_first(self, months):
        found = ask("green")
        assert (found["title"], found["page"]) == ("Green taxis", "2023")
        assert [page["name"] for page in found["pages"]] == ["2023", "2022"]
        assert [month["month"] for month in found["months"]] == ["2023-02", "2023-01"]

    def test_another_year_is_shown_if_it_is_asked_for_and_the_newest_if_there_is_none(self, months):
        assert [month["month"] for month in ask("green", "2022")["months"]] == ["2022-12"]
        for page in ("1999", "x", "-1", "9" * 5000):
            assert ask("green", page)["page"] == "2023"

    def test_a_map_and_its_figures_are_one_output_with_a_thumbnail_and_downloads(self, months):
        ((shown,),) = [month["outputs"] for month in ask("green", "2022")["months"]]
        assert (shown["title"], shown["month"]) == ("Manhattan map, December 2022", "2022-12")
        assert shown["url"] == f"{BASE}/outputs/green/manhattan_map_2022-12.png"
        version = pages.find("green/manhattan_map_2022-12.png").version
        assert shown["thumbnail"] == f"{BASE}/thumbnails/green/manhattan_map_2022-12.png?v={version}"
        assert [(file["label"], file["name"]) for file in shown["files"]] == [
            ("PNG", "manhattan_map_2022-12.png"),
            ("PNG per km²", "manhattan_map_density_2022-12.png"),
            ("GeoJSON", "manhattan_stats_2022-12.geojson"),
        ]

    def test_what_belongs_to_no_month_is_shown_with_every_year(self, months):
        for year in ("2022", "2023"):
            assert {shown["title"] for shown in ask("green", year)["whole"]} == {"Manhattan map", "Trips by week"}

    def test_figures_without_a_picture_have_no_thumbnail(self, put):
        put("green/airports_2023-01.csv")
        ((shown,),) = [month["outputs"] for month in ask("green")["months"]]
        assert (shown["thumbnail"], shown["files"][0]["label"]) == (None, "CSV")

    def test_of_many_outputs_without_a_month_the_newest_are_shown_and_the_others_counted(self, put):
        for number in range(outputs.AT_ONCE + 5):
            put(f"green/day-{number:03}.csv", made=1_700_000_000 + number)
        found = ask("green")
        assert (len(found["whole"]), found["more"]) == (outputs.AT_ONCE, 5)
        assert found["whole"][0]["title"] == f"Day-{outputs.AT_ONCE + 4:03}"


class TestFolders:
    def test_fleets_come_first_in_the_catalogues_order(self, put):
        for path in ("zoo/a.csv", "requests/r.csv", "green/a.csv", "yellow/a.csv", "requests/deeper/b.csv", "top.csv"):
            put(path)
        names = [folder["name"] for folder in ask()["folders"]]
        assert names == ["yellow", "green", "requests", ".", "requests/deeper", "zoo"]
        assert ask()["folder"] == "yellow"
        for name in names:
            found = ask(name)
            assert found["folder"] == name
            assert found["whole"] or found["requests"]["results"]

    def test_a_folder_without_an_output_is_none(self, put):
        put("green/notes.txt")
        put("green/.hidden.csv")
        found = ask()
        assert (found["folders"], found["folder"], found["months"]) == ([], None, [])

    @pytest.mark.parametrize("folder", ["purple", "..", "../raw", "/etc", "green/..", "green/", "gr\0een"])
    def test_there_is_no_other_folder(self, put, folder):
        put("green/a.csv")
        put("../raw/a.csv")
        assert ask(folder) is None

    def test_links_are_not_followed_out_of_the_outputs_folder(self, put, tmp_path):
        put("green/a.csv")
        (tmp_path / "secret").mkdir()
        (tmp_path / "secret/s.csv").write_text("secret")
        (settings.outputs_root() / "linked").symlink_to(tmp_path / "secret")
        assert [folder["name"] for folder in ask()["folders"]] == ["green"]
        assert ask("linked") is None


class TestRights:
    def test_a_user_sees_the_outputs_of_the_dags_that_the_user_may_read(self, months, put):
        put("yellow/manhattan_map_2023-01.png")
        put("requests/r.csv", CSV)
        put("others/a.csv")
        assert [folder["name"] for folder in ask(readable=[])["folders"]] == ["others"]
        assert [folder["name"] for folder in ask(readable=["taxi_trips_yellow"])["folders"]] == ["yellow", "others"]
        assert ask("green", readable=["taxi_trips_yellow"]) is None
        assert ask("requests", readable=["taxi_trips_yellow"]) is None

    def test_who_may_read_only_the_weeks_sees_no_maps(self, months):
        found = ask("green", readable=["trips_by_week_green"])
        assert [shown["title"] for shown in found["whole"]] == ["Trips by week"]
        assert (found["months"], found["pages"]) == ([], [])

    def test_every_fleets_outputs_have_a_dag_to_ask_about(self):
        for fleet in catalogue.FLEETS:
            names = (
                "manhattan_map.png",
                "trips_by_week.csv",
                "trips_at_airports_2023-01.png",
                "own.csv",
                "deeper/own.csv",
            )
            for name in names:
                assert outputs.makers(f"{fleet}/{name}") <= outputs.dag_ids()
                assert outputs.makers(f"{fleet}/{name}")

    def test_a_chart_of_marts_is_seen_by_those_who_may_read_its_dag(self):
        assert outputs.makers("green/trips_at_airports_2023-01.png") == {"trips_marts_green"}
        assert outputs.makers("all_fleets/market_share_2023-01.csv") == {f"trips_marts_{x}" for x in catalogue.FLEETS}
        assert outputs.makers("all_fleets/market_share_2023-01.csv") <= outputs.dag_ids()

    def test_the_documentation_of_dbt_is_linked_once_it_is_written(self):
        assert ask()["dbt_docs"] is None
        settings.dbt_docs().parent.mkdir(parents=True)
        settings.dbt_docs().touch()
        assert ask()["dbt_docs"] == "/airflow/nyc-taxi/dbt"


class TestRequests:
    def test_a_result_says_what_was_asked_when_and_by_which_run(self, put):
        put("requests/queens.csv", CSV)
        put("requests/queens.png")
        found = ask("requests", requests=Requests([run("queens", by="ada")], True, None))["requests"]
        (shown,) = found["results"]
        assert (shown["title"], shown["request"]) == ("queens", REQUEST)
        assert shown["run"] == {
            "run_id": "run-queens",
            "url": "/dags/adhoc_request/runs/run-queens",
            "asked_at": NOW.isoformat(),
            "by": "ada",
        }
        assert shown["thumbnail"]
        assert (found["dag_url"], found["may"], found["unfinished"]) == ("/dags/adhoc_request", True, [])

    def test_a_request_without_a_result_is_shown_with_its_state(self):
        runs = [run("b", "running"), run("a", "failed"), run("", "failed", conf={"name": 7}, run_id="odd")]
        found = ask(requests=Requests(runs, False, "no right"))
        assert found["folder"] == "requests"
        shown = found["requests"]["unfinished"]
        assert [(each["name"], each["state"]) for each in shown] == [("b", "running"), ("a", "failed"), ("7", "failed")]
        assert [each["request"] for each in shown] == [REQUEST, REQUEST, None]
        assert found["requests"]["why_not"] == "no right"

    def test_of_requests_with_one_name_the_newest_counts(self):
        newest_first = [run("a", "running"), run("a", "success"), run("a", "failed"), run("b"), run("b", "failed")]
        shown = ask("requests", requests=Requests(newest_first, True, None))["requests"]["unfinished"]
        assert [each["state"] for each in shown] == ["running"]

    def test_a_result_without_its_run_or_with_a_damaged_file_is_shown_without_them(self, put):
        put("requests/old.csv", CSV)
        put("requests/damaged.csv", "\0,\x1f\n\n")
        put("requests/empty.csv")
        put("requests/endless.csv", "x" * 3_000_000)
        put("requests/alone.png")
        shown = {
            each["title"]: each for each in ask("requests", requests=Requests([], True, None))["requests"]["results"]
        }
        assert shown["old"]["request"] == REQUEST
        assert all(each["run"] is None for each in shown.values())
        assert [name for name, each in shown.items() if each["request"]] == ["old"]
        assert len(shown) == 5

    def test_results_come_in_pages_newest_first(self, put):
        count = outputs.AT_ONCE * 2 + 1
        for number in range(count):
            put(f"requests/r-{number:03}.csv", CSV, made=1_700_000_000 + number)
        pages_of = {
            page: ask("requests", page)["requests"]["results"] for page in ("", "1", "2", "3", "4", "²", "1" * 5000)
        }
        assert [len(results) for results in pages_of.values()] == [48, 48, 48, 1, 48, 48, 48]
        assert pages_of[""][0]["title"] == f"r-{count - 1:03}"
        assert pages_of["3"][0]["title"] == "r-000"
        assert [page["title"] for page in ask("requests")["pages"]] == ["page 1", "page 2", "page 3"]


def test_ten_thousand_outputs_cost_as_many_file_reads_as_one_page(put, monkeypatch):
    for year in range(2000, 2026):
        for month in range(1, 13):
            put(f"green/manhattan_map_{year}-{month:02}.png")
    for number in range(500):
        put(f"requests/r-{number}.csv", CSV)
    opened = []
    monkeypatch.setattr(pages, "open_output", lambda path: opened.append(path))
    assert len(json.dumps(ask("green"))) < 20_000
    assert opened == []
    ask("requests")
    assert len(opened) <= outputs.AT_ONCE
