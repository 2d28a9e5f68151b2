"""Files that are complete or absent: written under a temporary name in the same folder, then moved into place."""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

STALE_SECONDS = 24 * 3600
"""A temporary file this old was left by a process that was killed; no task runs as long."""


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; move it to `target` when the block ends well, else remove it.

    Two processes may do this to one target at once: each has its own temporary file, and the later move wins whole.
    What killed processes left behind long ago is removed on the way.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(target)
    # mkstemp would make the file private to this user; outputs are to be read by others as the umask allows.
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=f".part{target.suffix}", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        temporary.chmod(0o666 & ~_umask())
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path` between processes of this machine; a killed holder's lock is gone with it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_stale(target: Path) -> None:
    for leftover in target.parent.glob(f".{target.name}.*.part{target.suffix}"):
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            if time.time() - leftover.stat().st_mtime > STALE_SECONDS:
                leftover.unlink()


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current
