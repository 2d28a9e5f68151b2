"""The few things that Airflow 2.11 and 3.x do not have in common; DAG files need not know which one they run on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow import __version__
from airflow.providers.common.compat.sdk import Asset

IS_AIRFLOW_3 = int(__version__.split(".")[0]) >= 3


def make_asset(name: str, uri: str, group: str, description: str) -> Asset:
    """An asset; on 2.11 a dataset, which is known by its URI only.

    Args:
        name, group: shown in the asset graph of 3.x.
        uri: the asset's identity on 2.11.
        description: shown with the asset, as `extra`: assets have no field of that name.
    """
    named: dict[str, Any] = {"name": name, "group": group} if IS_AIRFLOW_3 else {}
    return Asset(uri=uri, extra={"description": description}, **named)


def show_inputs(dag: Any) -> None:
    """Have 2.11's dataset graph show what the DAG's tasks read. Airflow 3 shows tasks' inlets by itself.

    2.11 draws an edge from a dataset to a DAG only where the dataset starts the DAG. This condition starts nothing: it
    is false, as "no datasets" is, and all that it has is the edges.
    """
    if IS_AIRFLOW_3:
        return
    from airflow.timetables.base import _NullDataset

    datasets = {dataset.uri: dataset for task in dag.tasks for dataset in task.inlets}

    class Inputs(_NullDataset):
        def iter_dag_dependencies(self, source: str, target: str) -> Iterator[Any]:
            for dataset in datasets.values():
                yield from dataset.iter_dag_dependencies(source=source, target=target)

    dag.timetable.dataset_condition = Inputs()


def read_dags(folder: Path) -> dict[str, Any]:
    """The DAGs of a folder or file by id, read as Airflow reads them.

    Raises:
        ValueError: a file cannot be read; the message has the errors.
    """
    if IS_AIRFLOW_3:
        from airflow.dag_processing.dagbag import DagBag

        bag = DagBag(str(folder))
    else:
        from airflow.models.dagbag import DagBag

        bag = DagBag(str(folder), include_examples=False)
    if bag.import_errors:
        raise ValueError("\n".join(f"{file}: {error}" for file, error in bag.import_errors.items()))
    return dict(bag.dags)
