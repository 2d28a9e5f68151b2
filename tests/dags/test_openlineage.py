"""Whole runs of DAGs, and what they tell OpenLineage."""

import json
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from openlineage.client.serde import Serde

from include.orchestration import lineage
from include.orchestration.compat import IS_AIRFLOW_3
from include.tlc_simulator.server import TlcSimulator
from tests import openlineage_schemas
from tests.dags.running import run, states
from tests.openlineage_graph import graph
from tests.openlineage_receiver import Receiver, installed
from tests.with_dbt import is_installed

pytestmark = [pytest.mark.usefixtures("metadata_database", "no_pauses"), pytest.mark.slow]


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """A provider that is installed and active."""
    monkeypatch.setattr(lineage, "_given_up", False)
    return installed(monkeypatch)


def events(receiver: Receiver) -> list[dict[str, Any]]:
    """The datasets that each task has told, in order, as they are sent."""
    return [
        {
            "job": {"name": f"{told['task_instance'].dag_id}.{told['task_instance'].task_id}"},
            **{kind: [json.loads(Serde.to_json(dataset)) for dataset in told[kind]] for kind in ("inputs", "outputs")},
        }
        for told in receiver.sent
    ]


def rows(event: dict[str, Any]) -> dict[str, int | None]:
    """The numbers of rows by the last part of the dataset's name."""
    facets = {
        dataset["name"].rpartition("/")[2]: {**dataset.get("inputFacets", {}), **dataset.get("outputFacets", {})}
        for dataset in (*event["inputs"], *event["outputs"])
    }
    found = {name: x.get("inputStatistics") or x.get("outputStatistics") for name, x in facets.items()}
    return {
        name: statistics["rowCount"] for name, statistics in found.items() if statistics and "rowCount" in statistics
    }


@pytest.fixture
def told(
    dag_bag: Any, simulator: TlcSimulator, data_dir: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> list[dict[str, Any]]:
    """What a month, its weeks and a report on request tell."""
    request = {"fleet": "green", "borough": "Queens", "start_date": "2023-01-09", "end_date": "2023-01-10", "name": "q"}
    for dag_id, day, conf in (
        ("taxi_trips_green", "2023-01-01", {}),
        ("trips_by_week_green", "2023-01-09", {}),
        ("adhoc_request", "2023-02-01", request),
    ):
        assert set(states(run(dag_bag.dags[dag_id], day, **conf)).values()) == {"success"}
    assert "the lineage of this task" not in caplog.text
    return events(receiver)


def test_every_task_that_reads_or_makes_data_tells_so(told: list[dict[str, Any]]) -> None:
    """One test, because the runs take seconds."""
    assert [event["job"]["name"] for event in told] == [
        "taxi_trips_green.download",
        "taxi_trips_green.load",  # downloads the zones …
        "taxi_trips_green.load",  # … and loads them …
        "taxi_trips_green.load",  # … and the month
        "taxi_trips_green.aggregate",
        "taxi_trips_green.map",
        "trips_by_week_green.aggregate",
        "trips_by_week_green.draw",
        "adhoc_request.count",
        "adhoc_request.draw",
    ]
    _, _, zones, load, _, _, _, _, count, _ = told
    assert rows(zones)["warehouse.main.zones"] == 265
    assert rows(load).items() >= {"green_tripdata_YYYY-MM.parquet": 1000, "warehouse.main.green_trips": 1000}.items()
    assert rows(load)["warehouse.main.loads"] == 1
    assert rows(count)["q.csv"] == 168
    _the_graph_leads_from_the_tlc_to_each_output(told)
    _files_that_are_named_as_made_exist(told)
    _all_datasets_are_valid(told)


def _the_graph_leads_from_the_tlc_to_each_output(told: list[dict[str, Any]]) -> None:
    drawn = graph(told)
    names = {line.split("[")[0].strip(): line for line in drawn.splitlines() if "[" in line}
    arrows = [tuple(line.strip().split(" --> ")) for line in drawn.splitlines() if "-->" in line]
    before: dict[str, set[str]] = {}
    for source, target in arrows:
        before.setdefault(target, set()).add(source)
    for output in ("manhattan_map.png", "trips_by_week.png", "q.png"):
        (node,) = (node for node, line in names.items() if f'"{output}"' in line)
        seen, todo = set[str](), [node]
        while todo:
            new = before.get(todo.pop(), set()) - seen
            seen |= new
            todo += new
        assert any("TLC: green_tripdata" in names[each] for each in seen), output


def _files_that_are_named_as_made_exist(told: list[dict[str, Any]]) -> None:
    made = [dataset for event in told for dataset in event["outputs"] if dataset["namespace"] == "file"]
    assert len(made) > 8
    for dataset in made:
        uri = dataset["facets"]["dataSource"]["uri"]
        assert Path(uri.removeprefix("file://")).exists(), uri


def _all_datasets_are_valid(told: list[dict[str, Any]]) -> None:
    kinds = {"inputs": "InputDataset", "outputs": "OutputDataset"}
    for event in told:
        for field, kind in kinds.items():
            for dataset in event[field]:
                assert openlineage_schemas.problems_of_dataset(dataset, kind) == []


@pytest.fixture
def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """OpenLineage's real provider, configured and listening. Returns what reads the events that it has sent so far."""
    conf = pytest.importorskip("airflow.providers.openlineage.conf", reason="make openlineage installs it")
    from airflow.providers.openlineage.plugins.listener import get_openlineage_listener

    manager = import_module("airflow.sdk.listener" if IS_AIRFLOW_3 else "airflow.listeners.listener")
    file = tmp_path / "events.ndjson"
    transport = {"type": "file", "log_file_path": str(file), "append": True}
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps(transport))
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__EXECUTE_IN_THREAD", "True")  # rather than in forks of pytest
    monkeypatch.setattr(lineage, "_given_up", False)

    def forget() -> None:
        for function in (get_openlineage_listener, *vars(conf).values()):
            if hasattr(function, "cache_clear"):
                function.cache_clear()

    forget()
    listener = get_openlineage_listener()
    manager.get_listener_manager().add_listener(listener)
    yield lambda: [json.loads(line) for line in file.read_text().splitlines()]
    manager.get_listener_manager().pm.unregister(listener)
    forget()


DBT = {"stage", "build.daily_trips"} if IS_AIRFLOW_3 and is_installed() else set[str]()
"""Two of dbt's tasks, which take seconds of processor time each. What they tell does not depend on Airflow's line."""


def test_every_event_that_the_real_provider_sends_of_a_demo_is_valid(
    dag_bag: Any, simulator: TlcSimulator, data_dir: Path, sent: Callable[[], list[dict[str, Any]]]
) -> None:
    runs: dict[str, str | None] = {"taxi_trips_green": None}
    if DBT:
        others = {*dag_bag.dags["trips_marts_green"].task_ids} - DBT
        runs["trips_marts_green"] = "|".join(sorted(others))
    for dag_id, marked in runs.items():
        assert set(states(run(dag_bag.dags[dag_id], "2023-01-01", marked=marked)).values()) == {"success"}
    events = sent()
    of_tasks = [event for event in events if "." in event["job"]["name"]]
    kinds: dict[str, list[str]] = {}
    for event in of_tasks:
        kinds.setdefault(event["job"]["name"], []).append(event["eventType"])
    thrice = [
        "START",
        "RUNNING",
        "RUNNING",
        "RUNNING",
        "COMPLETE",
    ]  # it downloads the zones, and loads them and the month
    assert kinds == {
        "taxi_trips_green.wait_for_file": ["START", "COMPLETE"],
        "taxi_trips_green.load": thrice,
        **{f"taxi_trips_green.{x}": ["START", "RUNNING", "COMPLETE"] for x in ("download", "aggregate", "map")},
        **{f"trips_marts_green.{task}": ["START", "COMPLETE"] for task in DBT},
    }
    made = {dataset["name"] for event in events for dataset in event["outputs"]}
    assert {"warehouse.main.green_trips", "warehouse.main.trips_flagged"} <= made
    assert ("warehouse.marts.daily_trips" in made) == ("build.daily_trips" in DBT)
    assert "sourceCode" not in json.dumps(events)
    assert [problem for event in events for problem in openlineage_schemas.problems(event)] == []
