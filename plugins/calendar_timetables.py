"""Timetables whose data interval is the calendar month, or the ISO week, that contains a run's logical date.

Airflow's own interval timetable agrees with that for scheduled and backfilled runs, but gives a manual run (`dags
test`, `dags trigger`, the UI) the last interval that was complete at its date: February for 2024-03-01. Here a date
means the month or week that contains it, whatever started the run and whatever `[core] default_timezone` is.

Airflow 3 names a run after the time from which it may start, and lists runs with that time. For a month, that would be
the first day of the next month, and March's run would be called `scheduled__2023-04-01…`. Here it is the month's last
second. The name of a manual run does not show its month or week, so the run gets a note.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, date, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.configuration import AIRFLOW_HOME
from airflow.listeners import hookimpl
from airflow.providers.common.compat.sdk import AirflowPlugin, conf
from airflow.timetables.base import DataInterval
from airflow.timetables.interval import CronDataIntervalTimetable
from pendulum import datetime
from pendulum.tz import get_local_timezone

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    from airflow.timetables.base import DagRunInfo, TimeRestriction, Timetable
    from pendulum import DateTime

log = logging.getLogger(__name__)

LAST_MOMENT = timedelta(seconds=1)
"""How long before the end of its interval a run may start, so that its name and "Run After" lie in the interval. It is
not midnight: March's run would get the name that an earlier version of this timetable gave February's."""

START_DATE = datetime(2000, 1, 1)
"""A start date before all data: every month can be run, and one that the TLC has not published fails with a message."""


def written_dates(moment: dt.datetime) -> set[date]:
    """The dates that a user may have written for this moment: one, or two if it is ambiguous.

    Airflow reads a date without an offset in `[core] default_timezone`, and stores it in UTC. A midnight in that zone
    is a date that a user wrote; a midnight in UTC is a date of the schedule, or one with an offset. Any other moment
    can be either.
    """
    zone = conf.get("core", "default_timezone", fallback="utc")
    default = get_local_timezone() if zone == "system" else pendulum.timezone(zone)
    readings = [moment.astimezone(UTC), moment.astimezone(default)]
    midnights = {reading.date() for reading in readings if reading.time().replace(microsecond=0) == time()}
    return midnights or {reading.date() for reading in readings}


def _in_utc(moment: DateTime) -> DateTime:
    """The date that a user wrote for the moment, at midnight in UTC; the moment in UTC if that date is ambiguous."""
    written = written_dates(moment)
    if len(written) > 1:
        return moment.in_timezone("UTC")
    (day,) = written
    return datetime(day.year, day.month, day.day)


def is_held(dag_id: str) -> bool:
    """Whether `make backfill` has unpaused the DAG only for its own runs, so that the schedule must make none.

    The command says so in a file in Airflow's home (include/local/command_lock.py), which nothing else creates.
    """
    try:
        note = json.loads((Path(AIRFLOW_HOME) / "backfill.json").read_text())
    except FileNotFoundError:
        return False
    return bool(note["was_paused"] and note["dag_id"] == dag_id)


class _CalendarTimetable(CronDataIntervalTimetable):
    """A cron interval timetable whose manual runs cover the interval that contains their date.

    Args:
        first: the date at which the schedule (and so the catch-up) begins, for a DAG whose start date is START_DATE.
            The DAG's own start date cannot be later: a run for a date before it, manual or backfilled, would succeed
            without running a task (3.3), or never end (2.11).
        dag_id: the DAG whose schedule a backfill command may hold back.
    """

    cron = ""
    unit = ""
    """The interval, as pendulum names it; also the key in a run's configuration that takes precedence over its date."""

    def __init__(self, first: date | None = None, dag_id: str | None = None) -> None:
        super().__init__(self.cron, timezone="UTC")
        self.description = type(self).description  # the parent has set it to the cron expression in words
        self.first = first
        self.dag_id = dag_id

    def _interval(self, moment: DateTime) -> DataInterval:
        start = _in_utc(moment).start_of(self.unit)
        return DataInterval(start=start, end=start.add(**{f"{self.unit}s": 1}))

    def infer_manual_data_interval(self, *, run_after: DateTime) -> DataInterval:
        return self._interval(run_after)

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        # The scheduler passes the DAG's start date; a backfill passes its own first date.
        is_schedule = restriction.earliest == START_DATE
        if is_schedule and self.dag_id and is_held(self.dag_id):
            return None
        if self.first and is_schedule:
            restriction = restriction._replace(earliest=datetime(self.first.year, self.first.month, self.first.day))
        elif restriction.catchup and restriction.earliest and restriction.earliest != START_DATE:
            # A backfill includes the months, or weeks, that contain its first and last dates.
            restriction = restriction._replace(
                earliest=self._interval(restriction.earliest).start,
                latest=restriction.latest and _in_utc(restriction.latest),
            )
        info = super().next_dagrun_info(
            last_automated_data_interval=last_automated_data_interval, restriction=restriction
        )
        if info is None or info.data_interval is None:
            return info
        return info._replace(run_after=info.data_interval.end - LAST_MOMENT)

    def calendar_partition(self, conf: Mapping[str, Any], logical_date: DateTime | None) -> str | None:
        """The run's month or week as a reader would say it ("Month 2023-02"); None if the run has neither.

        Raises:
            ValueError: the month or week in the configuration is invalid.
        """
        if chosen := conf.get(self.unit):
            day = self._chosen_day(chosen)
            return self._title(self._interval(datetime(day.year, day.month, day.day)).start)
        return self._title(self._interval(logical_date).start) if logical_date else None

    def _chosen_day(self, chosen: Any) -> date:
        raise NotImplementedError

    def _title(self, start: DateTime) -> str:
        raise NotImplementedError

    def serialize(self) -> dict[str, str | None]:
        # The parent's form also holds the cron expression, which is fixed here.
        return {"first": self.first.isoformat() if self.first else None, "dag_id": self.dag_id}

    @classmethod
    def deserialize(cls, data: dict[str, str | None]) -> Timetable:
        first = data.get("first")
        return cls(date.fromisoformat(first) if first else None, data.get("dag_id"))


class CalendarMonthTimetable(_CalendarTimetable):
    """One run per calendar month (UTC), created when the month has ended."""

    cron = "0 0 1 * *"
    unit = "month"
    description = "One run per calendar month, created when the month has ended"

    def _chosen_day(self, chosen: Any) -> date:
        return date.fromisoformat(f"{chosen}-01")

    def _title(self, start: DateTime) -> str:
        return f"Month {start:%Y-%m}"


class CalendarWeekTimetable(_CalendarTimetable):
    """One run per ISO week, Monday to Monday (UTC), created when the week has ended."""

    cron = "0 0 * * 1"
    unit = "week"
    description = "One run per week, Monday to Monday, created when the week has ended"

    def _chosen_day(self, chosen: Any) -> date:
        return date.fromisoformat(chosen)

    def _title(self, start: DateTime) -> str:
        return f"Week {start:%Y-%m-%d} to {start.add(days=6):%Y-%m-%d}"


class RunNotes:
    """When a manual run starts, adds a note that names its month or week. The scheduler calls it."""

    @hookimpl
    def on_dag_run_running(self, dag_run: Any) -> None:
        """Add the note unless the run has one. The scheduler stores it together with the run's new state."""
        text = self._text(dag_run)
        if not text:
            return
        from sqlalchemy.orm import object_session

        # A database error is not caught: the scheduler's session cannot be used after it, so the scheduler must know.
        session = object_session(dag_run)
        if session is not None:
            with session.no_autoflush:
                if dag_run.dag_run_note is None:
                    dag_run.note = text

    def _text(self, dag_run: Any) -> str:
        try:
            timetable: Any = getattr(getattr(dag_run, "dag", None), "timetable", None)
            # Not isinstance: a DAG that was read from its file may have another copy of this module than the plugin.
            if not hasattr(timetable, "calendar_partition"):
                return ""
            conf = dag_run.conf or {}
            by_hand = str(getattr(dag_run.run_type, "value", dag_run.run_type)) == "manual"
            if not by_hand and not conf.get(timetable.unit):  # the run's name already shows it
                return ""
            return str(timetable.calendar_partition(conf, dag_run.logical_date) or "")
        except Exception:  # a missing note must not stop a run: 2.11's scheduler would exit
            log.warning("no note on the month or week of the run %s", getattr(dag_run, "run_id", "?"), exc_info=True)
            return ""


class CalendarTimetablesPlugin(AirflowPlugin):
    """Registers the timetables, so that Airflow can restore schedules from its metadata database, and the notes."""

    name = "calendar_timetables"
    timetables = [CalendarMonthTimetable, CalendarWeekTimetable]  # noqa: RUF012 - as Airflow declares them
    listeners = [RunNotes()]  # noqa: RUF012
