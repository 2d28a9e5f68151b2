"""The sensor that waits until a month's trips are in the warehouse, however that month was run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.standard.sensors.external_task import ExternalTaskSensor

from include.orchestration.month_runs import FAILED, SETTLED, MonthRun, unsettled_runs
from include.orchestration.retry_policy import no_retry_when_permanent

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

LOAD = "load"


class MonthLoadedSensor(ExternalTaskSensor):
    """The provider's ExternalTaskSensor on the task `load` of `taxi_trips_<fleet>`, by month in place of logical date.

    The provider's sensor knows the other DAG's run by its exact logical date. A month may as well have been run by
    hand, on any day of it or on no date with `month` in the form. This one is True once `loads` has the month and no
    later run of it is on its way. It fails for good when the month is not loaded and its newest run has failed. A month
    that is loaded stays as it was when a later run fails (because a new edition was refused, say), and is enough.

    Args:
        fleet: whose trips.
        month: "2023-02" (templated).

    All arguments of ExternalTaskSensor are there too. It opens the warehouse: put it in the pool of those who do.
    """

    template_fields: Sequence[str] = (*ExternalTaskSensor.template_fields, "fleet", "month")
    operator_extra_links = ()  # the provider's link looks for a run of the other DAG that has this run's id

    def __init__(self, *, fleet: str, month: str, **kwargs: Any) -> None:
        super().__init__(external_dag_id=f"taxi_trips_{fleet}", external_task_id=LOAD, **kwargs)
        self.fleet = fleet
        self.month = month

    @no_retry_when_permanent
    def poke(self, context: Context) -> bool:  # noqa: ARG002 - the provider's signature
        loaded_at = _loaded_at(self.fleet, self.month)
        newest = self._newest_run_since(loaded_at)
        if newest is None and loaded_at:
            self.log.info("%s %s is loaded since %s UTC", self.fleet, self.month, f"{loaded_at:%Y-%m-%d %H:%M:%S}")
            return True
        if newest is None:
            self.log.info("%s is not loaded: unpause %s, or trigger it for the month", self.month, self.external_dag_id)
            return False
        if newest.state == "failed" or FAILED & set(newest.tasks.values()):
            if not loaded_at:
                raise AirflowFailException(self._failure(newest))
            self.log.warning(
                "%s %s is loaded since %s UTC and stays so, though a later run of %s has failed: %s",
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
        """The month's newest run that has not loaded it, or None; runs that began before the last load are history."""
        # A skipped load is as good as one that succeeded, but only where there is something loaded.
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
            f"(run {run.run_id}): this week needs that month's trips. Its log says what is wrong; mend that and clear "
            "the failed task there, then clear this one"
        )


def _loaded_at(fleet: str, month: str) -> datetime | None:
    """When the month was loaded last, or None."""
    from include.nyc_taxi.trips.loaded import loaded_months
    from warehouse_hook import WarehouseHook

    with WarehouseHook().transaction() as con:
        load = loaded_months(con, fleet).get(month)
    return load.loaded_at if load else None
