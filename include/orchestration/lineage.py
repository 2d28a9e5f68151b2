"""Lineage that leaves Airflow: OpenLineage events about what tasks have read and made, for Marquez, DataHub and others.

It is optional. Without the provider (`requirements-openlineage.txt`), or without a transport in its configuration,
nothing happens. With it, the provider itself tells when tasks start and end; `assets.event` calls this module, which
adds the datasets. Lineage never fails a task. A receiver that does not answer costs a task at most `longest()` for each
of these events, because they are sent in a thread that the task does not wait for any longer.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf, get_current_context

if TYPE_CHECKING:
    from pathlib import Path

    from include.nyc_taxi.reports.adhoc import Request
    from include.nyc_taxi.reports.adhoc_report import Report
    from include.orchestration.lineage_datasets import Warehouse, Work
    from warehouse_hook import WarehouseHook

log = logging.getLogger(__name__)

_given_up = False


def longest() -> float:
    """How many seconds a task waits until its datasets are sent. After that, the process sends no more of them.

    The provider waits as long for its own events, of a task's start and end.
    """
    return float(conf.getint("openlineage", "execution_timeout", fallback=10))


def is_on() -> bool:
    """Whether the provider is installed, configured and enabled."""
    try:
        from airflow.providers.openlineage.api import is_openlineage_active
    except ImportError:
        return False
    return bool(is_openlineage_active())


def tell(uri: str, facts: Mapping[str, Any]) -> None:
    """Tell what a task has read and made, when it stores `facts` with the event of the asset called `uri`.

    Call it after the warehouse is closed. It never raises an error.
    """

    def describe() -> Work:
        from include.orchestration import lineage_datasets

        return lineage_datasets.of_event(place(), uri, facts)

    _tell(describe)


def tell_refusal(uri: str, month: str | None, error: BaseException) -> None:
    """Tell what the audit has found in a file that it has refused. Other errors say nothing about data."""
    checks = getattr(error, "checks", None)
    if not checks or not month:
        return

    def describe() -> Work:
        from include.orchestration import lineage_datasets

        return lineage_datasets.of_refusal(place(), uri.rpartition("/")[2], month, checks)

    _tell(describe)


def tell_weeks_chart(chart: Path) -> None:
    """Tell that a task has drawn the chart of the weeks, for which it stores no asset event."""

    def describe() -> Work:
        from include.orchestration import lineage_datasets

        return lineage_datasets.of_weeks_chart(chart)

    _tell(describe)


def tell_report_count(request: Request, done: Report) -> None:
    """Tell that a task has counted the trips of a request, for which it stores no asset event."""

    def describe() -> Work:
        from include.orchestration import lineage_datasets

        return lineage_datasets.of_report_count(place(), request, done)

    _tell(describe)


def tell_reading(*names: str) -> None:
    """Tell that a task has read tables or views of the warehouse, and has made no data from them."""

    def describe() -> Work:
        from include.orchestration import lineage_datasets

        return lineage_datasets.of_reading(place(), names)

    _tell(describe)


def place() -> Warehouse:
    """Where the tables of the connection `warehouse` are. It does not open the warehouse."""
    from warehouse_hook import WarehouseHook

    return place_of(WarehouseHook())


def place_of(hook: WarehouseHook) -> Warehouse:
    """Where the tables of a hook's warehouse are, without secrets, and in the same words as dbt's own events."""
    from pathlib import Path

    from include.nyc_taxi.warehouse import lake
    from include.orchestration.lineage_datasets import Warehouse

    database = lake.without_passwords(hook.get_database())
    if hook.is_lake:
        files = hook.connection_extra.get("data_path")
        return Warehouse(f"ducklake:{files}" if files else database, lake.DATABASE)
    return Warehouse(f"duckdb://{database}", Path(database).stem)


def _tell(describe: Callable[[], Work]) -> None:
    try:
        if _given_up or not is_on():
            return
        work = describe()
        _send(work)
    except Exception as error:  # of any kind: the task's work is done, and must not be repeated for this
        log.warning("the lineage of this task is not sent: %s: %s", type(error).__name__, error)


def _send(work: Work) -> None:
    """Send the datasets in a thread, because the client tries again for long where a receiver does not answer."""
    from airflow.providers.openlineage.api import emit_dataset_lineage

    global _given_up
    task_instance = get_current_context()["ti"]
    datasets = {"inputs": list(work.inputs), "outputs": list(work.outputs)}
    sender = threading.Thread(
        target=emit_dataset_lineage, kwargs=datasets | {"task_instance": task_instance}, name="lineage", daemon=True
    )
    sender.start()
    sender.join(longest())
    if sender.is_alive():
        _given_up = True
        log.warning(
            "the lineage of this task may be incomplete: the receiver of OpenLineage events has not answered for %g s. "
            "The task goes on without it",
            longest(),
        )
