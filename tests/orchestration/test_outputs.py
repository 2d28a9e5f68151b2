"""What the page's outputs read from Airflow's metadata database, after real runs of the DAGs."""

import pytest

from include.orchestration import outputs, page
from tests.dags.conftest import dag_bag, metadata_database, no_pauses, simulator  # noqa: F401
from tests.dags.running import run
from tests.orchestration.test_page import MONTHS, REPORT, ask, no_runs  # noqa: F401

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("metadata_database", "no_pauses", "no_runs")]
REQUESTS = "adhoc_request"
READER = page.Rights(frozenset({MONTHS, REQUESTS}), frozenset())


def test_a_fleets_map_and_a_requests_result_are_shown_with_the_run_that_made_it(dag_bag, simulator, ask):  # noqa: F811
    assert str(run(dag_bag.dags[MONTHS], "2023-01-01").state) == "success"
    done = run(dag_bag.dags[REQUESTS], "2023-01-01", **REPORT)
    assert str(done.state) == "success"
    failed = run(dag_bag.dags[REQUESTS], "2023-01-02", **REPORT | {"name": "not-loaded", "end_date": "2023-02-01"})
    green = ask(outputs.outputs_data, READER, "green", "")
    ((shown,),) = [month["outputs"] for month in green["months"]]
    assert [file["label"] for file in shown["files"]] == ["PNG", "GeoJSON"]
    found = ask(outputs.outputs_data, READER, "requests", "")["requests"]
    (result,) = found["results"]
    assert (result["title"], result["run"]["run_id"]) == (REPORT["name"], done.run_id)
    assert result["request"] == {name: value for name, value in REPORT.items() if name != "name"}
    (unfinished,) = found["unfinished"]
    assert (unfinished["name"], unfinished["state"], unfinished["run_id"]) == ("not-loaded", "failed", failed.run_id)
    assert unfinished["asked_at"]
    assert (found["may"], found["why_not"]) == (False, page.MAY_NOT)


def test_requests_are_hidden_from_a_user_who_may_not_read_their_dag(dag_bag, simulator, ask):  # noqa: F811
    run(dag_bag.dags[REQUESTS], "2023-01-01", **REPORT)
    nobody = page.Rights(frozenset({MONTHS}), frozenset())
    assert ask(outputs.requests, nobody) is None
    assert "requests" not in [folder["name"] for folder in ask(outputs.outputs_data, nobody, "", "")["folders"]]
    assert ask(outputs.outputs_data, nobody, "requests", "") is None


def test_requests_are_found_newest_first(dag_bag, simulator, ask):  # noqa: F811
    for day in range(1, 4):
        run(dag_bag.dags[REQUESTS], f"2023-01-0{day}", **REPORT | {"name": f"report-{day}"})
    found = ask(outputs.requests, READER)
    assert [each.name for each in found.runs] == ["report-3", "report-2", "report-1"]
    assert all(each.asked_at for each in found.runs)
