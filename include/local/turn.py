"""One backfill command at a time in an Airflow home: the others wait in line, and clean up after one that was killed.

A command at work has `backfill.lock` locked, and that lock ends with its process. `backfill.json` says what it does; it
is there for as long as something of it is to be put right. While it is there, `calendar_timetables` holds back the
schedule of a DAG that the command has unpaused.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from include.local import runs
from include.local.processes import Process, end_abandoned, home
from include.nyc_taxi.files import replacing
from include.orchestration.compat import IS_AIRFLOW_3

POLL_SECONDS = 1.0


class BusyError(Exception):
    """Another backfill is at work, and waiting for it is not wanted; the message says which and what to do."""


@dataclass(frozen=True)
class Note:
    """What a backfill command does.

    Attributes:
        command: as the user typed it.
        pid, began: its process.
        since: when it began its work, UTC, in ISO format.
        dag_id: whose runs it makes.
        was_paused: whether the DAG was: its schedule is held back while it is unpaused for the command.
    """

    command: str
    pid: int
    began: float
    since: str
    dag_id: str
    was_paused: bool

    @property
    def moment(self) -> datetime:
        """`since` as a point in time."""
        return datetime.fromisoformat(self.since)

    def is_alive(self) -> bool:
        """Whether its process still is."""
        return Process(self.pid, self.began).is_alive()

    def __str__(self) -> str:
        return f"`{self.command}` (process {self.pid}) has been running since {self.moment:%Y-%m-%d %H:%M:%S} UTC"


@contextlib.contextmanager
def in_line(*, wait: bool) -> Iterator[None]:
    """Be the only backfill command at work in this Airflow home; first wait for the one that is.

    What a killed command has left is put right before this one begins.

    Raises:
        BusyError: another one is at work, and `wait` is False.
    """
    home().mkdir(parents=True, exist_ok=True)
    with (home() / "backfill.lock").open("a") as file:
        said = None
        while not _lock(file):
            other = noted()
            who = str(other) if other else "another backfill command is starting"
            if not wait:
                raise BusyError(f"{who}. Nothing was started: WAIT=no is set")
            if said != (said := other and f"{who}. Waiting for its end; WAIT=no stops instead") and said:
                print(said, flush=True)
            time.sleep(POLL_SECONDS)
        if said:
            print("The other backfill has ended", flush=True)
        end_abandoned()
        _put_right_what_a_killed_one_left()
        yield


@contextlib.contextmanager
def at_work(command: str, dag_id: str) -> Iterator[Note]:
    """Note what is being done, and put everything right at the end, however it comes about.

    At the end the runs that have not ended are cancelled, and the DAG is paused or unpaused as it was. Only for who is
    `in_line`.
    """
    me = Process.of(os.getpid())
    note = Note(command, me.pid, me.began, datetime.now(UTC).isoformat(), dag_id, runs.is_paused(dag_id))
    with replacing(_path()) as temporary:
        temporary.write_text(json.dumps(asdict(note)))
    try:
        yield note
    finally:
        put_right(note)


def put_right(note: Note) -> int:
    """Pause the DAG again, or unpause it, as it was, cancel what has not ended of the command, and forget it.

    Returns:
        How many runs had not ended.
    """
    # Paused before its schedule is free again; the schedule's next run is only made when the DAG is read once more.
    if IS_AIRFLOW_3:  # 2.11 runs a paused DAG's backfill as it is
        runs.set_paused(note.dag_id, note.was_paused)
    cancelled = runs.cancel_since(note.dag_id, note.moment)
    _path().unlink(missing_ok=True)
    return cancelled


def put_right_if_abandoned() -> None:
    """Put right what a killed command has left, unless one is at work: for whoever keeps a scheduler running."""
    note = noted()
    if note is None or note.is_alive():
        return
    with (home() / "backfill.lock").open("a") as file:
        if _lock(file):
            _put_right_what_a_killed_one_left()


def noted() -> Note | None:
    """What the command at work does, or what one that was killed did; None: nothing is to be put right."""
    try:
        return Note(**json.loads(_path().read_text()))
    except FileNotFoundError:
        return None


def _put_right_what_a_killed_one_left() -> None:
    if note := noted():
        cancelled = put_right(note)
        what = f"{cancelled} of its runs had not ended and are marked failed" if cancelled else "all its runs had ended"
        print(f"`{note.command}`, begun {note.moment:%Y-%m-%d %H:%M} UTC, was killed; {what}", flush=True)


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _path() -> Path:
    return home() / "backfill.json"
