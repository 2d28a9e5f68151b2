"""dbt's documentation in a browser, under the headers with which the web UI sends it."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from include.local import dbt_docs
from include.nyc_taxi.web import pages
from include.orchestration.compat import IS_AIRFLOW_3
from tests.with_dbt import needs_dbt

pytestmark = [
    pytest.mark.slow,
    needs_dbt,
    pytest.mark.xdist_group("dbt"),  # one warehouse for all tests
    pytest.mark.skipif(not IS_AIRFLOW_3, reason="dbt is the same program on both lines"),
]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answer = pages.dbt_docs_answer("/nyc-taxi")
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body if isinstance(answer.body, bytes) else b"".join(answer.body))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_shows_columns_and_lineage_without_the_session_and_without_another_host(
    built: Path,
    site: str,
    browser: Any,
) -> None:
    assert dbt_docs.run() == 0
    context = browser.new_context()
    context.add_cookies([{"name": "session", "value": "secret", "url": site}])
    page = context.new_page()
    page.set_default_timeout(60_000)
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{site}/nyc-taxi/dbt#!/model/model.nyc_taxi.daily_trips")
    page.get_by_text("What passengers were charged, in dollars", exact=False).first.wait_for()
    page.locator("[ng-click*=aunch]").first.click()  # the lineage
    page.locator("canvas").first.wait_for()
    assert errors == []
    assert [url for url in asked if not url.startswith((site, "data:"))] == []
    # It has no origin: no cookie, no store, and no answer of Airflow's.
    assert page.evaluate("self.origin") == "null"
    assert "SecurityError" in page.evaluate("(() => { try { return document.cookie } catch (e) { return e.name } })()")
    assert page.evaluate("fetch('/api/v2/version').then(() => 'answered', () => 'refused')") == "refused"
    context.close()
