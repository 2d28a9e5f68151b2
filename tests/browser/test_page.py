"""The page "Taxi warehouse" in a real browser, as a user works with it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.chromium import violations

if TYPE_CHECKING:
    from tests.browser.standin import State


def cell(page: Any, fleet: str, month: str) -> Any:
    return page.locator(f'article[aria-label="{fleet}"] [data-month="{month}"]')


def opened(page: Any, site: str, address: str = "") -> None:
    page.goto(site + address)
    page.locator("h2" if re.search(r"\d{4}", address) else "h1").first.wait_for()


def sent(state: State, ending: str) -> list[Any]:
    return [body for method, path, body in state.asked if method != "GET" and path.endswith(ending)]


def selected(page: Any) -> list[str]:
    return page.locator('[aria-selected="true"]').evaluate_all("cells => cells.map(cell => cell.dataset.month).sort()")


def focused(page: Any) -> str | None:
    return page.evaluate("document.querySelector('[data-env]').shadowRoot.activeElement?.dataset.month ?? null")


def test_the_grid_has_a_labelled_cell_for_each_month_of_each_fleet(page: Any, site: str) -> None:
    opened(page, site)
    assert (
        cell(page, "Green taxis", "2023-01")
        .get_attribute("aria-label")
        .startswith("January 2023, loaded, 68,211 trips")
    )
    assert (
        cell(page, "Green taxis", "2024-02")
        .get_attribute("aria-label")
        .startswith("February 2024, failed, failed: load")
    )
    assert page.locator("article table caption").count() == 4
    assert cell(page, "Green taxis", "2013-12").count() == 0
    marks = {cell(page, "Green taxis", month).inner_text() for month in ("2023-01", "2023-04", "2024-02", "2026-11")}
    assert len(marks) == 4, "states must differ by more than their colour"


def test_a_state_in_the_legend_filters_lists_and_selects_its_months(page: Any, site: str) -> None:
    opened(page, site)
    page.get_by_role("button", name=re.compile("^published")).click()
    found = page.locator('article[aria-label="Green taxis"] .found')
    assert found.inner_text().startswith("2 months: 2026-08 to 2026-09")
    found.get_by_role("button", name="Select them").click()
    assert selected(page) == ["2026-08", "2026-09"]


def test_arrows_move_and_shift_selects_and_escape_ends_it(page: Any, site: str) -> None:
    opened(page, site)
    cell(page, "Green taxis", "2023-01").focus()
    page.keyboard.press("ArrowUp")
    assert focused(page) == "2024-01", "the newest year is on top"
    page.keyboard.press("ArrowDown")
    for _ in range(2):
        page.keyboard.press("Shift+ArrowRight")
    assert selected(page) == ["2023-01", "2023-02", "2023-03"]
    assert page.get_by_role("status").inner_text() == "3 months selected: 2023-01 to 2023-03."
    page.keyboard.press("Escape")
    assert selected(page) == []
    assert page.locator('article[aria-label="Green taxis"] [tabindex="0"][data-month]').count() == 1


def test_enter_opens_a_month_and_escape_leads_back_to_its_cell(page: Any, site: str) -> None:
    opened(page, site)
    cell(page, "Green taxis", "2023-04").focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Green taxis, April 2023").wait_for()
    assert page.url.endswith("#/green/2023-04")
    page.keyboard.press("Escape")
    cell(page, "Green taxis", "2023-04").wait_for()
    assert focused(page) == "2023-04"


def test_months_are_selected_by_dragging_and_with_control(page: Any, site: str) -> None:
    opened(page, site)
    cell(page, "Green taxis", "2023-01").hover()
    page.mouse.down()
    cell(page, "Green taxis", "2023-02").hover()
    cell(page, "Green taxis", "2023-03").hover()
    page.mouse.up()
    cell(page, "Green taxis", "2023-05").click(modifiers=["Control"])
    assert selected(page) == ["2023-01", "2023-02", "2023-03", "2023-05"]


def test_a_backfill_says_what_will_run_and_then_shows_how_far_it_is(page: Any, site: str, state: State) -> None:
    opened(page, site)
    cell(page, "Green taxis", "2024-01").click(modifiers=["Control"])
    cell(page, "Green taxis", "2024-03").click(modifiers=["Shift"])
    page.get_by_role("button", name="Backfill the selection").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("1 month will run: 2024-02.").wait_for()
    assert "2 of 3" in dialog.inner_text()
    dialog.get_by_label("all of them again").check()
    dialog.get_by_text("3 months will run: 2024-01 to 2024-03.").wait_for()
    dialog.get_by_role("button", name="Start").click()
    page.get_by_text("0 of 3 ended").wait_for()
    (body,) = sent(state, "/backfills")
    assert body == {
        "dag_id": "taxi_trips_green",
        "from_date": "2024-01-01T00:00:00Z",
        "to_date": "2024-03-01T00:00:00Z",
        "reprocess_behavior": "completed",
        "dag_run_conf": {},
    }
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the backfill").click()
    page.get_by_text("Backfills under way").wait_for(state="hidden")


def under_way(state: State, first: str, last: str) -> None:
    """A backfill of green months, of which Airflow has one run so far."""
    dates = {"from_date": f"{first}-01T00:00:00Z", "to_date": f"{last}-01T00:00:00Z"}
    about = {"id": 7, "dag_id": "taxi_trips_green", "completed_at": None, "created_at": "2026-11-27T10:00:00Z"}
    state.backfills.append(about | dates)
    state.runs = [{"dag_run_id": f"backfill__{first}", "state": "running"}]


def test_a_backfill_that_only_waits_for_the_tlc_is_shown_and_can_be_cancelled(
    page: Any, site: str, state: State
) -> None:
    under_way(state, "2026-10", "2026-11")
    opened(page, site)
    page.get_by_text("0 of 1 ended").wait_for()
    assert "not published" in cell(page, "Green taxis", "2026-10").get_attribute("aria-label")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the backfill").click()
    page.get_by_text("Backfills under way").wait_for(state="hidden")


def test_the_button_that_cancels_keeps_the_focus_when_the_counts_change(page: Any, site: str, state: State) -> None:
    under_way(state, "2024-01", "2024-02")
    state.states["green", "2024-02"] = "running"
    opened(page, site)
    page.get_by_role("button", name="Cancel").focus()
    state.runs[0]["state"] = "success"
    page.get_by_text("1 of 1 ended").wait_for()
    shown = page.evaluate("document.querySelector('[data-env]').shadowRoot.activeElement?.textContent ?? null")
    assert shown == "Cancel"


def test_where_airflow_cannot_create_a_backfill_runs_are_started_instead(page: Any, site: str, state: State) -> None:
    page.expected_errors.append("503")
    state.cannot_backfill = True
    opened(page, site)
    cell(page, "Green taxis", "2026-08").click(modifiers=["Control"])
    cell(page, "Green taxis", "2026-09").click(modifiers=["Shift"])
    page.get_by_role("button", name="Backfill the selection").click()
    page.get_by_role("dialog").get_by_role("button", name="Start").click()
    page.get_by_text("Backfill of 2 months of Green taxis: started.").wait_for()
    assert [body["conf"] for body in sent(state, "/dagRuns")] == [{"month": "2026-08"}, {"month": "2026-09"}]


def test_airflow_2_starts_a_run_with_its_month_for_each_month(page: Any, site: str, state: State) -> None:
    state.airflow = 2
    opened(page, site)
    cell(page, "Green taxis", "2026-08").click(modifiers=["Control"])
    cell(page, "Green taxis", "2026-09").click(modifiers=["Shift"])
    page.get_by_role("button", name="Backfill the selection").click()
    page.get_by_role("dialog").get_by_role("button", name="Start").click()
    page.get_by_text("Backfill of 2 months of Green taxis: started.").wait_for()
    assert [body["conf"] for body in sent(state, "/api/v1/dags/taxi_trips_green/dagRuns")] == [
        {"month": "2026-08"},
        {"month": "2026-09"},
    ]
    assert not any("logical_date" in body for body in sent(state, "/dagRuns"))


def test_of_many_runs_it_says_how_many_were_started_before_one_could_not(page: Any, site: str, state: State) -> None:
    page.expected_errors.append("400")
    state.airflow, state.cannot_run = 2, "2026-09"
    opened(page, site)
    cell(page, "Green taxis", "2026-08").click(modifiers=["Control"])
    cell(page, "Green taxis", "2026-09").click(modifiers=["Shift"])
    page.get_by_role("button", name="Backfill the selection").click()
    page.get_by_role("dialog").get_by_role("button", name="Start").click()
    page.get_by_text("only 1 of 2 runs could be started. The run of 2026-09 could not, because No more runs").wait_for()
    assert selected(page) == ["2026-08", "2026-09"]


def test_a_month_that_is_under_way_is_not_started_a_second_time(page: Any, site: str, state: State) -> None:
    state.airflow = 2
    state.states["green", "2026-08"] = "queued"
    opened(page, site)
    cell(page, "Green taxis", "2026-08").click(modifiers=["Control"])
    cell(page, "Green taxis", "2026-09").click(modifiers=["Shift"])
    page.get_by_role("button", name="Backfill the selection").click()
    page.get_by_role("dialog").get_by_text("1 month will run: 2026-09.").wait_for()


def test_what_failed_runs_again_and_its_log_is_linked(page: Any, site: str, state: State) -> None:
    opened(page, site, "#/green/2024-02")
    assert (
        page.get_by_role("link", name="load, try 2: log")
        .get_attribute("href")
        .endswith("/runs/scheduled__2024-02/tasks/load")
    )
    page.get_by_role("button", name="Run what failed").click()
    page.get_by_role("dialog").get_by_role("button", name="Run what failed").click()
    page.get_by_text("Run what failed: started.").wait_for()
    assert sent(state, "/clearTaskInstances") == [
        {"dry_run": False, "dag_run_id": "scheduled__2024-02", "only_failed": True, "reset_dag_runs": True}
    ]


def test_a_run_that_was_started_again_elsewhere_is_not_cleared(page: Any, site: str, state: State) -> None:
    opened(page, site, "#/green/2024-02")
    state.run_state = "running"
    page.get_by_role("button", name="Run what failed").click()
    page.get_by_role("dialog").get_by_role("button", name="Run what failed").click()
    page.get_by_text("not done, because the run scheduled__2024-02 is running").wait_for()
    assert sent(state, "/clearTaskInstances") == []


def test_a_run_that_accepted_an_edition_is_not_repeated(page: Any, site: str, state: State) -> None:
    state.accepted = {("green", "2023-01")}
    opened(page, site, "#/green/2023-01")
    page.get_by_role("button", name="Run again").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("""{"month":"2023-01","again":true}""").wait_for()
    dialog.get_by_role("button", name="Run again").click()
    page.get_by_text("Run again: started.").wait_for()
    assert [body["conf"] for body in sent(state, "/dagRuns")] == [{"month": "2023-01", "again": True}]
    assert sent(state, "/clear") == []


def test_accepting_an_edition_names_the_broken_rule_first(page: Any, site: str, state: State) -> None:
    opened(page, site, "#/green/2023-06")
    page.get_by_role("button", name="Accept this edition").click()
    dialog = page.get_by_role("dialog")
    assert "rows_against_year_before" in dialog.inner_text()
    assert sent(state, "/dagRuns") == []
    dialog.get_by_role("button", name="Accept and load").click()
    page.get_by_text("Accept and load: started.").wait_for()
    assert [body["conf"] for body in sent(state, "/dagRuns")] == [{"month": "2023-06", "accept": True}]


def test_the_map_tells_zones_by_pointer_and_by_keyboard(page: Any, site: str) -> None:
    opened(page, site, "#/green/2023-01")
    zones = page.locator("svg.map path[role=img]")
    zones.first.wait_for()
    assert zones.count() == 69
    page.locator("svg.map").scroll_into_view_if_needed()
    shown = zones.evaluate_all(  # a zone whose middle lies within it
        "paths => paths.findIndex(path => { const box = path.getBoundingClientRect();"
        " return path.getRootNode().elementFromPoint(box.x + box.width / 2, box.y + box.height / 2) === path; })"
    )
    zones.nth(shown).hover()
    reading = page.locator(".reading")
    assert reading.inner_text().startswith(zones.nth(shown).get_attribute("aria-label"))
    zones.first.focus()
    page.keyboard.press("ArrowDown")
    assert "pickup" in reading.inner_text()
    assert not reading.inner_text().startswith(zones.first.get_attribute("aria-label"))
    before = page.locator("svg.map").get_attribute("viewBox")
    page.keyboard.press("+")
    assert page.locator("svg.map").get_attribute("viewBox") != before
    page.keyboard.press("0")
    assert page.locator("svg.map").get_attribute("viewBox") == before


@pytest.mark.parametrize("case", ["viewer", "paused"])
def test_without_the_right_or_with_a_paused_dag_there_are_reasons_in_place_of_buttons(
    page: Any, site: str, state: State, case: str
) -> None:
    state.may, state.paused = case != "viewer", case == "paused"
    reason = "You have no right" if case == "viewer" else "unpausing it starts the catch-up"
    opened(page, site, "#/green/2024-02")
    assert reason in page.locator("[data-test=why-not]").inner_text()
    assert page.get_by_role("button", name=re.compile("^(Run|Accept)")).count() == 0
    page.get_by_role("button", name="All months").click()
    cell(page, "Green taxis", "2024-02").click(modifiers=["Control"])
    assert reason in page.locator(".selection").inner_text()
    assert page.get_by_role("button", name="Backfill").count() == 0


def test_a_failed_request_keeps_what_was_read_and_says_so(page: Any, site: str, state: State) -> None:
    page.expected_errors.append("500")
    opened(page, site)
    cell(page, "Green taxis", "2023-01").wait_for()
    state.broken = True
    page.get_by_role("link", name="Resource").click()
    page.get_by_text("the database is locked (500)").wait_for()
    page.get_by_role("link", name="Months", exact=True).click()
    page.get_by_text("the database is locked (500). What is shown is from 2026-11-27 10:00 UTC").wait_for()
    cell(page, "Green taxis", "2023-01").wait_for()
    state.broken = False
    page.get_by_role("button", name="Try again").click()
    page.get_by_text("the database is locked").wait_for(state="hidden")


def test_without_a_snapshot_the_page_says_what_to_run(page: Any, site: str, state: State) -> None:
    state.has_snapshot = False
    opened(page, site)
    page.get_by_text("make demo").wait_for()


def grids(page: Any, state: State, *, after: int) -> int:
    """How often the page has asked for the grid, `after` seconds of its clock later."""
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(300)  # until it has drawn what it was answered, and planned the next time
    page.clock.run_for(after * 1000)
    page.wait_for_timeout(300)  # an answer to what should not have been asked
    page.wait_for_load_state("networkidle")
    return sum(path.endswith("/data/grid") for _, path, _ in state.asked)


def test_polling_is_quick_only_while_something_runs_and_once_more_after_it(page: Any, site: str, state: State) -> None:
    state.states["green", "2024-02"] = "running"
    page.clock.install()
    opened(page, site)
    cell(page, "Green taxis", "2023-01").wait_for()
    assert grids(page, state, after=6) == 2
    state.states.clear()
    assert grids(page, state, after=6) == 3
    assert grids(page, state, after=6) == 4, "what was asked together with the end may be from before it"
    assert grids(page, state, after=6) == 4
    assert grids(page, state, after=61) == 5


def test_a_hidden_page_asks_for_nothing_until_it_is_shown_again(page: Any, site: str, state: State) -> None:
    def turn(hidden: str) -> None:
        page.evaluate(f"Object.defineProperty(document, 'hidden', {{value: {hidden}, configurable: true}})")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    page.clock.install()
    opened(page, site)
    cell(page, "Green taxis", "2023-01").wait_for()
    turn("true")
    before = [path for _, path, _ in state.asked if "/data/" in path]
    page.clock.run_for(300_000)
    page.wait_for_timeout(500)  # an answer to what should not have been asked
    assert [path for _, path, _ in state.asked if "/data/" in path] == before
    with page.expect_response("**/data/grid"):
        turn("false")


def test_airflow_3_has_the_page_as_a_component_that_follows_its_theme_and_its_router(page: Any, site: str) -> None:
    page.add_init_script(
        "let effect; globalThis.went = []; globalThis.React = {createElement: (tag, props) => ({tag, props}),"
        " useRef: () => globalThis.place ??= {current: null}, useEffect: (run) => { effect ??= run; }};"
        "globalThis.ReactRouterDOM = {useNavigate: () => (path) => globalThis.went.push(path)};"
        "globalThis.begin = () => effect();"
    )
    page.goto(site.replace("/warehouse/", "/outputs"))
    page.evaluate(
        "import('/nyc-taxi/warehouse/static/app.js').then(() => { document.documentElement.className = 'dark';"
        " globalThis.AirflowPlugin(); place.current = document.querySelector('main'); globalThis.end = begin(); })"
    )
    cell(page, "Green taxis", "2023-01").wait_for()
    assert page.locator("main").evaluate("main => main.style.colorScheme") == "dark"
    page.get_by_role("link", name="taxi_trips_green").click()
    assert page.evaluate("went") == ["/dags/taxi_trips_green"]
    tab = page.get_by_role("link", name="Resource", exact=True).get_attribute("href")
    assert tab == "/nyc-taxi/outputs#/resource", "relative to Airflow's <base>, it would lead away from the page"
    page.evaluate("end()")
    assert page.locator("article").count() == 0


def test_the_resource_is_shown(page: Any, site: str) -> None:
    opened(page, site, "#/resource")
    page.get_by_text("taxi_trips_green.load, run scheduled__2023-01").wait_for()
    assert page.get_by_text("Size of the TLC's files by the month in which they were loaded").count() > 0
    assert page.locator("tbody tr", has_text="taxi_trips_green.load").first.inner_text().split("\t")[4] == "6 s"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "address", ["", "#/green/2024-02", "#/green/2023-06", "#/resource", "#/outputs", "#/outputs/requests"]
)
def test_no_serious_violation_of_accessibility_and_no_sideways_scrolling(
    page: Any, site: str, scheme: str, address: str
) -> None:
    page.set_viewport_size({"width": 1024, "height": 768})
    page.emulate_media(color_scheme=scheme)
    opened(page, site, address)
    page.wait_for_load_state("networkidle")
    if not address:
        page.get_by_role("button", name="Weeks").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1024
    assert violations(page) == []
