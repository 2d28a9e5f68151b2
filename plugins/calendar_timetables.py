"""Timetables whose data interval is the calendar month, or the ISO week, that contains a run's logical date.

Airflow's own interval timetable agrees with that for scheduled and backfilled runs, but gives a manual run (`dags
test`, `dags trigger`, the UI) the last interval that was complete at its date: February for 2024-03-01. Here a date
means the month, or week, it lies in, however the run came about.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from airflow.configuration import AIRFLOW_HOME
from airflow.providers.common.compat.sdk import AirflowPlugin
from airflow.timetables.base import DataInterval
from airflow.timetables.interval import CronDataIntervalTimetable
from pendulum import datetime

if TYPE_CHECKING:
    from airflow.timetables.base import DagRunInfo, TimeRestriction, Timetable
    from pendulum import DateTime

START_DATE = datetime(2000, 1, 1)
"""A start date before all data: each month can be run, and one that the TLC has not published says so."""


def is_held(dag_id: str) -> bool:
    """Whether `make backfill` has unpaused the DAG only to run what was asked for: its schedule is held back meanwhile.

    The command says so in a file in Airflow's home (include/orchestration/local/turn.py). Nobody else makes one.
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

    def __init__(self, first: date | None = None, dag_id: str | None = None) -> None:
        super().__init__(self.cron, timezone="UTC")
        self.description = type(self).description  # the parent has put the cron expression in words there
        self.first = first
        self.dag_id = dag_id

    def infer_manual_data_interval(self, *, run_after: DateTime) -> DataInterval:
        start = self._align_to_prev(run_after)
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
        return super().next_dagrun_info(
            last_automated_data_interval=last_automated_data_interval, restriction=restriction
        )

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
    description = "One run a calendar month, made when the month has ended"


class CalendarWeekTimetable(_CalendarTimetable):
    """One run an ISO week, Monday to Monday (UTC), made when the week has ended."""

    cron = "0 0 * * 1"
    description = "One run a week, Monday to Monday, made when the week has ended"


class CalendarTimetablesPlugin(AirflowPlugin):
    """Registers the timetables, so that Airflow can restore a DAG's schedule from its metadata database."""

    name = "calendar_timetables"
    timetables: ClassVar = [CalendarMonthTimetable, CalendarWeekTimetable]
