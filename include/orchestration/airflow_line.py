"""The few things that Airflow 2.11 and 3.x do not have in common; DAG files need not know which one they run on."""

from __future__ import annotations

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
