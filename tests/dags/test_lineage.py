"""The graph of assets (3.x) or datasets (2.11), as the web UI gets it from Airflow."""

from collections import defaultdict
from graphlib import TopologicalSorter
from typing import Any

import pytest
from airflow.utils.session import create_session
from sqlalchemy import select

from include.nyc_taxi import catalogue
from include.orchestration import assets
from include.orchestration.compat import IS_AIRFLOW_3

pytestmark = pytest.mark.usefixtures("metadata_database")

FILES = [assets.trips_file("green"), assets.TAXI_ZONES_FILE]


def edges_of_airflow_3(asset: Any) -> list[tuple[str, str]]:
    """The lineage on the page of an asset: assets and tasks by name."""
    from airflow.api_fastapi.core_api.services.ui.dependencies import get_data_dependencies
    from airflow.models.asset import AssetModel

    with create_session() as session:
        key = session.scalars(select(AssetModel.id).where(AssetModel.uri == asset.uri)).one()
        graph = get_data_dependencies(key, session)
    labels = {node["id"]: node["label"] for node in graph["nodes"]}
    return [(labels[edge["source_id"]], labels[edge["target_id"]]) for edge in graph["edges"]]


def edges_of_airflow_2() -> list[tuple[str, str]]:
    """All edges on the page "Datasets": DAGs by id, datasets by URI."""
    from airflow.models.serialized_dag import SerializedDagModel

    return [
        (dep.dependency_id, dep.target) if dep.source == "dataset" else (dep.source, dep.dependency_id)
        for found in SerializedDagModel.get_dag_dependencies().values()
        for dep in found
        if dep.dependency_type == "dataset"
    ]


def upstream(name: str, edges: list[tuple[str, str]]) -> set[str]:
    """Return everything upstream of a node."""
    before = defaultdict(set)
    for source, target in edges:
        before[target].add(source)
    found: set[str] = set()
    todo = [name]
    while todo:
        new = before[todo.pop()] - found
        found |= new
        todo += new
    return found


@pytest.mark.parametrize(
    ("output", "files"),
    [
        (assets.manhattan_map("green"), FILES),
        (assets.trips_by_week("green"), [assets.trips_file("green")]),  # its figures are those of the whole city
        (assets.airport_chart("green"), FILES),
        (assets.MARKET_SHARE_CHART, FILES),
        (assets.ADHOC_REQUEST, FILES),
    ],
    ids=lambda a: getattr(a, "uri", ""),
)
def test_every_output_leads_back_to_the_files_of_the_tlc(output: Any, files: list[Any]) -> None:
    if IS_AIRFLOW_3:
        before = upstream(output.name, edges_of_airflow_3(output))
        assert {asset.name for asset in files} <= before
        assert {"taxi_trips_green.load", "taxi_trips_green"} <= before
    else:
        before = upstream(output.uri, edges_of_airflow_2())
        assert {asset.uri for asset in files} <= before
        assert {"taxi_trips_green", assets.trips("green").uri} <= before


@pytest.mark.skipif(not IS_AIRFLOW_3, reason="2.11 draws DAGs rather than tasks, and a DAG may read what it makes")
@pytest.mark.parametrize(
    "asset", [*FILES, assets.TAXI_ZONES, assets.trips("green"), assets.manhattan_map("green"), assets.ADHOC_REQUEST]
)
def test_the_graph_has_no_circle(asset: Any) -> None:
    edges = edges_of_airflow_3(asset)
    sorter = TopologicalSorter[str]()
    for source, target in edges:
        sorter.add(target, source)
    assert len(list(sorter.static_order())) == len({name for edge in edges for name in edge})


def test_a_map_leads_back_to_the_zones_as_well() -> None:
    output = assets.manhattan_map("green")
    if IS_AIRFLOW_3:
        before = upstream(output.name, edges_of_airflow_3(output))
        assert {"taxi_zones", "taxi_zones.load", "taxi_zones_file", "taxi_zones.download"} <= before
    else:
        assert {assets.TAXI_ZONES.uri, "taxi_zones"} <= upstream(output.uri, edges_of_airflow_2())


def test_zones_lead_back_to_the_runs_that_load_them_where_there_are_none() -> None:
    for asset in (assets.TAXI_ZONES, assets.TAXI_ZONES_FILE):
        if IS_AIRFLOW_3:
            before = upstream(asset.name, edges_of_airflow_3(asset))
            assert {"taxi_zones.download", *(f"taxi_trips_{fleet}.load" for fleet in catalogue.FLEETS)} <= before
        else:
            before = upstream(asset.uri, edges_of_airflow_2())
            assert {"taxi_zones", *(f"taxi_trips_{fleet}" for fleet in catalogue.FLEETS)} <= before


@pytest.mark.skipif(IS_AIRFLOW_3, reason="Airflow 3 shows inlets by itself: no DAG is made to look as if it waited")
def test_the_edges_of_the_graph_start_no_dag(dag_bag: Any) -> None:
    from airflow.models.dataset import DagScheduleDatasetReference

    with create_session() as session:
        assert session.scalars(select(DagScheduleDatasetReference)).all() == []
    for dag in dag_bag.dags.values():
        assert not dag.timetable.dataset_condition
        assert not dag.timetable.dataset_condition.evaluate({asset.uri: True for asset in FILES})
