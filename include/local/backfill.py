"""`make backfill`, `make backfill-weeks` and `make demo`: run a range of months or weeks through a real scheduler, show
progress, end with a table."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from sqlalchemy.exc import OperationalError

from include.local import runs, table, task_log, turn, waiting
from include.local.processes import Started, airflow_commands, end, end_abandoned
from include.local.stack import Stack, StackError, only_scheduler, owner, source
from include.nyc_taxi import catalogue, settings
from include.nyc_taxi.errors import NycTaxiError
from include.nyc_taxi.months import Month, month_range, week_range
from include.orchestration import pool, pool_holders
from include.orchestration.compat import IS_AIRFLOW_3
from include.orchestration.status import loading_command

POLL_SECONDS = 1.0
PARALLEL_RUNS = 4
CREATE_ATTEMPTS = 3
BACKFILL_ATTEMPTS = 3
QUIET_SECONDS = 120
"""After so long without progress the command says what it waits for."""


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
        """The first and the last logical date, with their offset: Airflow reads others in its default time zone."""
        days = list(self.partitions.values())
        return f"{days[0]}T00:00:00+00:00", f"{days[-1]}T00:00:00+00:00"


def months_job(fleet: str, first: str, last: str) -> Job:
    """The runs of the fleet's months from `first` to `last`.

    Raises:
        BackfillError: one of them has not ended.
    """
    months = month_range(first, last)
    not_ended = [month for month in months if Month(month).end > datetime.now(UTC).date()]
    if not_ended:
        raise BackfillError(f"{not_ended[0]} has not ended yet: the last month to ask for is the one before this")
    return Job(
        fleet, f"taxi_trips_{fleet}", {month: Month(month).first_day for month in months}, "months", table.of_months
    )


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
            f"{loading_command()} FLEET={fleet} FROM={missing[0]} TO={missing[-1]} first"
        )
    weeks = {monday.isoformat(): monday for monday in week_range(first, last)}
    return Job(fleet, f"trips_by_week_{fleet}", weeks, "weeks", table.of_weeks)


def backfill(job: Job, reprocess: str, command: str, *, wait: bool) -> int:
    """Run the job and show how it goes; returns the exit status: 0 when every run succeeded. For who is `in_line`."""
    print(
        f"{catalogue.fleet(job.fleet).title}, {job.names[0]} to {job.names[-1]}: {len(job.names)} runs of {job.dag_id}"
    )
    print(f"Source {source()}, data in {settings.data_dir()}", flush=True)
    pool.set_up()
    for holder in pool_holders.release():
        print(f"A task held a slot of the pool `warehouse`; it is marked failed: {holder}", flush=True)
    with turn.at_work(command, job.dag_id) as note:
        progress = Progress(job)
        if IS_AIRFLOW_3:
            _through_scheduler(job, reprocess, progress, note, wait=wait)
        else:
            _through_backfill_command(job, reprocess, progress, note, wait=wait)
        return progress.finish()


class Progress:
    """Prints a line whenever something has changed: runs done of runs wanted, tasks by state, elapsed time."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._started = self._changed = time.monotonic()
        self._shown = ""
        self._reported: set[runs.Try] = set()

    def show(self) -> bool:
        """Print what has changed; returns whether every run has finished."""
        found = runs.read_runs(self.job.dag_id, self.job.partitions)
        done = sum(run.state in runs.FINISHED for run in found)
        counted = runs.count_tasks(self.job.dag_id, found)
        tasks = ", ".join(f"{count} {words}" for words, count in counted.items()) or "none yet"
        line = f"{done} of {len(self.job.partitions)} runs done; tasks: {tasks}"
        if line != self._shown:
            self._say(line)
            self._shown, self._changed = line, time.monotonic()
        elif time.monotonic() - self._changed > QUIET_SECONDS:
            self._changed = time.monotonic()
            for reason in waiting.reasons(self.job.dag_id, found):
                self._say(reason)
        for failed in runs.failed_tries(self.job.dag_id, found):
            if failed not in self._reported:
                self._reported.add(failed)
                _report(failed)
        return done == len(self.job.partitions)

    def _say(self, line: str) -> None:
        elapsed = int(time.monotonic() - self._started)
        print(f"[{elapsed // 60}:{elapsed % 60:02d}] {line}", flush=True)

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
    for line in task_log.failure(failed.log):
        print(f"  | {line}")
    print(f"  {failed.log}\n", flush=True)


def _through_scheduler(job: Job, reprocess: str, progress: Progress, note: turn.Note, *, wait: bool) -> None:
    """Airflow 3: `airflow backfill create` for a scheduler to take up; ours, unless one is running."""
    with Scheduler(note) as scheduler:
        while True:
            _wait_for_others(job, scheduler, wait=wait)
            # Paused until all runs are made: a creation that meets a busy SQLite deletes those it has made already,
            # and a scheduler that has begun one of them ends by itself.
            with runs.paused(job.dag_id, True):
                created = _create(job, reprocess, note)
            if created:
                break
        _compare(job, note)
        with runs.paused(job.dag_id, False):
            while not progress.show():
                scheduler.check()
                time.sleep(POLL_SECONDS)


class Scheduler:
    """The scheduler that runs a backfill: one that is running already, or ours. Use it as a context manager.

    Either way it makes no run of the DAG's own schedule where the DAG was paused: `note` says so to the timetable. Of
    other DAGs, ours makes none.
    """

    def __init__(self, note: turn.Note) -> None:
        self._note = note
        self._stack: Stack | None = None
        self._ending = contextlib.ExitStack()

    def __enter__(self) -> Scheduler:
        try:
            self._start_or_borrow()
        except BaseException:
            self._ending.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is KeyboardInterrupt and self._stack:
            print("\nStopping Airflow …", file=sys.stderr, flush=True)
        self._ending.close()

    def check(self) -> None:
        """See that it is still running; where it was another command's and has ended, start our own.

        Raises:
            StackError: it is ours, and a component has ended by itself.
        """
        if self._stack:
            self._stack.check()
        elif self._take():
            print("The scheduler that has done the work so far has ended", flush=True)
            self._start()

    def _start_or_borrow(self) -> None:
        if self._take():
            self._start()
            return
        other = owner()
        mine = {"data": str(settings.data_dir().resolve()), "source": source()}
        differing = [name for name in mine if other and other.settings.get(name) != mine[name]]
        if other and differing:
            theirs = " and ".join(f"{name} {other.settings.get(name)}, not {mine[name]}" for name in differing)
            raise BackfillError(f"The scheduler of {other} is running with {theirs}; stop it, or set the same here")
        print(f"The scheduler of {other or 'another command'} does the work", flush=True)
        if self._note.was_paused:
            self._wait_until_held()

    def _take(self) -> bool:
        """Take the lock that says whose scheduler is running."""
        with contextlib.ExitStack() as ending:
            lock = ending.enter_context(only_scheduler())
            if lock is None:
                return False
            self._lock = lock
            self._ending.push(ending.pop_all())
            return True

    def _start(self) -> None:
        print("Starting Airflow …", flush=True)
        started = datetime.now(UTC)
        self._stack = self._ending.enter_context(
            Stack(
                command=self._note.command,
                port=0,
                lock=self._lock,
                components=("dag-processor", "scheduler"),
                # Only what was asked for: no run that another DAG's schedule would make.
                extra={"AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False"},
            )
        )
        _wait_until_parsed(self._note.dag_id, started, self._stack)

    def _wait_until_held(self, seconds: int = 120) -> None:
        """Return when the running Airflow has noticed that the DAG's schedule is held back."""
        dag_id = self._note.dag_id
        runs.ask_for_parse(dag_id)
        deadline = time.monotonic() + seconds
        while not (runs.parsed_since(dag_id, self._note.moment) and not runs.has_next_run(dag_id)):
            self.check()
            if self._stack:
                return
            if time.monotonic() > deadline:
                raise BackfillError(
                    f"The running Airflow has not read {dag_id} within {seconds} s, so unpausing it would start its "
                    "catch-up: stop that Airflow, and run this command again"
                )
            time.sleep(0.5)


def _wait_for_others(job: Job, scheduler: Scheduler, *, wait: bool) -> None:
    """Return when nobody else's backfill of the DAG is open: one made in the web UI, or with Airflow's own command."""
    said = ""
    with contextlib.ExitStack() as ending:
        while others := runs.open_backfills(job.dag_id):
            (other, *_) = others
            cancel = f"cancel it on the page of {job.dag_id}, tab Backfills"
            if not wait:
                raise turn.BusyError(
                    f"There is {other}, which has not ended ({other.done} of {other.total} runs done). "
                    f"Nothing was started: WAIT=no is set. To end it, {cancel}"
                )
            if not said:
                print(f"Waiting for {other}; to end it, {cancel}", flush=True)
                ending.enter_context(runs.paused(job.dag_id, False))
            if said != (said := f"{other.done} of {other.total} of its runs done"):
                print(f"  {said}", flush=True)
            scheduler.check()
            time.sleep(POLL_SECONDS)


def _compare(job: Job, note: turn.Note) -> None:
    """See that there is a run for all that was asked for.

    Raises:
        BackfillError: Airflow has made none for some of it.
    """
    missing = job.partitions.keys() - {run.partition for run in runs.read_runs(job.dag_id, job.partitions)}
    if missing:
        raise BackfillError(f"Airflow has made no run of {job.dag_id} for {', '.join(sorted(missing))}")
    for name, run_id in runs.unfinished_before(job.dag_id, job.partitions, note.moment).items():
        print(f"{name} has a run that has not ended, {run_id}: waiting for that one", flush=True)


def _wait_until_parsed(dag_id: str, started: datetime, stack: Stack, seconds: int = 120) -> None:
    deadline = time.monotonic() + seconds
    while not runs.parsed_since(dag_id, started):
        stack.check()
        if time.monotonic() > deadline:
            errors = "\n".join(runs.import_errors()) or f"no import error; see {stack.logs}/dag-processor.log"
            raise BackfillError(f"Airflow did not find {dag_id} within {seconds} s:\n{errors}")
        time.sleep(0.5)


def _create(job: Job, reprocess: str, note: turn.Note) -> bool:
    """Make the runs; returns False where somebody else's backfill of the DAG has come first, and has to end.

    Raises:
        BackfillError: Airflow's command failed.
    """
    first, last = job.dates
    command = ["airflow", "backfill", "create", "--dag-id", job.dag_id, "--from-date", first, "--to-date", last]
    command += ["--max-active-runs", str(PARALLEL_RUNS), "--reprocess-behavior", reprocess]
    # Without it a run would keep a `month` that an earlier backfill has given it, and fail for that again.
    command += ["--dag-run-conf", "{}"]
    for attempt in range(1, CREATE_ATTEMPTS + 1):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        if done.returncode == 0:
            return True
        if "AlreadyRunningBackfill" in said:
            return False
        if "database is locked" not in said or attempt == CREATE_ATTEMPTS:
            raise BackfillError(f"`{' '.join(command)}` failed:\n" + _last_lines(done.stderr.strip() or said, 5))
        runs.cancel_since(job.dag_id, note.moment)  # the one just begun, which would be in the way of the next
    return False


def _last_lines(text: str, count: int) -> str:
    return "\n".join(text.strip().splitlines()[-count:])


def _through_backfill_command(job: Job, reprocess: str, progress: Progress, note: turn.Note, *, wait: bool) -> None:
    """Airflow 2.11: `airflow dags backfill` schedules the runs itself.

    After an interruption, tasks of the killed command that end late confuse the new one: it takes running tasks for
    deadlocked and gives up. It is then started again for what is left.
    """
    end_abandoned()
    _wait_for_hand_made_backfills(job.dag_id, wait=wait)
    # Without a scheduler nobody has read the DAG files: asset events of unknown assets would be dropped.
    subprocess.run(["airflow", "dags", "reserialize"], capture_output=True, check=False)
    how = {"completed": "--reset-dagruns", "failed": "--rerun-failed-tasks"}.get(reprocess)
    for _ in range(BACKFILL_ATTEMPTS):
        _run_backfill_command(job, how, progress, note)
        found = runs.read_runs(job.dag_id, job.partitions)
        if all(run.state == "success" for run in found) or runs.has_failed_for_good(job.dag_id, found):
            return
        print("`airflow dags backfill` gave up before all runs had ended; going on with what is left", flush=True)
        how = "--rerun-failed-tasks"


def _wait_for_hand_made_backfills(dag_id: str, *, wait: bool) -> None:
    """2.11 lets two backfills of one DAG run at once, and each takes the other's tasks for its own."""
    said = False
    while other := airflow_commands("dags", "backfill", dag_id):
        who = f"`airflow dags backfill … {dag_id}` is running (process {other[0]})"
        if not wait:
            raise turn.BusyError(f"{who}. Nothing was started: WAIT=no is set")
        if not said:
            print(f"{who}. Waiting for its end; WAIT=no stops instead", flush=True)
            said = True
        time.sleep(POLL_SECONDS)


def _run_backfill_command(job: Job, how: str | None, progress: Progress, note: turn.Note) -> None:
    command = ["airflow", "dags", "backfill", "--local", "--yes", *([how] if how else [])]
    first, last = job.dates
    command += ["-s", first, "-e", last, job.dag_id]
    log = runs.log_folder() / "backfill.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    # Or a task that ends schedules the ones after it too, though the command has just queued them: a try is skipped.
    environment = {**os.environ, "AIRFLOW__SCHEDULER__SCHEDULE_AFTER_TASK_EXECUTION": "False"}
    started = Started.by_us(note.command)
    with log.open("ab") as out:
        process, leader = started.popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                runs.fail_killed(job.dag_id, runs.read_runs(job.dag_id, job.partitions))
                progress.show()
                time.sleep(POLL_SECONDS)
        except BaseException:
            print("\nStopping Airflow …", file=sys.stderr, flush=True)
            process.send_signal(signal.SIGTERM)
            raise
        finally:
            end(process, leader)
            started.forget()
    if process.returncode and not runs.read_runs(job.dag_id, job.partitions):
        said = log.read_text(errors="replace")
        raise BackfillError(f"`{' '.join(command)}` failed:\n" + _last_lines(said, 12))


JOBS = {"backfill": months_job, "demo": months_job, "backfill-weeks": weeks_job}


def run(command: str, fleet: str, first: str, last: str, reprocess: str, *, wait: bool = True) -> int:
    """`backfill`, when it is this command's turn; with errors as one sentence and exit status 1, and 130 for Ctrl-C."""
    typed = f"make {command} FLEET={fleet} FROM={first} TO={last}{'' if IS_AIRFLOW_3 else ' AIRFLOW=2'}"
    try:
        with turn.in_line(wait=wait):
            return backfill(JOBS[command](fleet, first, last), reprocess, typed, wait=wait)
    except (BackfillError, StackError, NycTaxiError, turn.BusyError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except OperationalError as error:
        print(f"\nAirflow's metadata database does not answer: {error.orig}. Run the same again.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\nInterrupted: runs that had not ended are marked failed. Run the same command again to go on.",
            file=sys.stderr,
        )
        return 130
