"""The graph on the page about OpenLineage is the one that the events of one fleet make."""

import json
import re
from pathlib import Path
from typing import Any

from openlineage.client.serde import Serde

from include.orchestration import assets, lineage_datasets
from tests.conftest import ROOT
from tests.openlineage_graph import graph
from tests.orchestration.test_lineage_datasets import WAREHOUSE, facts_of

PAGE = ROOT / "docs" / "how-to" / "openlineage.md"
FLEET = "green"


def events() -> list[dict[str, Any]]:
    """What the tasks of a month and of a week tell: the task's name, and the datasets as they are sent."""
    tasks = {
        assets.TAXI_ZONES_FILE: "taxi_zones.download",
        assets.TAXI_ZONES: "taxi_zones.load",
        assets.trips_file(FLEET): f"taxi_trips_{FLEET}.download",
        assets.trips(FLEET): f"taxi_trips_{FLEET}.load",
        assets.manhattan_stats(FLEET): f"taxi_trips_{FLEET}.aggregate",
        assets.manhattan_map(FLEET): f"taxi_trips_{FLEET}.map",
        assets.trips_by_week(FLEET): f"trips_by_week_{FLEET}.aggregate",
    }
    told = []
    for asset, job in tasks.items():
        facts = facts_of(asset, FLEET, "2023-02") | {"weeks_counted_again": []}
        told.append((job, lineage_datasets.of_event(WAREHOUSE, asset.uri, facts)))
    csv_file = facts_of(assets.trips_by_week(FLEET), FLEET, "2023-02")["path"]
    chart = Path(csv_file).with_suffix(".png")
    told.append((f"trips_by_week_{FLEET}.draw", lineage_datasets.of_weeks_chart(chart)))
    return [
        {
            "job": {"name": job},
            "inputs": [json.loads(Serde.to_json(dataset)) for dataset in work.inputs],
            "outputs": [json.loads(Serde.to_json(dataset)) for dataset in work.outputs],
        }
        for job, work in told
    ]


def test_the_page_shows_the_graph_of_the_events() -> None:
    shown, _ = re.findall(r"```mermaid\n(.*?)\n```", PAGE.read_text(), re.DOTALL)
    made = graph(events())
    assert shown == made, f"replace the graph in docs/how-to/openlineage.md by\n{made}"


def test_the_jobs_of_the_graph_are_tasks() -> None:
    structure = json.loads((ROOT / "tests" / "dags" / "structure.json").read_text())
    for event in events():
        dag_id, task_id = event["job"]["name"].split(".")
        assert task_id in structure[dag_id]["tasks"], event["job"]["name"]
