"""`make backfill`, `backfill-weeks`, `backfill-marts` and `demo`: run a range of months or weeks, and report on it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

from include.local import backfill_airflow2, backfill_airflow3, command_lock, pool, runs, summary
from include.local.console import complain, say
from include.local.errors import FAILED, INTERRUPTED, CommandError
from include.local.progress import Progress
from include.local.simulated_tlc import simulated_tlc
from include.local.stack import source
from include.nyc_taxi import catalogue, settings
from include.nyc_taxi.months import month_range, week_range
from include.orchestration.compat import IS_AIRFLOW_3
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
        first, last = self.days
        return f"{first}T00:00:00+00:00", f"{last}T00:00:00+00:00"

    @property
    def days(self) -> tuple[date, date]:
        """The first and the last logical date, in UTC."""
        days = list(self.partitions.values())
        return days[0], days[-1]

    def runs(self) -> list[runs.Run]:
        """The job's runs that exist, in order."""
        return runs.read_runs(self.dag_id, self.partitions)


def months_job(fleet: str, first: str, last: str) -> Job:
    """The runs of the fleet's months from `first` to `last`. Raises CommandError if one has not ended yet."""
    months = month_range(first, last)
    not_ended = [month for month in months if month.end > datetime.now(UTC).date()]
    if not_ended:
        raise CommandError(f"{not_ended[0]} has not ended yet: the last month to ask for is the one before this")
    return Job(fleet, f"taxi_trips_{fleet}", {month: month.first_day for month in months}, summary.of_months)


def weeks_job(fleet: str, first: str, last: str) -> Job:
    """The runs of the fleet's weeks that lie entirely in these months. Raises CommandError if one is not loaded."""
    missing = sorted(set(month_range(first, last)) - set(summary.loaded(fleet)))
    if missing:
        load = f"{loading_command()} FLEET={fleet} FROM={missing[0]} TO={missing[-1]}"
        raise CommandError(f"{fleet} {missing[0]} is not loaded, and the weeks need it: {load} loads it")
    weeks = {monday.isoformat(): monday for monday in week_range(first, last)}
    return Job(fleet, f"trips_by_week_{fleet}", weeks, summary.of_weeks)


def marts_job(fleet: str, first: str, last: str) -> Job:
    """The runs that build the marts of these months.

    Raises:
        CommandError: a month is not loaded, or has not ended yet.
        SettingError: dbt is not installed.
    """
    settings.dbt_program()
    job = months_job(fleet, first, last)
    missing = sorted(set(job.partitions) - set(summary.loaded(fleet)))
    if missing:
        load = f"{loading_command()} FLEET={fleet} FROM={missing[0]} TO={missing[-1]}"
        raise CommandError(f"{fleet} {missing[0]} is not loaded, and its marts need it: {load} loads it")
    return replace(job, dag_id=f"trips_marts_{fleet}")


JOBS = {"backfill": months_job, "demo": months_job, "backfill-weeks": weeks_job, "backfill-marts": marts_job}


def run(command: str, fleet: str, first: str, last: str, reprocess: str, *, wait: bool = True) -> int:
    """Run the command as soon as no other backfill command is running; returns the exit status."""
    typed = f"make {command} FLEET={fleet} FROM={first} TO={last}{'' if IS_AIRFLOW_3 else ' AIRFLOW=2'}"
    try:
        with command_lock.only_command(wait=wait), simulated_tlc() if command == "demo" else contextlib.nullcontext():
            return _backfill(JOBS[command](fleet, first, last), reprocess, typed, wait=wait)
    except KeyboardInterrupt:
        complain("\nInterrupted: runs that had not ended are marked failed. Run the same command again to go on.")
        return INTERRUPTED


def _backfill(job: Job, reprocess: str, command: str, *, wait: bool) -> int:
    names = list(job.partitions)
    say(f"{catalogue.fleet(job.fleet).title}, {names[0]} to {names[-1]}: {len(names)} runs of {job.dag_id}")
    say(f"Source {source()}, data in {settings.data_dir()}")
    pool.set_up_and_release()
    backfill = backfill_airflow3.run if IS_AIRFLOW_3 else backfill_airflow2.run
    with command_lock.noted_command(command, job.dag_id) as note:
        with Progress(job) as progress:
            backfill(job, reprocess, progress, note, wait=wait)
            progress.show()
        found = {run.partition: run for run in progress.found}
        say()
        say(job.summary(job.fleet, names, found))
    failed = [name for name in names if name not in found or found[name].state != "success"]
    if failed:
        complain(f"\nFailed: {', '.join(failed)}. Fix the cause, then run the same command again.")
    return FAILED if failed else 0
