"""What differs between Airflow 2.11 and 3.x, and what is not part of Airflow's public interface.

DAG files need not know which Airflow they run on. Names that Airflow may change without notice are listed in PRIVATE,
each with the reason why it is needed, and are used through this module only. They are imported when they are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow import __version__
from airflow.providers.common.compat.sdk import Asset, get_current_context

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun as DagRun
    from airflow.models.pool import Pool as Pool
    from airflow.models.taskinstance import TaskInstance as TaskInstance
    from airflow.utils.session import create_session as create_session

IS_AIRFLOW_3 = int(__version__.split(".")[0]) >= 3


@dataclass(frozen=True)
class Private:
    """A name in Airflow that is not public.

    Attributes:
        reason: why the project needs it, as a sentence.
    """

    module: str
    name: str
    reason: str

    def load(self) -> Any:
        """Import it.

        Raises:
            ImportError: this version of Airflow does not have it.
        """
        try:
            return getattr(import_module(self.module), self.name)
        except (ImportError, AttributeError) as error:
            raise ImportError(
                f"Airflow {__version__} has no `{self.name}` in `{self.module}`, which is not part of its public "
                f"interface. {self.reason} Find what replaces it, and change include/orchestration/compat.py"
            ) from error


_DATABASE = "Commands read and change runs in the metadata database: no public interface does this on both lines."
_PAGE = "The page of the warehouse reads all runs, events and tasks with a few queries, which takes milliseconds."
_BOTH_LINES = (
    Private("airflow.models.dagrun", "DagRun", _DATABASE),
    Private("airflow.models.taskinstance", "TaskInstance", _DATABASE),
    Private("airflow.utils.session", "create_session", _DATABASE),
    Private("airflow.models.pool", "Pool", "Set-up creates the pool with the slots that the connection asks for."),
    Private("airflow.models.dag", "DagModel", _PAGE),
    Private("airflow.models.dag", "DagTag", _PAGE),
    Private("airflow.models.serialized_dag", "SerializedDagModel", _PAGE),
)
_AIRFLOW_3 = (
    Private("airflow.models.asset", "AssetEvent", _PAGE),
    Private("airflow.models.asset", "AssetModel", _PAGE),
    Private("airflow.dag_processing.dagbag", "DagBag", "`make docs` reads the DAG files as Airflow reads them."),
    Private("airflow.sdk.execution_time.comms", "GetDagRun", "A task asks the api-server which month a run is about."),
    Private(
        "airflow.sdk.execution_time.task_runner",
        "SUPERVISOR_COMMS",
        "A task asks for another DAG's run through it: the public methods of a task return no more than a run's state.",
    ),
)
_AIRFLOW_2 = (
    Private("airflow.models.dataset", "DatasetEvent", _PAGE),
    Private("airflow.models.dataset", "DatasetModel", _PAGE),
    Private("airflow.models.dagbag", "DagBag", "`make docs` reads the DAG files as Airflow reads them."),
    Private("airflow.timetables.base", "_NullDataset", "The dataset graph shows what the tasks of a DAG read."),
)
PRIVATE = {each.name: each for each in (*_BOTH_LINES, *(_AIRFLOW_3 if IS_AIRFLOW_3 else _AIRFLOW_2))}
"""All of them by name, for the line that is installed. This module has them as attributes, too."""


def __getattr__(name: str) -> Any:
    if name in PRIVATE:
        return PRIVATE[name].load()
    raise AttributeError(f"module {__name__} has no attribute {name}")


def make_asset(name: str, uri: str, group: str, description: str) -> Asset:
    """Make an asset, or on 2.11 a dataset, which has only a URI.

    Args:
        name, group: what the asset graph of 3.x shows.
        uri: what identifies the asset on 2.11.
        description: kept in `extra`, because assets have no such field.
    """
    named: dict[str, Any] = {"name": name, "group": group} if IS_AIRFLOW_3 else {}
    return Asset(uri=uri, extra={"description": description}, **named)


def show_inputs(dag: Any) -> None:
    """Make 2.11's dataset graph show what the DAG's tasks read. Airflow 3 shows the inlets of tasks by itself.

    2.11 draws an edge from a dataset to a DAG only if the dataset can start the DAG. The condition that is set here is
    false, like the one for "no datasets", so it starts nothing. It only provides the edges.
    """
    if IS_AIRFLOW_3:
        return
    datasets = {dataset.uri: dataset for task in dag.tasks for dataset in task.inlets}

    class Inputs(PRIVATE["_NullDataset"].load()):  # type: ignore[misc]  # the class is known at run time only
        def iter_dag_dependencies(self, source: str, target: str) -> Iterator[Any]:
            for dataset in datasets.values():
                yield from dataset.iter_dag_dependencies(source=source, target=target)

    dag.timetable.dataset_condition = Inputs()


def read_dags(folder: Path) -> dict[str, Any]:
    """Read the DAGs in a folder or file as Airflow reads them, and return them by id.

    Raises:
        ValueError: a file cannot be read. The message contains the errors.
    """
    options = {} if IS_AIRFLOW_3 else {"include_examples": False}
    bag = PRIVATE["DagBag"].load()(str(folder), **options)
    if bag.import_errors:
        raise ValueError("\n".join(f"{file}: {error}" for file, error in bag.import_errors.items()))
    return dict(bag.dags)


def is_needed(dag_id: str) -> bool:
    """Whether this process needs a DAG: a task also reads the file of its DAG, and needs no other DAG in it."""
    if IS_AIRFLOW_3:
        from airflow.sdk import get_parsing_context
    else:
        from airflow.utils.dag_parsing_context import get_parsing_context  # type: ignore[no-redef,import-not-found]
    return get_parsing_context().dag_id in (None, dag_id)


def logical_date() -> Any:
    """The column of `DagRun` with the logical date."""
    run = PRIVATE["DagRun"].load()
    return run.logical_date if IS_AIRFLOW_3 else run.execution_date


def asset_models() -> tuple[Any, Any, Any]:
    """The models of asset events and of assets, and the column of events that names the asset."""
    names = ("AssetEvent", "AssetModel") if IS_AIRFLOW_3 else ("DatasetEvent", "DatasetModel")
    event, asset = (PRIVATE[name].load() for name in names)
    return event, asset, event.asset_id if IS_AIRFLOW_3 else event.dataset_id


def in_a_task_of_airflow_3() -> bool:
    """Whether this process runs a task of Airflow 3, which must not read the metadata database."""
    if not IS_AIRFLOW_3:
        return False
    try:
        get_current_context()
    except RuntimeError:
        return False
    return True


def run_from_api_server(dag_id: str, run_id: str) -> Any:
    """Ask the api-server for a run, from within a task of Airflow 3."""
    return PRIVATE["SUPERVISOR_COMMS"].load().send(PRIVATE["GetDagRun"].load()(dag_id=dag_id, run_id=run_id))
