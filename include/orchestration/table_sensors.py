"""The sensors for tables other than those of trips: marts, figures by month or week, and tables as a whole.

`tables.needs` chooses the sensor that fits a table. `month_sensor` has the one for a month's trips.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.sensors.external_task import ExternalTaskSensor

from include.nyc_taxi.months import Month, monday_of
from include.orchestration.month import month_of_run
from include.orchestration.month_sensor import LOAD, Found, TableSensor, has_failed, is_since, runs_of
from include.orchestration.week import week_of_run

if TYPE_CHECKING:
    import duckdb

    from include.orchestration.month_runs import MonthRun

_TEMPLATED = ExternalTaskSensor.template_fields


class MartBuiltSensor(TableSensor):
    """Waits until a mart has a month of a fleet, built from the month's latest load.

    The table `marts.built_months` records from which load each mart has built each month, in a run of
    `trips_marts_<fleet>` or by `make dbt`. If the month is not loaded or not built, the sensor fails when the newest
    run that was to do this has failed.

    Args:
        table: the mart, such as "marts.daily_trips".
        marts: the marts whose record counts, without the schema: the mart itself, or those that a view reads.
        fleet: the fleet whose month is needed.
        month: "2023-02" (templated).
        loader: the DAG that loads the fleet's months.
    """

    template_fields = [*_TEMPLATED, "fleet", "month"]  # noqa: RUF012 - the provider's type
    fleet: str
    month: str

    def __init__(self, *, table: str, marts: Sequence[str], fleet: str, month: str, loader: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table, self.marts, self.fleet, self.month, self.loader = table, list(marts), fleet, month, loader

    def look(self, con: duckdb.DuckDBPyConnection | None) -> Found:
        from include.nyc_taxi.trips.loaded import loaded_months
        from include.nyc_taxi.warehouse import made

        what = f"{self.fleet} {self.month}"
        load = loaded_months(con, self.fleet).get(self.month) if con else None
        if con is None or load is None:
            return Found(
                False, f"{self.table} lacks {what}, which is not loaded: trigger {self.loader} for {self.month}"
            )
        build = f"trigger {self.external_dag_id} for {self.month}"
        sources = made.built_from(con, self.marts, self.fleet, Month(self.month).first_day)
        loaded = f"loaded at {_utc(load.loaded_at)}"
        if not made.exists(con, self.table) or None in sources:
            return Found(False, f"{self.table} lacks {what}, {loaded}: {build}", load.loaded_at)
        old = [source for source in sources if source and source != load.loaded_at]
        if old:
            built = f"built from the load of {_utc(min(old))}"
            return Found(False, f"{self.table} has {what}, {built}, but it was {loaded}: {build}", load.loaded_at)
        return Found(True, f"{self.table} has {what}, built from the load of {_utc(load.loaded_at)}", load.loaded_at)

    def runs_to_come(self, found: Found) -> list[MonthRun]:
        if found.ready:  # the month is replaced in one transaction, so a run that builds it again is not waited for
            return []
        (task_id,) = self.external_task_ids or ()
        runs = runs_of(self.external_dag_id, task_id, self.month, skipped=True)
        # The run may have begun before the load, because it waits for it.
        runs = [run for run in runs if is_since(run.ended, found.loaded_at)]
        if not runs and not found.loaded_at:
            runs = runs_of(self.loader, LOAD, self.month, skipped=True)
        return runs

    def need(self) -> str:
        return f"{self.fleet} {self.month} in {self.table}"


class RowsSensor(TableSensor):
    """Waits until a table has rows: any at all, or those of a month or week of a fleet.

    It is for tables of which nothing but their rows says what has been made. If there are none, the sensor fails when
    the newest run that was to make them has failed. Rows of a month also have to be those of the month's latest load.

    Args:
        table: the table, such as "zones" or "trips_by_week".
        fleet: the fleet whose rows are needed; None for all rows.
        month: "2023-02" (templated); None unless a run makes the rows of a month.
        week: any day of the week, "2023-01-30" (templated); None unless a run makes the rows of a week.
        column: the column with the first day of the month or week.
    """

    template_fields = [*_TEMPLATED, "fleet", "month", "week"]  # noqa: RUF012 - the provider's type

    def __init__(
        self,
        *,
        table: str,
        fleet: str | None = None,
        month: str | None = None,
        week: str | None = None,
        column: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.table, self.fleet, self.month, self.week, self.column = table, fleet, month, week, column

    def look(self, con: duckdb.DuckDBPyConnection | None) -> Found:
        from include.nyc_taxi.trips.loaded import loaded_months
        from include.nyc_taxi.warehouse import made

        load = loaded_months(con, self.fleet).get(self.month) if con and self.fleet and self.month else None
        loaded = (load.loaded_at, load.run_id) if load else (None, None)
        if con and (load or not self.month) and made.has_rows(con, self.table, **self._values()):
            return Found(True, f"{self.table} has {self._rows()}", *loaded)
        run = f"trigger {self.external_dag_id}{f' for {self._partition()}' if self._partition() else ''}"
        return Found(False, f"{self.table} does not have {self._rows()} yet: {run}", *loaded)

    def runs_to_come(self, found: Found) -> list[MonthRun]:
        if found.ready and not self.month:  # rows are replaced in one transaction: they are there, old or new
            return []
        (task_id,) = self.external_task_ids or ()
        partition_of = week_of_run if self.week else month_of_run
        runs = runs_of(
            self.external_dag_id, task_id, self._partition(), skipped=not found.ready, partition_of=partition_of
        )
        if not self.month:
            return runs
        runs = [run for run in runs if run.run_id == found.run_id or is_since(run.started, found.loaded_at)]
        # A later run that has failed does not matter as much as the one that has loaded the month.
        has_loaded = [run for run in runs if run.run_id == found.run_id]
        return [*runs, *has_loaded] if runs and has_failed(runs[-1]) else runs

    def is_enough(self, found: Found, failed: MonthRun) -> bool:
        return found.ready and failed.run_id != found.run_id  # else the rows are those of the load before

    def need(self) -> str:
        return f"{self._rows()} in {self.table}"

    def _partition(self) -> str | None:
        return monday_of(self.week).isoformat() if self.week else self.month

    def _values(self) -> dict[str, str | date]:
        """The values that the rows have, by column."""
        values: dict[str, str | date] = {"fleet": self.fleet} if self.fleet else {}
        if self.column and self.week:
            values[self.column] = monday_of(self.week)
        elif self.column and self.month:
            values[self.column] = Month(self.month).first_day
        return values

    def _rows(self) -> str:
        partition = self._partition()
        if partition is None:
            return "rows"
        return f"{self.fleet} {f'week {partition}' if self.week else partition}"


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
