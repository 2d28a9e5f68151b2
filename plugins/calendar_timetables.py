"""Timetables whose data interval is the calendar month, or the ISO week, that contains a run's logical date.

Airflow's own interval timetable agrees with that for scheduled and backfilled runs, but gives a manual run (`dags
test`, `dags trigger`, the UI) the last interval that was complete at its date: February for 2024-03-01. Here a date
means the month, or week, it lies in, however the run came about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from airflow.providers.common.compat.sdk import AirflowPlugin
from airflow.timetables.base import DataInterval
from airflow.timetables.interval import CronDataIntervalTimetable

if TYPE_CHECKING:
    from airflow.timetables.base import Timetable
    from pendulum import DateTime


class _CalendarTimetable(CronDataIntervalTimetable):
    """A cron interval timetable whose manual runs cover the interval that contains their date."""

    cron = ""

    def __init__(self) -> None:
        super().__init__(self.cron, timezone="UTC")
        self.description = type(self).description  # the parent has put the cron expression in words there

    def infer_manual_data_interval(self, *, run_after: DateTime) -> DataInterval:
        start = self._align_to_prev(run_after)
        return DataInterval(start=start, end=self._get_next(start))

    def serialize(self) -> dict[str, str]:
        # The parent's form also holds the cron expression, which is not ours to vary.
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, str]) -> Timetable:  # noqa: ARG003 - nothing varies
        return cls()


class CalendarMonthTimetable(_CalendarTimetable):
    """One run a calendar month (UTC), made when the month has ended."""

    cron = "0 0 1 * *"
    description = "One run a calendar month, made when the month has ended"


class CalendarWeekTimetable(_CalendarTimetable):
    """One run an ISO week, Monday to Monday (UTC), made when the week has ended."""

    cron = "0 0 * * 1"
    description = "One run a week, Monday to Monday, made when the week has ended"


class CalendarTimetablesPlugin(AirflowPlugin):
    """Registers the timetables, so that Airflow can restore a DAG's schedule from its metadata database."""

    name = "calendar_timetables"
    timetables: ClassVar = [CalendarMonthTimetable, CalendarWeekTimetable]
