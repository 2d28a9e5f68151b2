"""`make backfill` and `make demo`: run a range of months through a real scheduler, show progress, end with a table."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from datetime import UTC, datetime

from include.nyc_taxi import settings, tlc
from include.nyc_taxi.errors import NycTaxiError
from include.nyc_taxi.months import first_day, next_first_day
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


def backfill(fleet: str, months: list[str], reprocess: str) -> int:
    """Run the months and show how it goes; returns the exit status: 0 when every month succeeded."""
    dag_id = f"taxi_trips_{fleet}"
    print(f"{tlc.fleet(fleet).title}, {months[0]} to {months[-1]}: {len(months)} runs of {dag_id} on", end=" ")
    print(f"{settings.tlc_url() or settings.DEFAULT_TLC_URL}\nData goes to {settings.data_dir()}", flush=True)
    not_ended = [month for month in months if next_first_day(month) > datetime.now(UTC).date()]
    if not_ended:
        raise BackfillError(f"{not_ended[0]} has not ended yet: the last month to ask for is the one before this")
    progress = Progress(dag_id, months)
    if IS_AIRFLOW_3:
        _through_scheduler(dag_id, months, reprocess, progress)
    else:
        _through_backfill_command(dag_id, months, reprocess, progress)
    return progress.finish(fleet)


class Progress:
    """Prints a line whenever something has changed: runs done of runs wanted, tasks by state, elapsed time."""

    def __init__(self, dag_id: str, months: list[str]) -> None:
        self.dag_id, self.months = dag_id, months
        self._started = time.monotonic()
        self._shown = ""
        self._reported: set[runs.Try] = set()

    def show(self) -> bool:
        """Print what has changed; returns whether every run has finished."""
        found = runs.read_runs(self.dag_id, self.months)
        states = runs.count_task_states(self.dag_id, found)
        done = sum(run.state in runs.FINISHED for run in found)
        tasks = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none yet"
        line = f"{done} of {len(self.months)} runs done; tasks: {tasks}"
        if line != self._shown:
            elapsed = int(time.monotonic() - self._started)
            print(f"[{elapsed // 60}:{elapsed % 60:02d}] {line}", flush=True)
            self._shown = line
        for failed in runs.failed_tries(self.dag_id, found):
            if failed not in self._reported:
                self._reported.add(failed)
                _report(failed)
        return done == len(self.months)

    def finish(self, fleet: str) -> int:
        """Print the table of what was made; returns the exit status."""
        self.show()
        found = runs.read_runs(self.dag_id, self.months)
        print()
        print(table.summary(fleet, self.months, {run.month: run for run in found}))
        bad = sorted(set(self.months) - {run.month for run in found if run.state == "success"})
        if bad:
            print(f"\nFailed: {', '.join(bad)}. Mend the cause, then run the same command again.", file=sys.stderr)
        return 1 if bad else 0


def _report(failed: runs.Try) -> None:
    what = "FAILED" if failed.final else "will be tried again"
    print(f"\n  {failed.dag_id}.{failed.task_id} for {failed.month}, try {failed.number}: {what}")
    for line in runs.last_log_lines(failed.log, LOG_LINES):
        print(f"  | {line}")
    print(f"  {failed.log}\n", flush=True)


def _through_scheduler(dag_id: str, months: list[str], reprocess: str, progress: Progress) -> None:
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
            _wait_until_parsed(dag_id, started, stack)
        if unfinished := runs.end_interrupted_backfills(dag_id):
            print(f"An earlier backfill was interrupted; of its runs {unfinished} had not finished", flush=True)
        if runs.set_paused(dag_id, False):
            ending.callback(runs.set_paused, dag_id, True)
        _create(dag_id, months, reprocess)
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


def _create(dag_id: str, months: list[str], reprocess: str) -> None:
    command = ["airflow", "backfill", "create", "--dag-id", dag_id]
    command += ["--from-date", first_day(months[0]).isoformat(), "--to-date", first_day(months[-1]).isoformat()]
    command += ["--max-active-runs", str(PARALLEL_RUNS), "--reprocess-behavior", reprocess]
    for attempt in range(1, CREATE_ATTEMPTS + 1):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if "database is locked" not in done.stdout + done.stderr or attempt == CREATE_ATTEMPTS:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-5:]
            raise BackfillError(f"`{' '.join(command)}` failed:\n" + "\n".join(last))


def _through_backfill_command(dag_id: str, months: list[str], reprocess: str, progress: Progress) -> None:
    """Airflow 2.11: `airflow dags backfill` schedules the runs itself.

    After an interruption, tasks of the killed command that end late confuse the new one: it takes running tasks for
    deadlocked and gives up. It is then started again for what is left.
    """
    # Without a scheduler nobody has read the DAG files: asset events of unknown assets would be dropped.
    subprocess.run(["airflow", "dags", "reserialize"], capture_output=True, check=False)
    how = {"completed": "--reset-dagruns", "failed": "--rerun-failed-tasks"}.get(reprocess)
    for _ in range(BACKFILL_ATTEMPTS):
        _run_backfill_command(dag_id, months, how, progress)
        found = runs.read_runs(dag_id, months)
        if all(run.state == "success" for run in found) or runs.has_failed_for_good(dag_id, found):
            return
        print("`airflow dags backfill` gave up before all months had ended; going on with what is left", flush=True)
        how = "--rerun-failed-tasks"


def _run_backfill_command(dag_id: str, months: list[str], how: str | None, progress: Progress) -> None:
    command = ["airflow", "dags", "backfill", "--local", "--yes", *([how] if how else [])]
    command += ["-s", first_day(months[0]).isoformat(), "-e", first_day(months[-1]).isoformat(), dag_id]
    log = runs.log_folder() / "backfill.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                progress.show()
                time.sleep(POLL_SECONDS)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode and not runs.read_runs(dag_id, months):
        last = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        raise BackfillError(f"`{' '.join(command)}` failed:\n" + "\n".join(last))


def run(fleet: str, months: list[str], reprocess: str) -> int:
    """`backfill`, with errors as one sentence and exit status 1, and 130 for Ctrl-C."""
    try:
        return backfill(fleet, months, reprocess)
    except (BackfillError, StackError, NycTaxiError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. Run the same command again to go on.", file=sys.stderr)
        return 130
