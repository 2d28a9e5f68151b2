"""OpenLineage's real provider: what leaves a backfill, and that a receiver that does not answer costs only warnings.

`make openlineage` installs the provider; without it these tests are skipped.
"""

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from include.nyc_taxi import settings
from include.nyc_taxi.errors import SettingError
from include.tlc_simulator.server import TlcSimulator
from tests import openlineage_schemas
from tests.conftest import ROOT
from tests.integration.project import Project
from tests.openlineage_graph import graph
from tests.with_dbt import needs_dbt

pytestmark = pytest.mark.skipif(
    not find_spec("airflow.providers.openlineage"), reason="OpenLineage's provider is not installed: make openlineage"
)

PAGE = ROOT / "docs" / "how-to" / "openlineage.md"
MONTH = {"FLEET": "green", "FROM": "2023-01"}


def project(folder: Path, site: TlcSimulator, set_up: Path, transport: dict[str, Any], **more: str) -> Project:
    return Project(
        folder,
        site.url,
        set_up,
        NYC_TAXI_FLEETS="green",
        AIRFLOW__OPENLINEAGE__TRANSPORT=json.dumps(transport),
        AIRFLOW__OPENLINEAGE__NAMESPACE="nyc_taxi",
        **more,
    )


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory, site: TlcSimulator, set_up: Path) -> list[dict[str, Any]]:
    """All events of a month of trips, its weeks and, if dbt is installed, its marts."""
    folder = tmp_path_factory.mktemp("lineage")
    file = folder / "events.ndjson"
    transport = {"type": "file", "log_file_path": str(file), "append": True}
    targets, dbt = ["backfill"], {}
    with contextlib.suppress(SettingError):
        dbt = {"NYC_TAXI_DBT": str(settings.dbt_program())}
        targets.append("backfill-marts")
    made = project(folder, site, set_up, transport, **dbt)
    for target in targets:
        status, output = made.run(target, **MONTH)
        assert status == 0, output
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_every_task_ends_with_an_event_and_those_that_make_data_name_it(events: list[dict[str, Any]]) -> None:
    def jobs(kind: str) -> set[str]:
        return {event["job"]["name"] for event in events if event["eventType"] == kind}

    tasks = {f"taxi_trips_green.{name}" for name in ("wait_for_file", "download", "load", "aggregate", "map")}
    assert tasks <= jobs("START")
    assert tasks <= jobs("COMPLETE")
    assert tasks - {"taxi_trips_green.wait_for_file"} <= jobs("RUNNING")


def test_no_event_has_source_code_or_a_password(events: list[dict[str, Any]]) -> None:
    text = json.dumps(events)
    assert "sourceCode" not in text
    assert "def load(" not in text


def test_the_parts_of_a_load_belong_to_one_run(events: list[dict[str, Any]]) -> None:
    load = [event for event in events if event["job"]["name"] == "taxi_trips_green.load"]
    assert {event["eventType"] for event in load} == {"START", "RUNNING", "COMPLETE"}
    assert len({event["run"]["runId"] for event in load}) == 1


@needs_dbt
def test_dbts_tables_are_in_the_same_graph(events: list[dict[str, Any]]) -> None:
    drawn = graph(events)
    _, shown = re.findall(r"```mermaid\n(.*?)\n```", PAGE.read_text(), re.DOTALL)
    assert shown == drawn, f"replace the second graph in docs/how-to/openlineage.md by\n{drawn}"
    ids = {label: node for node, label in re.findall(r'^    (n\d+)\[+\(?"([^"]+)"', drawn, re.MULTILINE)}
    arrows = set(re.findall(r"(n\d+) --> (n\d+)", drawn))
    build = ids["trips_marts_green.build.daily_trips"]
    assert (build, ids["marts.daily_trips"]) in arrows
    read_by_staging = {source for source, target in arrows if target == ids["trips_marts_green.stage"]}
    assert ids["trips_flagged"] in read_by_staging or ids["green_trips"] in read_by_staging, drawn


def test_every_event_is_valid_against_the_published_schemas(events: list[dict[str, Any]]) -> None:
    assert len(events) > 20
    assert [problem for event in events for problem in openlineage_schemas.problems(event)] == []


@pytest.fixture
def silent() -> Iterator[int]:
    """A port where connections are made and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("receiver", ["down", "silent"])
def test_a_receiver_that_does_not_answer_costs_only_warnings(
    receiver: str, tmp_path: Path, site: TlcSimulator, set_up: Path, silent: int
) -> None:
    port = silent if receiver == "silent" else 9
    transport = {"type": "http", "url": f"http://127.0.0.1:{port}", "timeout": 1, "retry": {"total": 1}}
    made = project(tmp_path, site, set_up, transport)
    status, output = made.run("backfill", **MONTH)
    assert status == 0, output
    logs = "\n".join(log.read_text() for log in made.state.glob("logs/**/task_id=load/*.log"))
    assert "Failed to emit OpenLineage" in logs or "has not answered" in logs
