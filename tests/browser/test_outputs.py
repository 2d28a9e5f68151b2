"""The page's outputs in a real browser."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from include.nyc_taxi import settings
from tests.browser.test_page import opened

if TYPE_CHECKING:
    from tests.browser.standin import State


def test_outputs_are_shown_by_fleet_and_year_with_what_belongs_to_a_month(page: Any, site: str) -> None:
    opened(page, site)
    page.get_by_role("link", name="Outputs", exact=True).click()
    page.get_by_role("heading", name="Green taxis, 2023").wait_for()
    months = page.locator("section", has=page.get_by_role("heading", name="By month")).last.locator(".thumb")
    assert months.count() == 12
    newest = months.first
    assert newest.locator("a").first.get_attribute("href") == "/nyc-taxi/outputs/green/manhattan_map_2023-12.png"
    assert (
        newest.get_by_role("link", name="GeoJSON: download manhattan_stats_2023-12.geojson").inner_text() == "GeoJSON"
    )
    assert page.get_by_role("link", name="Trips by week").count() == 1
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV: download trips_by_week.csv").click()
    assert download.value.suggested_filename == "trips_by_week.csv"
    page.get_by_role("link", name="2022", exact=True).click()
    page.get_by_role("heading", name="Green taxis, 2022").wait_for()
    assert page.url.endswith("#/outputs/green/2022")
    assert months.count() == 6
    months.first.get_by_role("link", name="The month December 2022").click()
    page.get_by_role("heading", name="Green taxis, December 2022").wait_for()


def test_the_keyboard_leads_from_a_year_to_its_outputs(page: Any, site: str) -> None:
    opened(page, site, "#/outputs/green/2023")
    page.get_by_role("link", name="2022", exact=True).focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Green taxis, 2022").wait_for()
    page.wait_for_function("document.querySelector('[data-env]').shadowRoot.activeElement?.tagName === 'H2'")
    for _ in range(3):
        page.keyboard.press("Tab")
    focus = "document.querySelector('[data-env]').shadowRoot.activeElement.getAttribute('href')"
    assert page.evaluate(focus) == "/nyc-taxi/outputs/green/manhattan_map_2022-12.png"


def test_pictures_are_small_and_load_only_when_they_are_near(page: Any, site: str, state: State) -> None:
    for number in range(300):
        (settings.outputs_dir("green") / f"chart-{number}_2023-01.png").touch()
    opened(page, site, "#/outputs/green/2023")
    page.locator(".thumb img").first.wait_for()
    page.wait_for_function("document.querySelector('[data-env]').shadowRoot.querySelector('.thumb img').complete")
    asked = [path for _, path, _ in state.asked if path.endswith(".png")]
    assert all(path.startswith("/nyc-taxi/thumbnails/") for path in asked)
    assert 0 < len(asked) < 250, "312 pictures have been read at once"


def test_a_result_of_a_request_says_what_was_asked_by_whom_and_which_run_made_it(page: Any, site: str) -> None:
    opened(page, site, "#/outputs/requests")
    result = page.locator(".thumb", has_text="queens-january")
    result.wait_for()
    assert "Queens, green, 2023-01-01 to 2023-01-31" in result.inner_text()
    assert "Asked 2026-11-27 09:00 UTC by ada" in result.inner_text()
    assert result.get_by_role("link", name="run").get_attribute("href") == "/dags/adhoc_request/runs/manual__1"
    failed = page.locator("tbody tr", has_text="bronx")
    assert "Bronx, green" in failed.inner_text()
    assert failed.get_by_role("link").get_attribute("href") == "/dags/adhoc_request/runs/manual__2"


def test_without_outputs_the_page_says_how_they_come_about(page: Any, site: str, state: State) -> None:
    shutil.rmtree(settings.outputs_root())
    state.may = state.has_runs = False
    opened(page, site, "#/outputs")
    page.get_by_text("There are no outputs yet. Run a DAG").wait_for()


def test_the_description_of_tables_is_one_click_away_once_it_is_written(page: Any, site: str) -> None:
    opened(page, site, "#/outputs/green/2023")
    page.get_by_role("link", name="A list of all outputs").wait_for()
    tables = page.get_by_role("link", name="dbt's description of all tables and columns")
    assert tables.count() == 0
    settings.dbt_docs().parent.mkdir(parents=True, exist_ok=True)
    settings.dbt_docs().touch()
    page.reload()
    tables.wait_for()
    assert tables.get_attribute("href") == "/nyc-taxi/dbt"
