"""The page "Taxi warehouse" in a real browser and a real Airflow, as a user works with it.

One Airflow and one small demo for all tests of this file. They stand in the order in which a user would come to them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
import requests
from PIL import Image

from include.orchestration.compat import IS_AIRFLOW_3
from include.tlc_simulator.faults import Status
from include.tlc_simulator.server import TlcSimulator
from tests.chromium import OURS, violations, watching
from tests.cluster.services import free_port
from tests.conftest import ROOT
from tests.integration.project import Project

DAG = "taxi_trips_green"
FLEET = "Green taxis"
MONTHS = ["2023-01", "2023-02", "2023-03"]
BROKEN = "2023-02"
"""The site sends its file to nobody at first, so that its run fails."""
API = "/api/v2" if IS_AIRFLOW_3 else "/api/v1"
PAGE = "/plugin/taxi-warehouse" if IS_AIRFLOW_3 else "/nyc-taxi/warehouse/"
START_SECONDS, RUN_SECONDS = 600, 600
SETTINGS = {
    # An unpaused DAG would catch up all its months.
    "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,viewer:viewer",
    "AIRFLOW__WEBSERVER__WORKERS": "1",
    "NYC_TAXI_FLEETS": "green,yellow",
}
# On SQLite 2.11 has an executor that starts a new Python for each task. This one, too, runs one task at a time.
EXECUTOR = {} if IS_AIRFLOW_3 else {"AIRFLOW__CORE__EXECUTOR": "LocalExecutor", "AIRFLOW__CORE__PARALLELISM": "1"}


@dataclass(frozen=True)
class Airflow:
    """An Airflow as `make standalone` starts it, with the users admin and viewer, and its simulated TLC."""

    url: str
    passwords: dict[str, str]
    tlc: TlcSimulator
    project: Project


@pytest.fixture(scope="module")
def site_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the simulated TLC keeps its files."""
    return tmp_path_factory.mktemp("tlc")


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, site_folder: Path) -> Iterator[Airflow]:
    folder, port = tmp_path_factory.mktemp("airflow"), free_port()
    with TlcSimulator(site_folder, rows=1000, first_month="2022-12", last_month="2023-04") as tlc:
        tlc.add_fault(f"green_tripdata_{BROKEN}", Status(404), methods=["GET"])
        project = Project(folder, tlc.url, **SETTINGS)
        process = project.start("standalone", PORT=str(port), **EXECUTOR)
        try:
            url = f"http://localhost:{port}"
            wait_until_it_answers(url, process)
            yield Airflow(url, users(url, project.state), tlc, project)
        finally:
            process.send_signal(signal.SIGTERM)  # make hands it on
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=60)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def wait_until_it_answers(url: str, process: subprocess.Popen[str]) -> None:
    """Return when the web server, and the scheduler, are healthy, and the DAG is known."""
    deadline = time.monotonic() + START_SECONDS
    health = f"{url}/api/v2/monitor/health" if IS_AIRFLOW_3 else f"{url}/health"
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        with contextlib.suppress(requests.RequestException):
            answer = requests.get(health, timeout=20)
            if answer.ok and answer.json()["scheduler"]["status"] == "healthy":
                return
        time.sleep(1)
    raise AssertionError(f"{url} was not healthy after {START_SECONDS} s")


def users(url: str, state: Path) -> dict[str, str]:
    """The passwords of the two users. On 2.11 the administrator creates the other."""
    if IS_AIRFLOW_3:
        found = json.loads((state / "simple_auth_manager_passwords.json.generated").read_text())
        return {name: found[name] for name in ("admin", "viewer")}
    passwords = {"admin": (state / "standalone_admin_password.txt").read_text().strip(), "viewer": "secret"}
    session = signed_in(url, passwords["admin"])
    viewer = {"username": "viewer", "password": passwords["viewer"], "roles": [{"name": "Viewer"}]}
    names = {"first_name": "A", "last_name": "B", "email": "viewer@example.test"}
    answer = session.post(f"{url}/auth/fab/v1/users", json=viewer | names, timeout=60)
    assert answer.ok, answer.text
    return passwords


def signed_in(url: str, password: str) -> requests.Session:
    """A session of the administrator."""
    session = requests.Session()
    session.trust_env = False
    login = {"username": "admin", "password": password}
    if IS_AIRFLOW_3:
        token = session.post(f"{url}/auth/token", json=login, timeout=60).json()["access_token"]
        session.cookies.set("_token", token)
    else:
        page = session.get(f"{url}/login/", timeout=60).text
        (token,) = re.findall(r'name="csrf_token"[^>]*value="([^"]+)"', page)
        session.post(f"{url}/login/", data=login | {"csrf_token": token}, timeout=60)
    return session


def log_in(page: Any, airflow: Airflow, name: str) -> None:
    """Fill in the real form."""
    page.goto(f"{airflow.url}/" if IS_AIRFLOW_3 else f"{airflow.url}/login/")
    page.locator("input[name=username]").fill(name)
    page.locator("input[name=password]").fill(airflow.passwords[name])
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("Dags" if IS_AIRFLOW_3 else "Browse").first.wait_for()


@pytest.fixture(scope="module")
def sessions(browser: Any, airflow: Airflow) -> dict[str, Any]:
    """What the browser keeps of a user who has logged in."""
    found = {}
    for name in ("admin", "viewer"):
        context = browser.new_context()
        page = context.new_page()
        page.set_default_timeout(60_000)
        log_in(page, airflow, name)
        found[name] = context.storage_state()
        context.close()
    return found


@contextlib.contextmanager
def window(browser: Any, airflow: Airflow, state: Any, **options: Any) -> Iterator[Any]:
    """A window of a user, which must stay without errors and without requests to other hosts."""
    context = browser.new_context(storage_state=state, viewport={"width": 1280, "height": 900}, **options)
    page = context.new_page()
    page.set_default_timeout(60_000)
    try:
        with watching(page, airflow.url, PAGE.rstrip("/")) as watch:
            page.expected_errors = watch.expected
            yield page
    finally:
        context.close()


@pytest.fixture
def page(browser: Any, airflow: Airflow, sessions: dict[str, Any]) -> Iterator[Any]:
    """A window of the administrator."""
    with window(browser, airflow, sessions["admin"]) as page:
        yield page


def opened(page: Any, airflow: Airflow, address: str = "") -> None:
    page.goto(f"{airflow.url}{PAGE}{address}")
    page.get_by_role("heading", level=2 if "/" in address.removeprefix("#/") else 1).first.wait_for()


def cell(page: Any, month: str) -> Any:
    return page.locator(f'article[aria-label="{FLEET}"] [data-month="{month}"]')


def wait_for_state(page: Any, month: str, label: str) -> None:
    """Wait for the page to show, by itself, that a month has this state."""
    shown = page.locator(f'[data-month="{month}"][aria-label*=", {label}"]')
    shown.first.wait_for(timeout=RUN_SECONDS * 1000)


def select(page: Any, months: list[str]) -> None:
    cell(page, months[0]).click(modifiers=["Control"])
    cell(page, months[-1]).click(modifiers=["Shift"])


def test_the_menu_leads_to_the_page_which_starts_nothing_of_a_paused_dag(page, airflow):
    page.goto(f"{airflow.url}/home" if not IS_AIRFLOW_3 else airflow.url)
    if not IS_AIRFLOW_3:
        page.get_by_text("Browse", exact=True).first.click()
    page.get_by_text("Taxi warehouse").first.click()
    cell(page, "2023-01").wait_for()
    assert "published" in cell(page, "2023-01").get_attribute("aria-label")
    assert page.locator("article").count() == 2
    select(page, MONTHS)
    reason = page.locator(".selection [data-test=why-not]").inner_text()
    assert "unpausing it starts the catch-up" in reason
    assert page.get_by_role("button", name=re.compile("Backfill")).count() == 0


@pytest.fixture(scope="module")
def demo(browser: Any, airflow: Airflow, sessions: dict[str, Any]) -> Airflow:
    """Airflow after a backfill of three months, started and watched in the page."""
    administrator = signed_in(airflow.url, airflow.passwords["admin"])
    answer = administrator.patch(f"{airflow.url}{API}/dags/{DAG}", json={"is_paused": False}, timeout=60)
    assert answer.ok, answer.text
    with window(browser, airflow, sessions["admin"]) as page:
        page.expected_errors.append("503 (Service Unavailable)")  # 3.3 on SQLite: the page then starts runs instead
        opened(page, airflow)
        select(page, MONTHS)
        page.get_by_role("button", name="Backfill the selection").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_text("3 months will run: 2023-01 to 2023-03.").wait_for()
        assert "0 of 3" in dialog.inner_text()
        dialog.get_by_role("button", name="Start").click()
        page.get_by_text(re.compile(r"\d of 3 ended")).wait_for()
        for month in MONTHS:
            wait_for_state(page, month, "failed" if month == BROKEN else "loaded")
        page.get_by_text("Backfills under way").wait_for(state="hidden", timeout=RUN_SECONDS * 1000)
    return airflow


def test_a_backfill_is_started_and_watched_to_its_end(page, demo):
    opened(page, demo)
    cell(page, "2023-01").wait_for()
    labels = {month: cell(page, month).get_attribute("aria-label") for month in MONTHS}
    assert "1,000 trips" in labels["2023-01"]
    assert "failed: download" in labels[BROKEN]


@pytest.mark.parametrize(("name", "address", "height"), [("grid", "", 640), ("month", "#/green/2023-01", 1240)])
def test_the_pictures_of_the_docs_can_be_taken(page, demo, tmp_path, pytestconfig, name, address, height):
    page.set_viewport_size({"width": 1280, "height": height})
    opened(page, demo, address)
    page.locator("svg.map path, article").first.wait_for()
    page.wait_for_load_state("networkidle")
    taken = tmp_path / f"page-{name}.png"
    page.screenshot(path=taken)
    with Image.open(taken) as picture:
        assert picture.size == (1280, height)
        picture.convert("RGB").save(taken, optimize=True)
    assert 10_000 < taken.stat().st_size < 300_000
    if pytestconfig.getoption("screenshots"):
        shutil.copy(taken, ROOT / "docs" / "images")


def test_a_month_shows_its_map_and_a_zone_tells_its_name(page, demo):
    opened(page, demo)
    cell(page, "2023-01").click()
    page.get_by_role("heading", name=f"{FLEET}, January 2023").wait_for()
    assert page.url.endswith("#/green/2023-01")
    zones = page.locator("svg.map path[role=img]")
    zones.first.wait_for()
    page.locator("svg.map").scroll_into_view_if_needed()
    shown = zones.evaluate_all(  # a zone whose middle lies within it
        "paths => paths.findIndex(path => { const box = path.getBoundingClientRect();"
        " return path.getRootNode().elementFromPoint(box.x + box.width / 2, box.y + box.height / 2) === path; })"
    )
    zones.nth(shown).hover()
    assert page.locator(".reading").inner_text().startswith(zones.nth(shown).get_attribute("aria-label"))
    picture = page.locator(".maps img")
    picture.scroll_into_view_if_needed()
    page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=picture.element_handle())
    assert page.get_by_text("1,000", exact=True).count() > 0
    page.reload()
    page.get_by_role("heading", name=f"{FLEET}, January 2023").wait_for()
    page.go_back()
    cell(page, "2023-01").wait_for()


def test_the_tabs_lead_to_the_resource_and_to_the_outputs_and_back_to_the_same_months(page, demo):
    opened(page, demo)
    select(page, MONTHS)
    page.get_by_role("link", name="Resource", exact=True).click()
    page.get_by_role("heading", name="Uses").wait_for()
    load = page.get_by_role("row").filter(has=page.get_by_role("link", name=f"{DAG}.load", exact=True))
    assert re.search(r"\d runs?", load.inner_text()), "the hook has recorded how long the task held the warehouse"
    page.get_by_role("link", name="Outputs", exact=True).click()
    page.locator(".thumb").first.wait_for()
    page.get_by_role("link", name="Months", exact=True).click()
    cell(page, "2023-01").wait_for()
    assert page.locator('[aria-selected="true"]').count() == 3, "Airflow 3 makes its component anew at each address"


def test_a_month_that_is_not_there_says_so_and_breaks_nothing_else(page, demo):
    page.expected_errors.append("404")
    opened(page, demo)
    cell(page, "2023-01").wait_for()
    page.evaluate("location.hash = '#/green/1999-01'")
    page.get_by_role("alert").get_by_text("(404)").wait_for()
    page.get_by_role("link", name="← All months").click()
    cell(page, "2023-01").wait_for()
    page.get_by_role("alert").get_by_text("(404)").wait_for(state="hidden")


def test_the_log_of_a_failed_task_is_a_link_away(page, demo):
    opened(page, demo, f"#/green/{BROKEN}")
    page.get_by_role("link", name=re.compile(r"^download, try \d: log$")).click()
    page.get_by_text(f"green_tripdata_{BROKEN}").first.wait_for()
    page.get_by_text("404").first.wait_for()


def test_a_failed_month_is_mended_in_the_page(page, demo):
    demo.tlc.clear_faults()
    opened(page, demo, f"#/green/{BROKEN}")
    page.get_by_role("button", name="Run what failed").click()
    page.get_by_role("dialog").get_by_role("button", name="Run what failed").click()
    page.get_by_role("button", name="All months").click()
    wait_for_state(page, BROKEN, "loaded")


def lose_trips(airflow: Airflow, folder: Path, month: str) -> None:
    """Have the site publish an edition of a month that has lost half of its trips."""
    airflow.tlc.republish("green", month)
    name = f"green_tripdata_{month}.parquet"
    assert requests.get(f"{airflow.tlc.url}/trip-data/{name}", timeout=60).ok, (
        "the site makes the file when it is asked"
    )
    (file,) = folder.rglob(f"*edition-2/{name}")
    duckdb.execute(f"COPY (FROM '{file}' LIMIT 500) TO '{file}.half' (FORMAT parquet)")
    Path(f"{file}.half").replace(file)


def test_an_edition_that_the_audit_refuses_is_accepted_in_the_page(page, demo, site_folder):
    lose_trips(demo, site_folder, "2023-03")
    opened(page, demo, "#/green/2023-03")
    page.get_by_role("button", name="Run again").click()
    page.get_by_role("dialog").get_by_role("button", name="Run again").click()
    page.get_by_role("button", name="Accept this edition").click(timeout=RUN_SECONDS * 1000)
    dialog = page.get_by_role("dialog")
    assert "rows_as_edition_before" in dialog.inner_text()
    dialog.get_by_role("button", name="Accept and load").click()
    page.get_by_role("button", name="All months").click()
    page.locator('[data-month="2023-03"][aria-label*=", 500 trips"]').wait_for(timeout=RUN_SECONDS * 1000)


def test_a_viewer_sees_everything_and_why_there_are_no_buttons(browser, sessions, demo):
    with window(browser, demo, sessions["viewer"]) as page:
        opened(page, demo, "#/green/2023-01")
        assert "not start" in page.locator("[data-test=why-not]").inner_text()
        page.locator("svg.map path").first.wait_for()
        assert page.get_by_role("button", name=re.compile("^(Run|Accept|Backfill)")).count() == 0
        page.get_by_role("button", name="All months").click()
        select(page, MONTHS)
        assert "not start" in page.locator(".selection").inner_text()
        assert page.get_by_role("button", name=re.compile("^(Run|Accept|Backfill)")).count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible_in_both_themes_and_fits_a_small_screen(browser, sessions, demo, scheme):
    with window(browser, demo, sessions["admin"], color_scheme=scheme) as page:
        page.set_viewport_size({"width": 1024, "height": 768})
        if IS_AIRFLOW_3:
            page.add_init_script(f"localStorage.setItem('theme', '{scheme}')")
        for address in ("", "#/green/2023-01", "#/resource", "#/outputs"):
            opened(page, demo, address)
            page.locator("article, .month, .thumbs").first.wait_for()
            page.wait_for_load_state("networkidle")
            assert page.evaluate("document.documentElement.scrollWidth") <= 1024
            # Airflow's own navigation has a picture without a text.
            assert violations(page, OURS if IS_AIRFLOW_3 else "document") == []
        painted = page.evaluate(
            f"() => {{ const pen = document.createElement('canvas').getContext('2d'); "
            f"pen.fillStyle = getComputedStyle({OURS}).backgroundColor; pen.fillRect(0, 0, 1, 1); "
            "return [...pen.getImageData(0, 0, 1, 1).data]; }"
        )
        assert (sum(painted[:3]) < 200) == (scheme == "dark"), painted
