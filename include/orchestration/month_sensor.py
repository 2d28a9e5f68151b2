"""Sensors for a table that another DAG makes, no matter which run of it made what is needed.

`TableSensor` is what they have in common, and `MonthLoadedSensor` waits for a month's trips. `table_sensors` has those
for other tables, and `tables.needs` chooses the one that fits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.standard.sensors.external_task import ExternalTaskSensor

from include.nyc_taxi import catalogue
from include.orchestration.month import month_of_run
from include.orchestration.month_runs import FAILED, SETTLED, MonthRun, unsettled_runs
from include.orchestration.retry_policy import no_retry_when_permanent

if TYPE_CHECKING:
    import duckdb
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

LOAD = "load"


@dataclass(frozen=True)
class Found:
    """What the warehouse has of what a sensor waits for.

    Attributes:
        ready: whether nothing is missing.
        what: the finding, as the beginning of a sentence for the log.
        loaded_at: if it is about a month, when the month was last loaded (UTC), or None.
        run_id: the run that loaded it.
    """

    ready: bool
    what: str
    loaded_at: datetime | None = None
    run_id: str | None = None


class TableSensor(ExternalTaskSensor):
    """An ExternalTaskSensor that looks into the warehouse, and identifies runs of the other DAG by what they make.

    The provider's sensor identifies a run of the other DAG by its exact logical date. But a month can also be run by
    hand, with any logical date or with `month` in the form. This sensor succeeds once the warehouse has what is needed,
    no matter who made it, unless a run is about to replace it. It fails without retries if that is missing and the
    newest run that was to make it has failed. Otherwise it waits until its `timeout`, and its log says what for.

    The sensor opens the warehouse for a moment, so it belongs in the pool `warehouse`. It also takes all arguments of
    ExternalTaskSensor.

    Args:
        is_one_of_all: whether it waits for this fleet only because a task needs all fleets. Then there is nothing to
            wait for in a month before the fleet's first file.
    """

    table: str
    fleet: str | None = None
    month: str | None = None

    def __init__(self, *, is_one_of_all: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.is_one_of_all = is_one_of_all

    # The provider's link expects a run of the other DAG with this run's id.
    operator_extra_links: list[BaseOperatorLink] = []  # noqa: RUF012 - the provider's type

    kept: ClassVar[str] = "there"
    """A word for the log: what is found stays … although a later run has failed."""

    def look(self, con: duckdb.DuckDBPyConnection | None) -> Found:
        """Look into the warehouse; None if there is none yet."""
        raise NotImplementedError

    def runs_to_come(self, found: Found) -> list[MonthRun]:
        """Return the runs that have not made yet what they are to make, ordered by start. The last one decides."""
        raise NotImplementedError

    def is_enough(self, found: Found, failed: MonthRun) -> bool:  # noqa: ARG002 - others need it
        """Whether what was found is as it should be, although this run has failed."""
        return found.ready

    def need(self) -> str:
        """What is needed, as the end of a sentence: "this task needs …"."""
        raise NotImplementedError

    @no_retry_when_permanent
    def poke(self, context: Context) -> bool:  # noqa: ARG002 - the provider's signature
        """Look once, as the class says."""
        first = catalogue.fleet(self.fleet).first_month if self.fleet else None
        if self.is_one_of_all and self.month and first and self.month < first:
            self.log.info("The TLC has published no file of %s before %s", self.fleet, first)
            return True
        found = self._found()
        runs = self.runs_to_come(found)
        if not runs:
            self.log.info("%s", found.what if found.ready else f"{found.what}, or unpause that DAG")
            return found.ready
        newest = runs[-1]
        if has_failed(newest):
            if not self.is_enough(found, newest):
                raise AirflowFailException(self._failure(newest))
            self.log.warning(
                "%s and stays %s, although a later run of %s has failed: %s",
                *(found.what, self.kept, self.dag_of(newest), newest.run_id),
            )
            return True
        states = ", ".join(f"`{task}` is {state}" for task, state in sorted(newest.tasks.items()))
        self.log.info(
            "Waiting for %s of %s (%s): its task %s", newest.run_id, self.dag_of(newest), newest.state, states
        )
        return False

    def dag_of(self, run: MonthRun) -> str:
        """The DAG of a run."""
        return run.dag_id or self.external_dag_id

    def _found(self) -> Found:
        from warehouse_hook import WarehouseHook

        hook = WarehouseHook()
        if not hook.exists():
            return self.look(None)
        with hook.transaction() as con:
            return self.look(con)

    def _failure(self, run: MonthRun) -> str:
        dag_id = self.dag_of(run)
        failed = next((r.failed for r in unsettled_runs(dag_id) if r.run_id == run.run_id), ())
        tasks = " and ".join(failed) or "no task of its own"
        made = f" for {run.month}" if run.month else ""
        return (
            f"{dag_id} has failed{made}, in {tasks} (run {run.run_id}), and this task needs {self.need()}. The log of "
            "that run says what is wrong: fix that, clear the failed task there, then clear this one"
        )


class MonthLoadedSensor(TableSensor):
    """Waits until the task `load` of `taxi_trips_<fleet>` has loaded a month.

    It succeeds once the table `loads` has the month and no later run of the month is in progress. If the month is
    loaded and a later run fails, for example because the audit refused a new edition, the loaded month is still
    complete and the sensor succeeds.

    Args:
        fleet: the fleet whose trips are needed.
        month: "2023-02" (templated).
        table: the table that is needed, if not the fleet's trips: another one that the same task writes.
    """

    template_fields = [*ExternalTaskSensor.template_fields, "fleet", "month"]  # noqa: RUF012 - the provider's type
    kept = "loaded"
    fleet: str
    month: str

    def __init__(self, *, fleet: str, month: str, table: str | None = None, **kwargs: Any) -> None:
        super().__init__(external_dag_id=f"taxi_trips_{fleet}", external_task_id=LOAD, **kwargs)
        self.fleet = fleet
        self.month = month
        self.table = table or catalogue.fleet(fleet).table

    def look(self, con: duckdb.DuckDBPyConnection | None) -> Found:
        from include.nyc_taxi.trips.loaded import loaded_months

        load = loaded_months(con, self.fleet).get(self.month) if con else None
        if load is None:
            return Found(False, f"{self.month} is not loaded: trigger {self.external_dag_id} for it")
        since = f"{load.loaded_at:%Y-%m-%d %H:%M:%S}"
        what = f"{self.fleet} {self.month} has been loaded since {since} UTC"
        return Found(True, what, load.loaded_at, load.run_id)

    def runs_to_come(self, found: Found) -> list[MonthRun]:
        # A skipped load counts as settled, but only if the month is loaded.
        runs = runs_of(self.external_dag_id, LOAD, self.month, skipped=not found.ready)
        return [run for run in runs if is_since(run.started, found.loaded_at)]

    def need(self) -> str:
        return "that month's trips"


def runs_of(
    dag_id: str,
    task_id: str,
    partition: str | None,
    *,
    skipped: bool,
    partition_of: Callable[[Any], str | None] = month_of_run,
) -> list[MonthRun]:
    """Return the DAG's runs that have not ended well and in which this task has not, ordered by start.

    Args:
        partition: the month or week that the runs are to make; None for all runs.
        skipped: whether a task that was skipped has not ended well.
        partition_of: tells what a run makes.
    """
    settled = SETTLED - {"skipped"} if skipped else SETTLED
    other = {} if partition_of is month_of_run else {"partition": partition_of}
    runs = unsettled_runs(dag_id, [task_id], settled, **other)
    return [run for run in runs if partition in (None, run.month) and run.state != "success"]


def has_failed(run: MonthRun) -> bool:
    """Whether the run will not make anything any more, unless somebody clears it."""
    return run.state == "failed" or bool(FAILED & set(run.tasks.values()))


def is_since(moment: datetime | None, loaded_at: datetime | None) -> bool:
    """Whether a moment is later than a load; also if it is still to come, or if there was no load."""
    return moment is None or loaded_at is None or moment > loaded_at
