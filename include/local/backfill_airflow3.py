"""A backfill on Airflow 3: this command creates the runs, like `airflow backfill create`; a scheduler runs them."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowException
from sqlalchemy.exc import OperationalError

from include.local import runs
from include.local.command_lock import Note, wait_for
from include.local.console import last_lines, say
from include.local.errors import CommandError
from include.local.processes import wait_until
from include.local.stack import Stack, current_settings, lock_scheduler, owner

if TYPE_CHECKING:
    from include.local.backfill import Job
    from include.local.progress import Progress

POLL_SECONDS = 0.5
PARALLEL_RUNS = 4
CREATE_ATTEMPTS = 3
PARSE_SECONDS = 120
SETTINGS = {
    "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
    # Reading all DAG files takes 2 s of processor time, by default every 30 s. A file that has changed, or that a
    # command asks for, is read at once.
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
    # Else a DAG that was changed within 30 s of its last parse would keep its old tasks until it is parsed again.
    "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
}
"""Airflow's settings for our own scheduler, DAG processor and api-server."""


def run(job: Job, reprocess: str, progress: Progress, note: Note, *, wait: bool) -> None:
    """Make the job's runs, and return when they have finished."""
    with Scheduler(note) as scheduler:
        while True:
            _wait_for_others(job, scheduler, wait=wait)
            # Paused until all runs exist: if SQLite is busy, Airflow deletes the runs that it has created so far, and
            # a scheduler that has started one of them crashes.
            with runs.paused(job.dag_id, True):
                created = _create(job, reprocess, note)
            if created:
                break
        scheduler.begin()
        for name, run_id in runs.unfinished_before(job.dag_id, job.partitions, note.moment).items():
            say(f"{name} has a run that has not ended, {run_id}: waiting for that one")
        with runs.paused(job.dag_id, False):
            while not progress.show():
                _check_none_is_missing(job, progress.found)
                scheduler.check()
                time.sleep(POLL_SECONDS)


class Scheduler:
    """The scheduler that runs a backfill: one that is running already, or our own. Use it as a context manager.

    If the DAG was paused, its own schedule makes no runs meanwhile: the timetable reads `note`. Our own scheduler makes
    no scheduled runs of other DAGs either.
    """

    def __init__(self, note: Note) -> None:
        self._note = note
        self._stack: Stack | None = None

    def __enter__(self) -> Scheduler:
        try:
            self._start_or_borrow()
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._stack:
            if kind is KeyboardInterrupt:
                say("\nStopping Airflow …")
            self._stack.__exit__()

    def begin(self) -> None:
        """Let our own scheduler begin, once the runs exist. One that is running already has begun."""
        if self._stack:
            self._stack.schedule()

    def check(self) -> None:
        """Check that the scheduler is still running; start our own if another command's has ended.

        Raises:
            CommandError: a component of our own has ended by itself.
        """
        if self._stack:
            self._stack.check()
        elif lock := lock_scheduler():
            say("The scheduler that has done the work so far has ended")
            self._start(lock)
            self.begin()

    def _start_or_borrow(self) -> None:
        if lock := lock_scheduler():
            self._start(lock)
            return
        other, mine = owner(), current_settings()
        differing = [name for name in mine if other and other.settings.get(name) != mine[name]]
        if other and differing:
            theirs = " and ".join(f"{name} {other.settings.get(name)}, not {mine[name]}" for name in differing)
            raise CommandError(f"The scheduler of {other} is running with {theirs}; stop it, or set the same here")
        say(f"The scheduler of {other or 'another command'} does the work")
        if self._note.was_paused:
            self._wait_until_schedule_is_held()

    def _start(self, lock: IO[str]) -> None:
        say("Starting Airflow …")
        dag_id, started = self._note.dag_id, datetime.now(UTC)
        stack = Stack(self._note.command, 0, lock, web_ui=False, **SETTINGS)
        self._stack = stack.__enter__()
        if not wait_until(lambda: runs.parsed_since(dag_id, started), stack.check, PARSE_SECONDS):
            errors = "\n".join(runs.import_errors()) or f"no import error; see {stack.logs}/dag-processor.log"
            raise CommandError(f"Airflow did not find {dag_id} within {PARSE_SECONDS} s:\n{errors}")

    def _wait_until_schedule_is_held(self) -> None:
        """Return when the running Airflow has parsed the DAG again, and so holds its schedule back."""
        dag_id, since = self._note.dag_id, self._note.moment
        runs.ask_for_parse(dag_id)

        def is_held() -> bool:  # our own scheduler makes no scheduled runs anyway
            return bool(self._stack) or (runs.parsed_since(dag_id, since) and not runs.has_next_run(dag_id))

        if not wait_until(is_held, self.check, PARSE_SECONDS):
            raise CommandError(
                f"The running Airflow has not parsed {dag_id} within {PARSE_SECONDS} s, so unpausing the DAG would "
                "start its catch-up: stop that Airflow, and run this command again"
            )


def _wait_for_others(job: Job, scheduler: Scheduler, *, wait: bool) -> None:
    """Return when no backfill of the DAG is open that somebody created in the web UI, or with Airflow's own command."""

    def other() -> str | None:
        found = runs.open_backfills(job.dag_id)
        how_to_end_it = f"To end it, cancel it on the page of {job.dag_id}, tab Backfills"
        return f"There is {found[0]}, {found[0].done} of {found[0].total} runs done. {how_to_end_it}" if found else None

    if other():
        scheduler.begin()  # or nothing would end it
        with runs.paused(job.dag_id, False) if wait else contextlib.nullcontext():
            wait_for(other, wait=wait, check=scheduler.check)


def _create(job: Job, reprocess: str, note: Note) -> bool:
    """Create the runs; returns False if somebody else has created a backfill of the DAG first, which has to end.

    This is what `airflow backfill create` does, without the seconds that its process needs to start.
    """
    for attempt in range(1, CREATE_ATTEMPTS + 1):
        try:
            runs.create_backfill(job.dag_id, *job.days, PARALLEL_RUNS, reprocess)
        except runs.AlreadyRunningBackfill:
            return False
        except (OperationalError, AirflowException, ValueError) as error:
            is_final = "database is locked" not in str(error) or attempt == CREATE_ATTEMPTS
            failure = CommandError(_failed(job, error))
        else:
            _check_none_is_missing(job, job.runs())
            return True
        # Only now, and without the error as a cause: it refers to the transaction that failed.
        runs.forget_errors()
        if is_final:
            raise failure
        runs.cancel_since(job.dag_id, note.moment)  # what it has begun would be in the way of the next attempt
    return False


def _failed(job: Job, error: Exception) -> str:
    first, last = job.dates
    return f"Airflow could not create the backfill of {job.dag_id} from {first} to {last}:\n{last_lines(str(error), 5)}"


def _check_none_is_missing(job: Job, found: list[runs.Run]) -> None:
    """Check that each partition has a run: one that Airflow did not create, or somebody deleted, would never end."""
    missing = job.partitions.keys() - {run.partition for run in found}
    if missing:
        raise CommandError(
            f"{job.dag_id} has no run for {', '.join(sorted(missing))}: Airflow has not created it, or somebody has "
            "deleted it. Run the same command again"
        )
