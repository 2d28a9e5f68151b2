"""A page in a browser, and the stand-in server for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import standin
from tests.chromium import watching


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


@pytest.fixture
def page(browser: Any, site: str) -> Iterator[Any]:
    """A page that fails the test if it writes an error to the console or asks another host for anything."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(20_000)
    with watching(page, site) as watch:
        page.expected_errors = watch.expected
        yield page
        context.close()
