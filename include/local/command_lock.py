"""Only one backfill command runs at a time in an Airflow home; others wait, and clean up after one that was killed.

A running command holds a lock on `backfill.lock`, which ends with its process. `backfill.json` is its note of what it
does; the file exists until everything is restored. While it exists, `calendar_timetables` holds back the schedule of a
DAG that the command has unpaused.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from include.local import runs
from include.local.console import say
from include.local.errors import CommandError
from include.local.processes import Process, end_abandoned, home, locked
from include.nyc_taxi.files import replacing
from include.orchestration.compat import IS_AIRFLOW_3

POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Note:
    """What a backfill command does.

    Attributes:
        command: as the user typed it.
        pid, began: its process.
        since: when it began its work, UTC, in ISO format.
        dag_id: the DAG whose runs it makes.
        was_paused: whether the DAG was paused; its schedule is held back while the command has unpaused it.
    """

    command: str
    pid: int
    began: float
    since: str
    dag_id: str
    was_paused: bool

    @property
    def moment(self) -> datetime:
        """`since` as a datetime."""
        return datetime.fromisoformat(self.since)

    def is_alive(self) -> bool:
        """Whether its process is still running."""
        return Process(self.pid, self.began).is_alive()

    def __str__(self) -> str:
        return f"`{self.command}` (process {self.pid}) has been running since {self.moment:%Y-%m-%d %H:%M:%S} UTC"


@contextlib.contextmanager
def only_command(*, wait: bool) -> Iterator[None]:
    """Be the only backfill command in this Airflow home: wait for a running one, then clean up after a killed one.

    Raises:
        CommandError: another one is running, and `wait` is False.
    """
    file = None

    def other() -> str | None:
        nonlocal file
        file = locked(home() / "backfill.lock")
        return None if file else str(noted() or "Another backfill command is starting")

    waited = wait_for(other, wait=wait)
    assert file
    with file:
        if waited:
            say("The other backfill has ended")
        end_abandoned()
        _clean_up_after_a_killed_command()
        yield


def wait_for(other: Callable[[], str | None], *, wait: bool, check: Callable[[], None] = lambda: None) -> bool:
    """Wait while `other` names somebody else's backfill, and print what it says; returns whether there was one.

    Raises:
        CommandError: there is one, and `wait` is False.
    """
    said = None
    while who := other():
        if not wait:
            raise CommandError(f"{who}. Nothing was started: WAIT=no is set")
        if who != said:
            say(f"{who}. Waiting for its end; WAIT=no stops instead")
            said = who
        check()
        time.sleep(POLL_SECONDS)
    return said is not None


@contextlib.contextmanager
def noted_command(command: str, dag_id: str) -> Iterator[Note]:
    """Note what this command does, and restore everything when the block ends, even by an error or a signal.

    Restoring means: unfinished runs are cancelled, and the DAG is paused or unpaused as before. Call it inside
    `only_command`.
    """
    me = Process.of(os.getpid())
    note = Note(command, me.pid, me.began, datetime.now(UTC).isoformat(), dag_id, runs.is_paused(dag_id))
    with replacing(_path()) as temporary:
        temporary.write_text(json.dumps(asdict(note)))
    try:
        yield note
    finally:
        restore(note)


def restore(note: Note) -> int:
    """Pause or unpause the DAG as it was, cancel the command's unfinished runs, and remove its note.

    Returns:
        The number of runs that had not finished.
    """
    # First, so that the schedule stays held back until the DAG is paused.
    if IS_AIRFLOW_3:  # 2.11's backfill also runs a paused DAG
        runs.set_paused(note.dag_id, note.was_paused)
    cancelled = runs.cancel_since(note.dag_id, note.moment)
    _path().unlink(missing_ok=True)
    return cancelled


def restore_if_abandoned() -> None:
    """Clean up after a killed command, unless another one is running. For a command that keeps a scheduler running."""
    note = noted()
    if note is None or note.is_alive():
        return
    if file := locked(home() / "backfill.lock"):
        with file:
            _clean_up_after_a_killed_command()


def noted() -> Note | None:
    """The note of the running command, or of a killed one; None if there is nothing to restore."""
    try:
        return Note(**json.loads(_path().read_text()))
    except FileNotFoundError:
        return None


def _clean_up_after_a_killed_command() -> None:
    if note := noted():
        cancelled = restore(note)
        what = f"{cancelled} of its runs had not ended and are marked failed" if cancelled else "all its runs had ended"
        say(f"`{note.command}`, begun {note.moment:%Y-%m-%d %H:%M} UTC, was killed; {what}")


def _path() -> Path:
    return home() / "backfill.json"
