"""Timetables whose data interval is the calendar month, or the ISO week, that contains a run's logical date.

Airflow's own interval timetable agrees with that for scheduled and backfilled runs, but gives a manual run (`dags
test`, `dags trigger`, the UI) the last interval that was complete at its date: February for 2024-03-01. Here a date
means the month, or week, it lies in, however the run came about, and whatever `[core] default_timezone` is.

Airflow 3 names a run after the time from which it may run, and shows that time wherever it lists runs. For a month that
would be the first of the next one, so that March's run would be called `scheduled__2023-04-01…`. Here it is the
month's last second. What a run by hand is about cannot be told from its name: it gets a note.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, date, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pendulum
from airflow.configuration import AIRFLOW_HOME
from airflow.listeners import hookimpl
from airflow.providers.common.compat.sdk import AirflowPlugin, conf
from airflow.timetables.base import DataInterval
from airflow.timetables.interval import CronDataIntervalTimetable
from pendulum import datetime

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    from airflow.timetables.base import DagRunInfo, TimeRestriction, Timetable
    from pendulum import DateTime

log = logging.getLogger(__name__)

LAST_MOMENT = timedelta(seconds=1)
"""So long before its interval has ended a run may begin: its name and "Run After" then lie in the interval. Never
midnight: March's run would be given the name that February's has where that was made by an earlier version."""

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


def is_held(dag_id: str) -> bool:
    """Whether `make backfill` has unpaused the DAG only to run what was asked for: its schedule is held back meanwhile.

    The command says so in a file in Airflow's home (include/local/command_lock.py). Nobody else makes one.
    """
    try:
        note = json.loads((Path(AIRFLOW_HOME) / "backfill.json").read_text())
    except FileNotFoundError:
        return False
    return bool(note["was_paused"] and note["dag_id"] == dag_id)


class _CalendarTimetable(CronDataIntervalTimetable):
    """A cron interval timetable whose manual runs cover the interval that contains their date.

    Args:
        first: where the schedule (and so the catch-up) begins, for a DAG whose start date is START_DATE. A DAG's own
            start date cannot say that: a run of an earlier date, manual or backfilled, would be a success without
            a single task (3.3), or never end (2.11).
        dag_id: the DAG's, for a schedule that a backfill command may hold back.
    """

    cron = ""
    param = ""
    """The key of a run's configuration that comes before its date."""

    def __init__(self, first: date | None = None, dag_id: str | None = None) -> None:
        super().__init__(self.cron, timezone="UTC")
        self.description = type(self).description  # the parent has put the cron expression in words there
        self.first = first
        self.dag_id = dag_id

    def infer_manual_data_interval(self, *, run_after: DateTime) -> DataInterval:
        start = self._align_to_prev(_in_utc(run_after))
        return DataInterval(start=start, end=self._get_next(start))

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        # The scheduler asks from the DAG's start date on, a backfill from its own.
        is_schedule = restriction.earliest == START_DATE
        if is_schedule and self.dag_id and is_held(self.dag_id):
            return None
        if self.first and is_schedule:
            restriction = restriction._replace(earliest=datetime(self.first.year, self.first.month, self.first.day))
        elif restriction.catchup and restriction.earliest and restriction.earliest != START_DATE:
            # A backfill from a date to a date: it has the months, or weeks, that both of them lie in.
            restriction = restriction._replace(
                earliest=self._align_to_prev(_in_utc(restriction.earliest)),
                latest=restriction.latest and _in_utc(restriction.latest),
            )
        info = super().next_dagrun_info(
            last_automated_data_interval=last_automated_data_interval, restriction=restriction
        )
        return info and info._replace(run_after=info.data_interval.end - LAST_MOMENT)

    def calendar_partition(self, conf: Mapping[str, Any], logical_date: DateTime | None) -> str | None:
        """What a run is about, as a reader would say it ("Month 2023-02"); None for a run that is about nothing.

        Raises:
            ValueError: the month or week in its configuration is none.
        """
        day = self._chosen_day(conf[self.param]) if conf.get(self.param) else logical_date and _in_utc(logical_date)
        return day and self._in_words(self._align_to_prev(datetime(day.year, day.month, day.day)))

    def _chosen_day(self, chosen: Any) -> date:
        raise NotImplementedError

    def _in_words(self, start: DateTime) -> str:
        raise NotImplementedError

    def serialize(self) -> dict[str, str | None]:
        # The parent's form also holds the cron expression, which is not ours to vary.
        return {"first": self.first.isoformat() if self.first else None, "dag_id": self.dag_id}

    @classmethod
    def deserialize(cls, data: dict[str, str | None]) -> Timetable:
        first = data.get("first")
        return cls(date.fromisoformat(first) if first else None, data.get("dag_id"))


class CalendarMonthTimetable(_CalendarTimetable):
    """One run a calendar month (UTC), made when the month has ended."""

    cron = "0 0 1 * *"
    param = "month"
    description = "One run a calendar month, made when the month has ended"

    def _chosen_day(self, chosen: Any) -> date:
        return date.fromisoformat(f"{chosen}-01")

    def _in_words(self, start: DateTime) -> str:
        return f"Month {start:%Y-%m}"


class CalendarWeekTimetable(_CalendarTimetable):
    """One run an ISO week, Monday to Monday (UTC), made when the week has ended."""

    cron = "0 0 * * 1"
    param = "week"
    description = "One run a week, Monday to Monday, made when the week has ended"

    def _chosen_day(self, chosen: Any) -> date:
        return date.fromisoformat(chosen)

    def _in_words(self, start: DateTime) -> str:
        return f"Week {start:%Y-%m-%d} to {start.add(days=6):%Y-%m-%d}"


class RunNotes:
    """Notes on a run by hand, when it begins, which month or week it is about. The scheduler calls it."""

    @hookimpl
    def on_dag_run_running(self, dag_run: Any) -> None:
        """Give the run a note, unless it has one. The scheduler stores it, with the run's new state."""
        text = self._text(dag_run)
        if not text:
            return
        from sqlalchemy.orm import object_session

        # An error of the database is not caught: the scheduler's session is of no use after it, and it has to know.
        session = object_session(dag_run)
        if session is not None:
            with session.no_autoflush:
                if dag_run.dag_run_note is None:
                    dag_run.note = text

    def _text(self, dag_run: Any) -> str:
        try:
            timetable = getattr(getattr(dag_run, "dag", None), "timetable", None)
            # Not by class: a DAG that was read from its file may have another copy of this module than the plugin.
            if not hasattr(timetable, "calendar_partition"):
                return ""
            conf = dag_run.conf or {}
            by_hand = str(getattr(dag_run.run_type, "value", dag_run.run_type)) == "manual"
            if not by_hand and not conf.get(timetable.param):  # its name says it
                return ""
            return str(timetable.calendar_partition(conf, dag_run.logical_date) or "")
        except Exception:  # a note is not worth a run: 2.11's scheduler would end
            log.warning("no note on what the run %s is about", getattr(dag_run, "run_id", "?"), exc_info=True)
            return ""


class CalendarTimetablesPlugin(AirflowPlugin):
    """Registers the timetables, so that Airflow can restore a DAG's schedule from its metadata database; the notes."""

    name = "calendar_timetables"
    timetables: ClassVar = [CalendarMonthTimetable, CalendarWeekTimetable]
    listeners: ClassVar = [RunNotes()]
