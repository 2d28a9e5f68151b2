"""What a backfill command runs: the runs of one fleet's DAG for a range of months or weeks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from include.local import runs, summary
from include.local.errors import CommandError
from include.nyc_taxi.months import Month, month_range, week_range
from include.orchestration.status import loading_command


@dataclass(frozen=True)
class Job:
    """The runs to make.

    Attributes:
        fleet, dag_id: the fleet, and its DAG.
        partitions: the logical dates in order, by each run's name: its month, or its week's Monday.
        summary: makes the closing report from the fleet, the names, and the runs by name.
    """

    fleet: str
    dag_id: str
    partitions: Mapping[str, date]
    summary: Callable[[str, list[str], Mapping[str, runs.Run]], str]

    @property
    def dates(self) -> tuple[str, str]:
        """The first and the last logical date, with their offset: Airflow reads others in its default time zone."""
        days = list(self.partitions.values())
        return f"{days[0]}T00:00:00+00:00", f"{days[-1]}T00:00:00+00:00"

    def runs(self) -> list[runs.Run]:
        """The job's runs that exist, in order."""
        return runs.read_runs(self.dag_id, self.partitions)


def months_job(fleet: str, first: str, last: str) -> Job:
    """The runs of the fleet's months from `first` to `last`.

    Raises:
        CommandError: a month has not ended yet.
    """
    months = month_range(first, last)
    not_ended = [month for month in months if Month(month).end > datetime.now(UTC).date()]
    if not_ended:
        raise CommandError(f"{not_ended[0]} has not ended yet: the last month to ask for is the one before this")
    return Job(fleet, f"taxi_trips_{fleet}", {month: Month(month).first_day for month in months}, summary.of_months)


def weeks_job(fleet: str, first: str, last: str) -> Job:
    """The runs of the fleet's weeks that lie entirely in the months from `first` to `last`.

    Raises:
        CommandError: a month is not loaded, so its weeks' runs would wait for it.
    """
    missing = sorted(set(month_range(first, last)) - set(summary.loaded(fleet)))
    if missing:
        load = f"{loading_command()} FLEET={fleet} FROM={missing[0]} TO={missing[-1]}"
        raise CommandError(f"{fleet} {missing[0]} is not loaded, and the weeks need it: {load} loads it")
    weeks = {monday.isoformat(): monday for monday in week_range(first, last)}
    return Job(fleet, f"trips_by_week_{fleet}", weeks, summary.of_weeks)
