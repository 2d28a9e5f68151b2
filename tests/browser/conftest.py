"""A browser, and the stand-in server for it. Without Chromium or Playwright, the tests of this folder are skipped."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import standin

CHROMIUM = shutil.which("chromium")


@pytest.fixture
def state() -> standin.State:
    return standin.State()


@pytest.fixture
def site(state: standin.State) -> Iterator[str]:
    """The page's address."""
    from tests.browser import made_outputs

    made_outputs.make()
    server = standin.serve(state)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/nyc-taxi/warehouse/"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if not CHROMIUM:
        pytest.skip("Chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, site: str) -> Iterator[Any]:
    """A page that fails the test if it writes an error to the console or asks another host for anything."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, bypass_csp=False)
    page = context.new_page()
    page.set_default_timeout(10_000)
    errors, strangers = [], []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    host = site.split("/")[2]
    page.on("request", lambda request: strangers.append(request.url) if request.url.split("/")[2] != host else None)
    page.expected_errors = []
    yield page
    context.close()
    assert [error for error in errors if not any(text in error for text in page.expected_errors)] == []
    assert strangers == []
