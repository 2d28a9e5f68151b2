"""How a backfill goes, while it runs: a live bar in a terminal, elsewhere a line whenever something has changed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select

from include.local import console, runs, task_log
from include.local.console import say
from include.orchestration import pool_holders
from include.orchestration.compat import IS_AIRFLOW_3

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress as RichProgress

    from include.local.backfill import Job

QUIET_SECONDS = 120
"""After so long without progress, the command says what it waits for."""

AT_WORK = ("running", "queued", "up_for_reschedule", "up_for_retry", "deferred")


class Progress:
    """Shows runs done, tasks by state, elapsed time and failures; in a terminal also an estimate of the time left.

    Use it as a context manager: the bar is drawn until the block ends.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._started = self._changed = time.monotonic()
        self.found: list[runs.Run] = []
        """The job's runs as they were last seen."""
        self._shown = ""
        self._reported: set[runs.Try] = set()
        self._bar = None if console.is_plain() else _bar(len(job.partitions))

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            with contextlib.suppress(OSError):  # the terminal was closed
                self._bar.stop()

    def show(self) -> bool:
        """Show what has changed; returns whether every run has finished."""
        self.found = found = self.job.runs()
        wanted, done = len(self.job.partitions), sum(run.state in runs.FINISHED for run in found)
        counted = runs.count_tasks(self.job.dag_id, found)
        tasks = ", ".join(f"{count} {words}" for words, count in counted.items()) or "none yet"
        line = f"{done} of {wanted} runs done; tasks: {tasks}"
        if self._bar:
            ended = sum(counted.get(words, 0) for words in runs.ENDED)
            share = len(found) * ended / max(1, sum(counted.values()))  # all runs have the same tasks
            runs_done = f"{done} of {wanted} runs done"
            self._bar.update(self._bar.task_ids[0], completed=max(done, share), description=runs_done, tasks=tasks)
        if line != self._shown:
            if not self._bar:
                self._say(line)
            self._shown, self._changed = line, time.monotonic()
        elif time.monotonic() - self._changed > QUIET_SECONDS:
            self._changed = time.monotonic()
            for reason in reasons(self.job.dag_id, found):
                self._say(reason)
        for failed in runs.failed_tries(self.job.dag_id, found):
            if failed not in self._reported:
                self._reported.add(failed)
                _report(failed)
        return done == wanted

    def _say(self, line: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        say(f"[{minutes}:{seconds:02d}] {line}")


def _report(failed: runs.Try) -> None:
    what = "FAILED" if failed.final else "will be tried again"
    title = f"\n  {failed.dag_id}.{failed.task_id} for {failed.partition}, try {failed.number}: {what}"
    say(title, style="bold red" if failed.final else "yellow")
    for line in task_log.failure(failed.log):
        say(f"  | {line}")
    say(f"  {failed.log}\n")


@runs.patiently
def reasons(dag_id: str, found: list[runs.Run]) -> list[str]:
    """Sentences that say what the DAG's runs wait for; at least one."""
    said = []
    if IS_AIRFLOW_3:
        if runs.is_paused(dag_id):
            said.append(f"{dag_id} has been paused: none of its tasks starts until somebody unpauses it")
        paused = [backfill for backfill in runs.open_backfills(dag_id) if backfill.is_paused]
        said += [f"there is {backfill}: unpause or cancel it in the web UI" for backfill in paused]
    names = {run.run_id: run.partition for run in found}
    with create_session() as session:
        tasks = session.scalars(select(TaskInstance).where(*runs.of_runs(dag_id, found))).all()
        waited_for = {task.pool for task in tasks if task.pool in pool_holders.POOLS and str(task.state) == "scheduled"}
        for task in tasks:
            if str(task.state) in AT_WORK:
                since = f" since {task.start_date:%Y-%m-%d %H:%M:%S} UTC" if task.start_date else ""
                said.append(
                    f"`{task.task_id}` for {names[task.run_id]} is {runs.in_words(task.task_id, task.state)}{since}"
                )
    if waited_for:
        others = [holder for holder in pool_holders.find() if holder.run_id not in names and holder.pool in waited_for]
        said += [f"the pool `{holder.pool}` is taken by {holder}" for holder in others]
    return [
        f"still waiting: {reason}" for reason in said or ["no task is running: is the scheduler working? See its log"]
    ]


def _bar(wanted: int) -> RichProgress:
    """A bar with runs done, elapsed time and estimate, and a line with the tasks by state below it."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.text import Text

    class Bar(Progress):
        def get_renderables(self) -> Iterator[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            yield from (Text(f"  tasks: {task.fields['tasks']}", style="dim") for task in self.tasks if task.fields)

    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}"),
        BarColumn(complete_style="cyan", finished_style="green"),
        TextColumn("elapsed", style="dim"),
        TimeElapsedColumn(),
        TextColumn("left", style="dim"),
        TimeRemainingColumn(),
    )
    hour = 3600  # the estimate comes from the speed in the last hour
    bar = Bar(*columns, console=console.terminal(), refresh_per_second=4, speed_estimate_period=hour)
    bar.add_task("starting …", total=wanted)
    return bar
