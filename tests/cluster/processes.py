"""A process and all that it has started, as /proc has them."""

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class _Process:
    parent: int
    session: int
    ticks: int


def kill(leader: int) -> list[str]:
    """SIGKILL to a process and to all that it has started, at once: none may see another die, and react.

    Returns:
        Their command lines.
    """
    killed: dict[int, str] = {}
    # Stopped, they start no others.
    while left := [pid for pid in _family(leader) if pid not in killed]:
        for pid in left:
            killed[pid] = _command(pid)
            _send(pid, signal.SIGSTOP)
    for pid in killed:
        _send(pid, signal.SIGKILL)
    return list(killed.values())


def busy_seconds(leader: int) -> float:
    """How long a process and all that it has started have kept a processor busy, those that have ended included."""
    return sum(process.ticks for process in _family(leader).values()) / TICKS


def _family(leader: int) -> dict[int, _Process]:
    """The living of its session, and its descendants: Airflow's tasks have groups, Postgres's servers sessions."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # After the command's name, which may contain anything: state, parent, group, session, …; from the 12th
                # on, time in user and system mode, and that of children which have ended.
                state, *fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if state not in "ZX":
                    ticks = sum(map(int, fields[10:14]))
                    found[int(entry.name)] = _Process(int(fields[0]), int(fields[2]), ticks)
    family = {pid for pid, process in found.items() if pid == leader or process.session == leader}
    while more := {pid for pid, process in found.items() if process.parent in family} - family:
        family |= more
    return {pid: found[pid] for pid in family}


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ").strip()
    return ""


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
