"""`make backfill`, `make backfill-weeks` and `make demo`: run a range of months or weeks through a real scheduler, show
progress, end with a table."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from include.nyc_taxi import settings, tlc
from include.nyc_taxi.errors import NycTaxiError
from include.nyc_taxi.months import first_day, month_range, next_first_day, week_range
from include.orchestration import pool
from include.orchestration.airflow_line import IS_AIRFLOW_3
from include.orchestration.local import runs, table
from include.orchestration.local.stack import Stack, StackError, only_scheduler

LOG_LINES = 12
POLL_SECONDS = 1.0
PARALLEL_RUNS = 4
CREATE_ATTEMPTS = 3
BACKFILL_ATTEMPTS = 3


class BackfillError(Exception):
    """The backfill could not be started; the message says what to do."""


@dataclass(frozen=True)
class Job:
    """What to run.

    Attributes:
        fleet, dag_id: whose DAG.
        partitions: the logical dates, in order, by what each run is called: its month, or its week's Monday.
        period: how long each run's interval is called.
        summary: makes the table at the end, from the runs by name.
    """

    fleet: str
    dag_id: str
    partitions: Mapping[str, date]
    period: str
    summary: Callable[[str, list[str], Mapping[str, runs.Run]], str]

    @property
    def names(self) -> list[str]:
        return list(self.partitions)

    @property
    def dates(self) -> tuple[str, str]:
        """The first and the last logical date."""
        days = list(self.partitions.values())
        return days[0].isoformat(), days[-1].isoformat()


def months_job(fleet: str, first: str, last: str) -> Job:
    """The runs of the fleet's months from `first` to `last`.

    Raises:
        BackfillError: one of them has not ended.
    """
    months = month_range(first, last)
    not_ended = [month for month in months if next_first_day(month) > datetime.now(UTC).date()]
    if not_ended:
        raise BackfillError(f"{not_ended[0]} has not ended yet: the last month to ask for is the one before this")
    return Job(fleet, f"taxi_trips_{fleet}", {month: first_day(month) for month in months}, "months", table.of_months)


def weeks_job(fleet: str, first: str, last: str) -> Job:
    """The runs of the fleet's weeks that lie wholly in the months from `first` to `last`.

    Raises:
        BackfillError: one of the months is not loaded: the runs would wait for it, and so would the user.
    """
    wanted = month_range(first, last)
    missing = sorted(set(wanted) - set(table.loaded(fleet)))
    if missing:
        raise BackfillError(
            f"{fleet} {missing[0]} is not loaded, and the weeks need it: "
            f"make backfill FLEET={fleet} FROM={missing[0]} TO={missing[-1]} first"
        )
    weeks = {monday.isoformat(): monday for monday in week_range(first, last)}
    return Job(fleet, f"trips_by_week_{fleet}", weeks, "weeks", table.of_weeks)


def backfill(job: Job, reprocess: str) -> int:
    """Run the job and show how it goes; returns the exit status: 0 when every run succeeded."""
    print(f"{tlc.fleet(job.fleet).title}, {job.names[0]} to {job.names[-1]}: {len(job.names)} runs of {job.dag_id}")
    print(f"Source {settings.tlc_url() or settings.DEFAULT_TLC_URL}, data in {settings.data_dir()}", flush=True)
    pool.set_up()
    progress = Progress(job)
    if IS_AIRFLOW_3:
        _through_scheduler(job, reprocess, progress)
    else:
        _through_backfill_command(job, reprocess, progress)
    return progress.finish()


class Progress:
    """Prints a line whenever something has changed: runs done of runs wanted, tasks by state, elapsed time."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._started = time.monotonic()
        self._shown = ""
        self._reported: set[runs.Try] = set()

    def show(self) -> bool:
        """Print what has changed; returns whether every run has finished."""
        found = runs.read_runs(self.job.dag_id, self.job.partitions)
        states = runs.count_task_states(self.job.dag_id, found)
        done = sum(run.state in runs.FINISHED for run in found)
        tasks = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none yet"
        line = f"{done} of {len(self.job.partitions)} runs done; tasks: {tasks}"
        if line != self._shown:
            elapsed = int(time.monotonic() - self._started)
            print(f"[{elapsed // 60}:{elapsed % 60:02d}] {line}", flush=True)
            self._shown = line
        for failed in runs.failed_tries(self.job.dag_id, found):
            if failed not in self._reported:
                self._reported.add(failed)
                _report(failed)
        return done == len(self.job.partitions)

    def finish(self) -> int:
        """Print the table of what was made; returns the exit status."""
        self.show()
        found = runs.read_runs(self.job.dag_id, self.job.partitions)
        print()
        print(self.job.summary(self.job.fleet, self.job.names, {run.partition: run for run in found}))
        bad = sorted(self.job.partitions.keys() - {run.partition for run in found if run.state == "success"})
        if bad:
            print(f"\nFailed: {', '.join(bad)}. Mend the cause, then run the same command again.", file=sys.stderr)
        return 1 if bad else 0


def _report(failed: runs.Try) -> None:
    what = "FAILED" if failed.final else "will be tried again"
    print(f"\n  {failed.dag_id}.{failed.task_id} for {failed.partition}, try {failed.number}: {what}")
    for line in runs.last_log_lines(failed.log, LOG_LINES):
        print(f"  | {line}")
    print(f"  {failed.log}\n", flush=True)


def _through_scheduler(job: Job, reprocess: str, progress: Progress) -> None:
    """Airflow 3: `airflow backfill create` for a running scheduler to take up; ours, unless one is running."""
    with only_scheduler() as lock, contextlib.ExitStack() as ending:
        started = datetime.now(UTC)
        stack = None
        if lock is None:
            print("A scheduler is running already (make standalone?): it does the work, with its settings", flush=True)
        else:
            print("Starting Airflow …", flush=True)
            stack = ending.enter_context(
                Stack(
                    port=0,
                    lock=lock,
                    components=("dag-processor", "scheduler"),
                    # Only what was asked for: no run that the DAG's own schedule would catch up on.
                    extra={"AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False"},
                )
            )
            _wait_until_parsed(job.dag_id, started, stack)
        if unfinished := runs.end_interrupted_backfills(job.dag_id):
            print(f"An earlier backfill was interrupted; of its runs {unfinished} had not finished", flush=True)
        # Unpaused when all runs are made: a creation that meets a busy SQLite deletes those it has made already, and a
        # scheduler that has begun one of them ends by itself.
        _create(job, reprocess)
        if runs.set_paused(job.dag_id, False):
            ending.callback(runs.set_paused, job.dag_id, True)
        while not progress.show():
            if stack:
                stack.check()
            time.sleep(POLL_SECONDS)


def _wait_until_parsed(dag_id: str, started: datetime, stack: Stack, seconds: int = 120) -> None:
    deadline = time.monotonic() + seconds
    while not runs.parsed_since(dag_id, started):
        stack.check()
        if time.monotonic() > deadline:
            errors = "\n".join(runs.import_errors()) or f"no import error; see {stack.logs}/dag-processor.log"
            raise BackfillError(f"Airflow did not find {dag_id} within {seconds} s:\n{errors}")
        time.sleep(0.5)


def _create(job: Job, reprocess: str) -> None:
    first, last = job.dates
    command = ["airflow", "backfill", "create", "--dag-id", job.dag_id, "--from-date", first, "--to-date", last]
    command += ["--max-active-runs", str(PARALLEL_RUNS), "--reprocess-behavior", reprocess]
    for attempt in range(1, CREATE_ATTEMPTS + 1):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if "database is locked" not in done.stdout + done.stderr or attempt == CREATE_ATTEMPTS:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-5:]
            raise BackfillError(f"`{' '.join(command)}` failed:\n" + "\n".join(last))
        runs.end_interrupted_backfills(job.dag_id)  # the one just begun, which would be in the way of the next


def _through_backfill_command(job: Job, reprocess: str, progress: Progress) -> None:
    """Airflow 2.11: `airflow dags backfill` schedules the runs itself.

    After an interruption, tasks of the killed command that end late confuse the new one: it takes running tasks for
    deadlocked and gives up. It is then started again for what is left.
    """
    # Without a scheduler nobody has read the DAG files: asset events of unknown assets would be dropped.
    subprocess.run(["airflow", "dags", "reserialize"], capture_output=True, check=False)
    how = {"completed": "--reset-dagruns", "failed": "--rerun-failed-tasks"}.get(reprocess)
    for _ in range(BACKFILL_ATTEMPTS):
        _run_backfill_command(job, how, progress)
        found = runs.read_runs(job.dag_id, job.partitions)
        if all(run.state == "success" for run in found) or runs.has_failed_for_good(job.dag_id, found):
            return
        print("`airflow dags backfill` gave up before all runs had ended; going on with what is left", flush=True)
        how = "--rerun-failed-tasks"


def _run_backfill_command(job: Job, how: str | None, progress: Progress) -> None:
    command = ["airflow", "dags", "backfill", "--local", "--yes", *([how] if how else [])]
    first, last = job.dates
    command += ["-s", first, "-e", last, job.dag_id]
    log = runs.log_folder() / "backfill.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    # Or a task that ends schedules the ones after it too, though the command has just queued them: a try is skipped.
    environment = {**os.environ, "AIRFLOW__SCHEDULER__SCHEDULE_AFTER_TASK_EXECUTION": "False"}
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            while process.poll() is None:
                runs.fail_killed(job.dag_id, runs.read_runs(job.dag_id, job.partitions))
                progress.show()
                time.sleep(POLL_SECONDS)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode and not runs.read_runs(job.dag_id, job.partitions):
        last = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        raise BackfillError(f"`{' '.join(command)}` failed:\n" + "\n".join(last))


JOBS = {"backfill": months_job, "demo": months_job, "backfill-weeks": weeks_job}


def run(command: str, fleet: str, first: str, last: str, reprocess: str) -> int:
    """`backfill`, with errors as one sentence and exit status 1, and 130 for Ctrl-C."""
    try:
        return backfill(JOBS[command](fleet, first, last), reprocess)
    except (BackfillError, StackError, NycTaxiError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. Run the same command again to go on.", file=sys.stderr)
        return 130
