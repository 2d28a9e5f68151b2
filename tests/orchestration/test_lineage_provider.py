"""The datasets through OpenLineage's real provider: its redaction, its client, and a receiver on localhost.

`make openlineage` installs the provider; without it these tests are skipped.
"""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import pytest
from openlineage.client.client import OpenLineageClient
from openlineage.client.event_v2 import Job, Run, RunEvent, RunState

from include.nyc_taxi import catalogue
from include.orchestration.lineage_datasets import Work
from tests import openlineage_schemas
from tests.orchestration.test_lineage_datasets import all_assets, work

adapters = pytest.importorskip("airflow.providers.openlineage.plugins.adapter", reason="make openlineage installs it")


class _Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.events.append(json.loads(body))  # type: ignore[attr-defined]
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def receiver() -> Iterator[Any]:
    """A server that keeps the events that are posted to it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Receiver) as server:
        server.events = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()


def send(server: Any, done: Work) -> None:
    transport = {"type": "http", "url": f"http://127.0.0.1:{server.server_address[1]}", "retry": {"total": 0}}
    adapter = adapters.OpenLineageAdapter(OpenLineageClient(config={"transport": transport}))
    event = RunEvent(
        eventTime=datetime.now(UTC).isoformat(),
        run=Run(str(uuid4())),
        job=Job("nyc_taxi", "a_dag.a_task"),
        producer="https://example.org/airflow",
        eventType=RunState.RUNNING,
        inputs=list(done.inputs),
        outputs=list(done.outputs),
    )
    adapter.emit(event)


@pytest.mark.parametrize("fleet", catalogue.FLEETS)
def test_events_arrive_whole_and_nothing_in_them_is_masked(fleet: str, receiver: Any) -> None:
    month = str(catalogue.fleet(fleet).first_month)
    for asset in all_assets(fleet):
        send(receiver, work(asset.uri, fleet, month))
    assert len(receiver.events) == len(all_assets(fleet))
    assert "***" not in json.dumps(receiver.events)
    assert sum("columnLineage" in json.dumps(event) for event in receiver.events) > 4


@pytest.mark.parametrize("fleet", catalogue.FLEETS)
def test_events_that_arrive_are_valid_against_the_published_schemas(fleet: str, receiver: Any) -> None:
    for layout in catalogue.fleet(fleet).layouts:
        for asset in all_assets(fleet):
            send(receiver, work(asset.uri, fleet, layout.first_month))
    assert [problem for event in receiver.events for problem in openlineage_schemas.problems(event)] == []
