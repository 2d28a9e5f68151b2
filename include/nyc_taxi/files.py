"""Files that are complete or absent: written under a temporary name in the same folder, then moved into place."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; move it to `target` when the block ends well, else remove it.

    Two processes may do this to one target at once: each has its own temporary file, and the later move wins whole.
    What killed processes left behind is removed on the way.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target)
    # mkstemp would make the file private to this user; outputs are to be read by others as the umask allows.
    handle, temporary = _make_temporary(target)
    try:
        temporary.chmod(0o666 & ~_umask())
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`, made where it is missing; a killed holder's lock is gone with it.

    Between processes of one machine; of several, as far as the file system that they share has locks (NFS 4 does).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make_temporary(target: Path) -> tuple[int, Path]:
    """Make a temporary file beside `target`, locked for as long as the handle is open: its maker lives."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=f".part{target.suffix}", dir=target.parent)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:  # else another process was quicker with the lock, and has taken it for abandoned
            return handle, Path(name)
        os.close(handle)


def _remove_abandoned(target: Path) -> None:
    for leftover in target.parent.glob(f".{target.name}.*.part{target.suffix}"):
        # Gone meanwhile, or locked by the process that is writing it.
        with contextlib.suppress(FileNotFoundError, BlockingIOError), leftover.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftover.unlink()


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current
