"""Write files atomically: under a temporary name in the same folder first, then moved into place."""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

LOCK_POLL_SECONDS = 0.01


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; move it to `target` if the block succeeds, else remove it.

    Several processes may replace the same target at once: each writes its own temporary file, and the last move wins.
    Temporary files of killed processes are removed first.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target)
    handle, temporary = _make_temporary(target)
    try:
        # mkstemp creates files that only this user can read, but others may read the outputs, as the umask allows.
        temporary.chmod(0o666 & ~_umask())
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


@contextlib.contextmanager
def locked(path: Path, timeout: float | None = None) -> Iterator[None]:
    """Hold an exclusive lock on `path`, which is created if it is missing. The lock ends with the process.

    It works between the processes of one machine, and between machines if their shared file system supports locks, as
    NFS 4 does.

    Args:
        timeout: seconds to wait for another process; by default without a limit.

    Raises:
        TimeoutError: another process has held the lock for all of that time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        if timeout is None:
            fcntl.flock(file, fcntl.LOCK_EX)
        else:
            _lock_within(file, path, timeout)
        yield


def _lock_within(file: IO[str], path: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{path} has been locked by another process for {timeout:g} seconds") from None
            time.sleep(LOCK_POLL_SECONDS)


def _make_temporary(target: Path) -> tuple[int, Path]:
    """Create a temporary file beside `target` and lock it; the lock shows other processes that this one is alive."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=f".part{target.suffix}", dir=target.parent)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:  # else another process locked the file first and removed it as abandoned
            return handle, Path(name)
        os.close(handle)


def _remove_abandoned(target: Path) -> None:
    for leftover in target.parent.glob(f".{target.name}.*.part{target.suffix}"):
        # The errors mean that the file has just been removed, or is locked by the process that is writing it.
        with contextlib.suppress(FileNotFoundError, BlockingIOError), leftover.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftover.unlink()


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current
