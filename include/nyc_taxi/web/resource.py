"""The data of the page's part about what tasks share: the warehouse, and the TLC's site."""

import fcntl
import os
import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from include.nyc_taxi.warehouse import checkpoints
from include.nyc_taxi.web import uses
from include.nyc_taxi.web.month import Links
from include.nyc_taxi.web.snapshot import Snapshot

LAST_USES = 10
LAST_SITE_USES = 100
_FLOCK = "hhqqi4x"
"""`struct flock` of 64-bit Linux: type, whence, start, length, pid."""


@dataclass(frozen=True)
class PoolTask:
    """A task that stands in the pool `warehouse` now.

    Attributes:
        is_running: False if it waits for a slot.
        pid: its process, if it runs.
        since: when it began to run, or to wait (UTC).
        is_here: whether it runs on this machine.
    """

    dag_id: str
    run_id: str
    task_id: str
    is_running: bool
    pid: int | None
    since: datetime | None
    is_here: bool = True


@dataclass(frozen=True)
class DeclaredUse:
    """A task that uses something, according to its DAG.

    Attributes:
        writes: whether the task is expected to change the warehouse, because it has outlets or runs dbt.
        program: the program that opens the warehouse for the task, such as "dbt". Only the hook records what a use
            costs, so its records say nothing about the program's own.
    """

    dag_id: str
    task_id: str
    writes: bool = False
    program: str | None = None


@dataclass(frozen=True)
class Holder:
    """A process that has the warehouse's file open.

    Attributes:
        pid: None if the process runs in another container or on another machine.
        writes: False if it can only read. Then others may be reading, too.
    """

    pid: int | None
    writes: bool


def holder(file: Path) -> Holder | None:
    """A process that has a DuckDB file open, or None. Asking takes no lock and waits for nobody.

    It sees processes of this machine, and others only where the shared file system tells. Never call it in a process
    that has the file open itself: closing the descriptor drops the process's own lock.
    """
    try:
        handle = os.open(file, os.O_RDONLY)
    except OSError:
        return None
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, *_, pid = struct.unpack(_FLOCK, fcntl.fcntl(handle, fcntl.F_GETLK, asked))
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(handle)
    if kind == fcntl.F_UNLCK:
        return None
    return Holder(int(pid) if pid > 0 else None, writes=kind == fcntl.F_WRLCK)


def resource(
    snapshot: Snapshot | None,
    file: Path | None,
    site: str,
    pool: Sequence[PoolTask],
    declared: Iterable[DeclaredUse],
    declared_site: Iterable[DeclaredUse],
    links: Links,
    readable: frozenset[str] | set[str],
    hint: str | None = None,
) -> dict[str, Any]:
    """Make the JSON of the shared resources.

    Args:
        file: the warehouse's file; None if it is not a file.
        site: the address of the TLC's site, without a login.
        pool: the tasks in the pool `warehouse`.
        declared, declared_site: the tasks that use the warehouse and the site, according to the DAGs.
        readable: the ids of the DAGs that the user may read. Tasks of other DAGs are not named.
        hint: what is wrong with the snapshot or a connection, and what to do.
    """
    visible = [task for task in pool if task.dag_id in readable]
    open_now = _open_now(file, pool, visible, links)
    waiting = [x for x in visible if not x.is_running or _waits_for_lock(file, _task(x, links), open_now)]
    site_uses = [use for use in uses.site_uses() if use.dag_id in readable]
    return {
        "hint": hint,
        "warehouse": {
            "kind": snapshot.at.kind if snapshot else ("file" if file else "lake"),
            "place": snapshot.at.place if snapshot else str(file or ""),
            "bytes": _size(file),
            "advice": checkpoints.advice_about(file),
            "duckdb": snapshot and snapshot.duckdb,
            "settings": [{"name": x.name, "value": x.value, "from": x.origin} for x in snapshot.at.settings]
            if snapshot
            else [],
            "growth": _growth(snapshot),
            "open_now": open_now,
            "open_now_note": _what_is_not_seen(file, pool),
            "waiting": [{"task": _task(task, links), "since": _text(task.since)} for task in waiting],
            "uses": _uses(declared, readable, links),
        },
        "tlc": {
            "place": site,
            "uses": _site_uses(declared_site, site_uses, readable, links),
            "last": [asdict(use) for use in reversed(site_uses[-LAST_SITE_USES:])],
        },
    }


def _size(file: Path | None) -> int | None:
    """The size of the warehouse's file with its log; None if there is none."""
    if file is None or not file.exists():
        return None
    log = file.with_name(f"{file.name}.wal")
    return file.stat().st_size + (log.stat().st_size if log.exists() else 0)


def _growth(snapshot: Snapshot | None) -> list[dict[str, Any]]:
    """The trips and the sizes of the files that each calendar month has loaded, as far as they are still in use."""
    found: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for months in snapshot.months.values() if snapshot else ():
        for load in months.values():
            total = found[load.loaded_at[: len("2023-01")]]
            total[0] += load.rows
            total[1] += load.bytes
    return [{"month": month, "rows": rows, "bytes": size} for month, (rows, size) in sorted(found.items())]


def _open_now(
    file: Path | None, pool: Sequence[PoolTask], visible: Sequence[PoolTask], links: Links
) -> list[dict[str, Any]]:
    """Who has the warehouse open: of a file, the process with the lock; of a lake, the running tasks of the pool."""
    if file is None:
        tasks = [task for task in visible if task.is_running]
        return [{"pid": x.pid, "mode": None, "task": _task(x, links), "since": _text(x.since)} for x in tasks]
    found = holder(file)
    if found is None:
        return []
    pid = found.pid
    named = next((task for task in visible if pid is not None and task.pid == pid and task.is_here), None)
    # The pid of a task in a container is not the one that the lock names. One running task can only be that one.
    running = [task for task in pool if task.is_running]
    is_somebody_here = len(running) == 1 and running[0].is_here and _exists(running[0].pid)
    if named is None and len(running) == 1 and running[0] in visible and not is_somebody_here:
        named = running[0]
    since = _text(named.since) if named else None
    mode = "write" if found.writes else "read"
    return [{"pid": pid, "mode": mode, "task": _task(named, links) if named else None, "since": since}]


def _waits_for_lock(file: Path | None, task: Mapping[str, Any], open_now: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a running task of the pool waits for another process to close the file, a notebook for example."""
    return file is not None and bool(open_now) and all(each["task"] != task for each in open_now)


def _what_is_not_seen(file: Path | None, pool: Sequence[PoolTask]) -> str:
    """A sentence about who may have the warehouse open without being shown."""
    if file is None:
        return "These tasks hold a slot of the pool `warehouse`. Other programs that have it open are not seen."
    elsewhere = sum(task.is_running and not task.is_here for task in pool)
    if elsewhere:
        return (
            f"Only processes of the web server's machine are seen. {elsewhere} running tasks of the pool `warehouse` "
            "run on other machines, and one of them may have the file open."
        )
    return "Only processes of the web server's machine are seen, and only one of several that read."


def _exists(pid: int | None) -> bool:
    return pid is not None and Path(f"/proc/{pid}").exists()


def _task(task: PoolTask, links: Links) -> dict[str, Any]:
    return {
        "dag_id": task.dag_id,
        "run_id": task.run_id,
        "task_id": task.task_id,
        "url": links.task(task.dag_id, task.run_id, task.task_id),
    }


def _uses(declared: Iterable[DeclaredUse], readable: frozenset[str] | set[str], links: Links) -> list[dict[str, Any]]:
    """Every task that opens the warehouse: those that the DAGs declare, and those that were seen doing it."""
    seen: defaultdict[tuple[str, str], list[uses.WarehouseUse]] = defaultdict(list)
    for use in uses.warehouse_uses():
        if use.dag_id in readable:
            seen[use.dag_id, use.task_id].append(use)
    known = {(use.dag_id, use.task_id): use for use in declared if use.dag_id in readable}
    found = []
    for dag_id, task_id in sorted({*known, *seen}):
        last = seen[dag_id, task_id][-LAST_USES:]
        declaration = known.get((dag_id, task_id), DeclaredUse(dag_id, task_id))
        # The hook's records say best what a task does, but nothing about what a program does after the hook.
        is_seen = bool(last) and declaration.program is None
        writing = any(use.wrote for use in last) if is_seen else declaration.writes
        found.append(
            {
                "dag_id": dag_id,
                "task_id": task_id,
                "mode": "write" if writing else "read",
                "url": links.dag(dag_id),
                "program": declaration.program,
                "last": [
                    {
                        "run_id": use.run_id,
                        "at": use.at,
                        "wait_seconds": use.wait_seconds,
                        "hold_seconds": use.hold_seconds,
                        "rows": use.rows,
                    }
                    for use in reversed(last)
                ],
            }
        )
    return found


def _site_uses(
    declared: Iterable[DeclaredUse],
    seen: Iterable[uses.SiteUse],
    readable: frozenset[str] | set[str],
    links: Links,
) -> list[Mapping[str, Any]]:
    tasks = {(use.dag_id, use.task_id) for use in declared if use.dag_id in readable}
    tasks |= {(use.dag_id, use.task_id) for use in seen}
    return [{"dag_id": dag_id, "task_id": task_id, "url": links.dag(dag_id)} for dag_id, task_id in sorted(tasks)]


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None
