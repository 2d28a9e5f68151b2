"""Timetables whose data interval is the calendar month, or the ISO week, that contains a run's logical date.

Airflow's own interval timetable agrees with that for scheduled and backfilled runs, but gives a manual run (`dags
test`, `dags trigger`, the UI) the last interval that was complete at its date: February for 2024-03-01. Here a date
means the month, or week, it lies in, however the run came about, and whatever `[core] default_timezone` is.
"""

from __future__ import annotations

from datetime import UTC, date, time
from typing import TYPE_CHECKING, ClassVar

import pendulum
from airflow.providers.common.compat.sdk import AirflowPlugin, conf
from airflow.timetables.base import DataInterval
from airflow.timetables.interval import CronDataIntervalTimetable
from pendulum import datetime

if TYPE_CHECKING:
    import datetime as dt

    from airflow.timetables.base import DagRunInfo, TimeRestriction, Timetable
    from pendulum import DateTime

START_DATE = datetime(2000, 1, 1)
"""A start date before all data: each month can be run, and one that the TLC has not published says so."""


def written_dates(moment: dt.datetime) -> set[date]:
    """The dates that a moment may have been written as: one, unless it is at the edge of a day.

    Airflow reads a date without an offset in `[core] default_timezone`, and keeps it in UTC. A midnight there is a date
    that somebody wrote, one in UTC a date of the schedule or with an offset; any other moment can be either.
    """
    zone = conf.get("core", "default_timezone", fallback="utc")
    there = pendulum.local_timezone() if zone == "system" else pendulum.timezone(zone)
    readings = [moment.astimezone(UTC), moment.astimezone(there)]
    midnights = {reading.date() for reading in readings if reading.time().replace(microsecond=0) == time()}
    return midnights or {reading.date() for reading in readings}


def _in_utc(moment: DateTime) -> DateTime:
    """The midnight in UTC of the date that the moment was written as, where that is certain; else the moment."""
    written = written_dates(moment)
    if len(written) > 1:
        return moment
    (day,) = written
    return datetime(day.year, day.month, day.day)


class _CalendarTimetable(CronDataIntervalTimetable):
    """A cron interval timetable whose manual runs cover the interval that contains their date.

    Args:
        first: where the schedule (and so the catch-up) begins, for a DAG whose start date is START_DATE. A DAG's own
            start date cannot say that: a run of an earlier date, manual or backfilled, would be a success without
            a single task (3.3), or never end (2.11).
    """

    cron = ""

    def __init__(self, first: date | None = None) -> None:
        super().__init__(self.cron, timezone="UTC")
        self.description = type(self).description  # the parent has put the cron expression in words there
        self.first = first

    def infer_manual_data_interval(self, *, run_after: DateTime) -> DataInterval:
        start = self._align_to_prev(_in_utc(run_after))
        return DataInterval(start=start, end=self._get_next(start))

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        # The scheduler asks from the DAG's start date on, a backfill from its own.
        if self.first and restriction.earliest == START_DATE:
            restriction = restriction._replace(earliest=datetime(self.first.year, self.first.month, self.first.day))
        elif restriction.catchup and restriction.earliest and restriction.earliest != START_DATE:
            # A backfill from a date to a date: it has the months, or weeks, that both of them lie in.
            restriction = restriction._replace(
                earliest=self._align_to_prev(_in_utc(restriction.earliest)),
                latest=restriction.latest and _in_utc(restriction.latest),
            )
        return super().next_dagrun_info(
            last_automated_data_interval=last_automated_data_interval, restriction=restriction
        )

    def serialize(self) -> dict[str, str | None]:
        # The parent's form also holds the cron expression, which is not ours to vary.
        return {"first": self.first.isoformat() if self.first else None}

    @classmethod
    def deserialize(cls, data: dict[str, str | None]) -> Timetable:
        first = data.get("first")
        return cls(date.fromisoformat(first) if first else None)


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
