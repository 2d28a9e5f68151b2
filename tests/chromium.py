"""Debian's Chromium, driven by Playwright, and pages in it that must not complain or ask anybody else.

Where Chromium is missing, its tests are skipped; in CI that is an error.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUM = shutil.which("chromium")
AXE = Path(__file__).with_name("browser") / "axe.min.js"
LOCAL = ("data", "blob")
"""Kinds of addresses that ask no host."""


@pytest.fixture(scope="module")  # Playwright keeps an event loop running: no other module's tests may meet it
def browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        sync_playwright = None
    missing = "Playwright" if sync_playwright is None else None if CHROMIUM else "Chromium (apt-get install chromium)"
    if missing and os.environ.get("CI"):
        pytest.fail(f"{missing} is not installed, and CI must run the tests in a browser")
    if missing or sync_playwright is None:
        pytest.skip(f"{missing} is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@dataclass
class Watch:
    """What a page has complained about, and which other hosts it has asked.

    Attributes:
        path: only errors on pages with this in their address count; Airflow's own pages have some.
        expected: texts of the errors that a test provokes.
    """

    host: str
    path: str = ""
    errors: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def over(self, page: Any) -> None:
        """Begin to watch a page."""
        page.on("console", lambda message: self._note(page, _where(message)) if message.type == "error" else None)
        page.on("pageerror", lambda error: self._note(page, str(error)))
        page.on("request", lambda request: self._ask(request.url))

    def _note(self, page: Any, error: str) -> None:
        if self.path in page.url:
            self.errors.append(error)

    def _ask(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in LOCAL and parts.netloc != self.host:
            self.strangers.append(url)

    def check(self) -> None:
        """Fail the test if there was anything."""
        assert [error for error in self.errors if not any(text in error for text in self.expected)] == []
        assert self.strangers == []


def _where(message: Any) -> str:
    return f"{message.text} ({message.location.get('url', '')})"


@contextmanager
def watching(page: Any, url: str, path: str = "") -> Iterator[Watch]:
    """Fail the test if the page writes an error to the console, or asks another host than that of `url`."""
    watch = Watch(urlsplit(url).netloc, path)
    watch.over(page)
    yield watch
    watch.check()


OURS = "[...document.querySelectorAll('*')].find(node => node.shadowRoot)"
"""In JavaScript, the element of our page among those of Airflow's UI: the only one with a shadow root."""


def violations(page: Any, within: str = "document") -> list[tuple[str, list[Any]]]:
    """The serious and critical violations that axe-core finds in what the page shows: rule and where.

    `within` is the element, in JavaScript.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(f"axe.run({within}, {{resultTypes: ['violations']}})")
    return [
        (each["id"], [node["target"] for node in each["nodes"]][:3])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]
