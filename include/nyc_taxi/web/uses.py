"""Records of uses: who opened the warehouse, or asked the TLC's site, when, and at what cost.

The hooks append one line of JSON per use to a file in the data directory, and pages read it. The file is bounded: when
it has reached `MAX_BYTES`, it becomes the older half, and a new one begins. A record names a task and contains numbers,
and never an address, a password or a command line.
"""

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, TypeVar

from include.nyc_taxi.files import locked
from include.nyc_taxi.web.snapshot import status_dir

log = logging.getLogger(__name__)

MAX_BYTES = 1_000_000
"""The size from which a new file begins: about 4,000 records. The older half has as many."""
TURN_SECONDS = 2.0
"""How long a task waits for other tasks that append records. Then its record is left out."""


@dataclass(frozen=True)
class User:
    """The task that uses something. All three are empty for a command."""

    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""


@dataclass(frozen=True)
class WarehouseUse:
    """One time that the warehouse was open.

    Attributes:
        at: when it was opened, ISO 8601 in UTC.
        wait_seconds: how long the task waited until it was open.
        hold_seconds: how long it was open.
        wrote: whether the task changed the warehouse.
        rows: the number of trips that it loaded; None if it loaded no month.
    """

    at: str
    dag_id: str
    run_id: str
    task_id: str
    pid: int
    wait_seconds: float
    hold_seconds: float
    wrote: bool
    rows: int | None = None


@dataclass(frozen=True)
class SiteUse:
    """Requests of one task to the TLC's site.

    Attributes:
        at: when the first of them was sent, ISO 8601 in UTC.
        bytes: the sizes that the site has announced for the bodies it sent.
        refused: the number of answers with status 403.
        retries: the number of requests that repeat one which had failed.
    """

    at: str
    dag_id: str
    run_id: str
    task_id: str
    requests: int = 1
    bytes: int = 0
    refused: int = 0
    retries: int = 0

    def plus(self, other: Self) -> Self:
        """Both together."""
        return type(self)(
            min(self.at, other.at),
            *(self.dag_id, self.run_id, self.task_id),
            *(self.requests + other.requests, self.bytes + other.bytes),
            *(self.refused + other.refused, self.retries + other.retries),
        )


Use = TypeVar("Use", WarehouseUse, SiteUse)


def now() -> str:
    """The current time as text that sorts by time: UTC, with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def record(use: WarehouseUse | SiteUse) -> None:
    """Append a record. A record that cannot be written is left out with a warning: it must never fail a task."""
    path = _path(type(use))
    try:
        line = json.dumps(asdict(use), separators=(",", ":")) + "\n"
        with locked(path.with_suffix(".lock"), TURN_SECONDS):
            if path.exists() and path.stat().st_size >= MAX_BYTES:
                path.replace(_older(path))
            _append(path, line.encode())
    except OSError as error:  # including TimeoutError
        log.warning("%s: this use is not recorded (%s)", path, error)


def _append(path: Path, line: bytes) -> None:
    """Append a line in a single write. If a killed process has left half a line, begin a new one after it."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = b"\n" + line
        file.write(line)


def warehouse_uses() -> list[WarehouseUse]:
    """The recorded uses of the warehouse, the oldest first."""
    return sorted(_read(WarehouseUse), key=lambda use: use.at)


def site_uses() -> list[SiteUse]:
    """The recorded uses of the TLC's site, one for each task of a run, the oldest first."""
    tasks: dict[tuple[str, str, str], SiteUse] = {}
    for use in _read(SiteUse):
        key = use.dag_id, use.run_id, use.task_id
        tasks[key] = tasks[key].plus(use) if key in tasks else use
    return sorted(tasks.values(), key=lambda use: use.at)


def _read(kind: type[Use]) -> Iterator[Use]:
    path = _path(kind)
    for part in (_older(path), path):
        try:
            lines = part.read_text(errors="replace").splitlines()
        except OSError:  # usually because nothing has been recorded yet
            continue
        for line in lines:
            try:
                yield kind(**json.loads(line))
            except (ValueError, TypeError):  # half a line of a killed process, or a record of another version
                continue


def _path(kind: type[WarehouseUse] | type[SiteUse]) -> Path:
    return status_dir() / ("warehouse_uses.jsonl" if kind is WarehouseUse else "tlc_uses.jsonl")


def _older(path: Path) -> Path:
    return path.with_suffix(".old.jsonl")
