"""A backfill on Airflow 2.11: the command `airflow dags backfill` creates the runs and runs them itself."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

from include.local import component, runs
from include.local.command_lock import Note, wait_for
from include.local.console import last_lines, say
from include.local.errors import CommandError
from include.local.processes import Started, airflow_commands

if TYPE_CHECKING:
    from include.local.backfill import Job
    from include.local.progress import Progress

POLL_SECONDS = 1.0
ATTEMPTS = 3


def run(job: Job, reprocess: str, progress: Progress, note: Note, *, wait: bool) -> None:
    """Run the job, and return when Airflow's command has ended.

    After an interruption, tasks of the killed command that end late confuse the new one: it takes running tasks for
    deadlocked, and gives up. It is then started again for the rest.
    """
    wait_for(lambda: _other(job.dag_id), wait=wait)
    # Without a scheduler nobody has parsed the DAG files, and asset events of unknown assets would be dropped.
    subprocess.run(["airflow", "dags", "reserialize"], capture_output=True, check=False)
    how = {"completed": "--reset-dagruns", "failed": "--rerun-failed-tasks"}.get(reprocess)
    for _ in range(ATTEMPTS):
        _run_backfill_command(job, how, progress, note)
        found = job.runs()
        failed_for_good = any(failed.final for failed in runs.failed_tries(job.dag_id, found))
        if failed_for_good or all(run.state == "success" for run in found):
            return
        say("`airflow dags backfill` gave up before all runs had ended; starting it again for the rest")
        how = "--rerun-failed-tasks"


def _other(dag_id: str) -> str | None:
    """2.11 lets two backfills of one DAG run at once, and each takes the other's tasks for its own."""
    other = airflow_commands("dags", "backfill", dag_id)
    return f"`airflow dags backfill … {dag_id}` is running (process {other[0]})" if other else None


def _run_backfill_command(job: Job, how: str | None, progress: Progress, note: Note) -> None:
    first, last = job.dates
    arguments = ["dags", "backfill", "--local", "--yes", *([how] if how else []), "-s", first, "-e", last, job.dag_id]
    log = runs.log_folder() / "backfill.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    # Otherwise a task that ends schedules its successors although the command has just queued them: a try is skipped.
    environment = {**os.environ, "AIRFLOW__SCHEDULER__SCHEDULE_AFTER_TASK_EXECUTION": "False"}
    started = Started(note.command)
    try:
        with log.open("ab") as out:
            process = started.popen(
                component.command(*arguments), env=environment, stdout=out, stderr=subprocess.STDOUT
            )
        while process.poll() is None:
            runs.fail_killed(job.dag_id, job.runs())
            progress.show()
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        say("\nStopping Airflow …")
        raise
    finally:
        started.stop()
    if process.returncode and not job.runs():
        said = log.read_text(errors="replace")
        raise CommandError(f"`airflow {' '.join(arguments)}` failed:\n" + last_lines(said, 12))
