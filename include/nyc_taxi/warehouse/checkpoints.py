"""The cost of checkpoints in a DuckDB file, which grows with the file, and what to tell the user about it."""

import contextlib
from pathlib import Path
from typing import NamedTuple

GB = 10**9
LARGE_FILE_BYTES = 4 * 2**30
"""From this size on, closing the file leaves changes in DuckDB's write-ahead log, `<file>.wal`. Merging them makes
DuckDB read metadata of the whole file, which takes longer than replaying the log at the next opening. DuckDB merges a
log of 16 MB in any case (figures: docs/explanation/performance.md)."""
_SECONDS_PER_GB, _SECONDS_PER_GB_IF_REPLACED = 3.3 / 101, 22 / 101
"""Measured in a file that stands for the whole archive, 101 GB, after a new month and after one that was loaded again:
docs/explanation/performance.md, "What grows with the warehouse"."""
LAKE_ADVISED_BYTES = 30 * GB
"""From this size on, a checkpoint takes a second or more, and users are told that a lake has none. Files from
`LARGE_FILE_BYTES` on make checkpoints less often, but each one examines the whole file."""


class State(NamedTuple):
    """What the file system shows of a DuckDB file; asking does not open it.

    Attributes:
        changed: when the file was last written, in nanoseconds.
        log: the size of its write-ahead log, in bytes.
    """

    changed: int
    log: int


def state(file: Path) -> State | None:
    """The state of a DuckDB file; None if there is none."""
    with contextlib.suppress(FileNotFoundError):
        changed = file.stat().st_mtime_ns
        try:
            return State(changed, file.with_name(f"{file.name}.wal").stat().st_size)
        except FileNotFoundError:
            return State(changed, 0)
    return None


def was_made(before: State | None, after: State | None) -> bool:
    """Whether a checkpoint has moved all changes from the log into the file between two states."""
    return before is not None and after is not None and after.log == 0 and after != before


def advice(file_bytes: int) -> str | None:
    """Sentences about the checkpoints of a file of this size; None if they are too short to matter."""
    if file_bytes < LAKE_ADVISED_BYTES:
        return None
    size = file_bytes / GB
    seconds, if_replaced = (round(size * each) for each in (_SECONDS_PER_GB, _SECONDS_PER_GB_IF_REPLACED))
    return (
        f"The warehouse's file has {size:,.0f} GB. Its checkpoints, which some of the loads make, take about {seconds} "
        f"s each, and up to {if_replaced} s after a month was replaced. A lake has no checkpoints. To copy the "
        "warehouse into one, define a connection for it and run `make migrate` (docs/how-to/lake.md)."
    )


def advice_about(file: Path | None) -> str | None:
    """The same for a warehouse: None also if it is not a file, or does not exist yet."""
    with contextlib.suppress(OSError):
        return advice(file.stat().st_size) if file else None
    return None
