"""`make backfill`, `make backfill-weeks` and `make demo`: run a range of months or weeks, and report on it."""

from __future__ import annotations

import contextlib

from include.local import backfill_airflow2, backfill_airflow3, command_lock, pool
from include.local.console import complain, say
from include.local.errors import FAILED, INTERRUPTED
from include.local.jobs import Job, months_job, weeks_job
from include.local.progress import Progress
from include.local.simulated_tlc import simulated_tlc
from include.local.stack import source
from include.nyc_taxi import catalogue, settings
from include.orchestration.compat import IS_AIRFLOW_3

JOBS = {"backfill": months_job, "demo": months_job, "backfill-weeks": weeks_job}


def run(command: str, fleet: str, first: str, last: str, reprocess: str, *, wait: bool = True) -> int:
    """Run the command as soon as no other backfill command is running; returns the exit status.

    Raises:
        CommandError: the backfill could not be started, or cannot go on.
    """
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
