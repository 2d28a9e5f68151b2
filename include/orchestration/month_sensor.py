"""A sensor that waits until a month's trips are in the warehouse, no matter which run loaded them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.standard.sensors.external_task import ExternalTaskSensor

from include.orchestration.month_runs import FAILED, SETTLED, MonthRun, unsettled_runs
from include.orchestration.retry_policy import no_retry_when_permanent

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

LOAD = "load"


class MonthLoadedSensor(ExternalTaskSensor):
    """An ExternalTaskSensor for the task `load` of `taxi_trips_<fleet>` that identifies runs by month.

    The provider's sensor identifies a run of the other DAG by its exact logical date. But a month can also be run by
    hand, with any logical date or with `month` in the form. This sensor succeeds once the table `loads` has the month
    and no later run of the month is in progress. It fails without retries if the month is not loaded and its newest run
    has failed. If the month is loaded and a later run fails, for example because the audit refused a new edition, the
    loaded month is still complete and the sensor succeeds.

    The sensor opens the warehouse, so it belongs in the pool `warehouse`. It also takes all arguments of
    ExternalTaskSensor.

    Args:
        fleet: the fleet whose trips are needed.
        month: "2023-02" (templated).
    """

    template_fields = [*ExternalTaskSensor.template_fields, "fleet", "month"]  # noqa: RUF012 - the provider's type
    # The provider's link expects a run of the other DAG with this run's id.
    operator_extra_links: list[BaseOperatorLink] = []  # noqa: RUF012 - the provider's type

    def __init__(self, *, fleet: str, month: str, **kwargs: Any) -> None:
        super().__init__(external_dag_id=f"taxi_trips_{fleet}", external_task_id=LOAD, **kwargs)
        self.fleet = fleet
        self.month = month

    @no_retry_when_permanent
    def poke(self, context: Context) -> bool:  # noqa: ARG002 - the provider's signature
        loaded_at = _loaded_at(self.fleet, self.month)
        newest = self._newest_run_since(loaded_at)
        if newest is None and loaded_at:
            since = f"{loaded_at:%Y-%m-%d %H:%M:%S}"
            self.log.info("%s %s has been loaded since %s UTC", self.fleet, self.month, since)
            return True
        if newest is None:
            self.log.info("%s is not loaded: trigger %s for it, or unpause that DAG", self.month, self.external_dag_id)
            return False
        if newest.state == "failed" or FAILED & set(newest.tasks.values()):
            if not loaded_at:
                raise AirflowFailException(self._failure(newest))
            self.log.warning(
                "%s %s has been loaded since %s UTC and stays loaded, although a later run of %s has failed: %s",
                *(self.fleet, self.month, f"{loaded_at:%Y-%m-%d %H:%M:%S}", self.external_dag_id, newest.run_id),
            )
            return True
        self.log.info(
            "Waiting for %s of %s (%s): its task `%s` is %s",
            newest.run_id,
            self.external_dag_id,
            newest.state,
            LOAD,
            newest.tasks[LOAD],
        )
        return False

    def _newest_run_since(self, loaded_at: datetime | None) -> MonthRun | None:
        """Return the month's newest run that has not loaded it, or None; only runs since the last load count."""
        # A skipped load counts as settled, but only if the month is loaded.
        settled = SETTLED if loaded_at else SETTLED - {"skipped"}
        runs = [
            run
            for run in unsettled_runs(self.external_dag_id, [LOAD], settled)
            if run.month == self.month
            and run.state != "success"
            and (loaded_at is None or run.started is None or run.started > loaded_at)
        ]
        return runs[-1] if runs else None

    def _failure(self, run: MonthRun) -> str:
        failed = next((r.failed for r in unsettled_runs(self.external_dag_id) if r.run_id == run.run_id), ())
        return (
            f"{self.external_dag_id} has failed for {self.month}, in {' and '.join(failed) or 'no task of its own'} "
            f"(run {run.run_id}), and this run needs that month's trips. Its log says what is wrong: fix that, clear "
            "the failed task there, then clear this one"
        )


def _loaded_at(fleet: str, month: str) -> datetime | None:
    """Return when the month was last loaded, or None."""
    from include.nyc_taxi.trips.loaded import loaded_months
    from warehouse_hook import WarehouseHook

    with WarehouseHook().transaction() as con:
        load = loaded_months(con, fleet).get(month)
    return load.loaded_at if load else None
