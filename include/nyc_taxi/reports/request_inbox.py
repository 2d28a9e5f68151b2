"""Request files: each version of a file is claimed once, and leads to one run or to one report of a problem.

A *poll* of the folder records new versions as claims in a ledger. The ledger is a SQLite file in the same folder, so
that files and ledger are moved or lost together. Every poll returns all claims that are not settled yet. A claim's run
has a name that follows from the file, its version and its content. If two polls start it, or a poll crashes before
it settles the claim, there is still only one run.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import sqlite3
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from include.nyc_taxi.errors import NycTaxiError, RequestError
from include.nyc_taxi.reports import adhoc

log = logging.getLogger(__name__)

LEDGER = Path(".claims") / "ledger.sqlite"
MAX_BYTES = 64 * 1024
MAX_CLAIMS = 100
"""The most claims that one poll returns: Airflow maps over 1,024 at most, and a poll should not take long."""
QUIET_SECONDS = 2.0
"""A file modified within this time may still be mid-write. A poll waits once, then leaves it to the next poll."""
LOCK_TIMEOUT_SECONDS = 60.0

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_SCHEMA = Path(__file__).with_suffix(".sql").read_text()


class LedgerError(NycTaxiError, permanent=True):
    """The ledger is damaged. The message says how to continue without it."""


@dataclass(frozen=True)
class Claim:
    """A version of a request file that is not settled yet.

    Attributes:
        file: the file's name.
        run_id: the id of the run that it starts, which also identifies the claim.
        logical_date: that run's logical date, which is different for each claim.
        request: the run's configuration; None if the file is malformed.
        problem: what is wrong with the file, on one line; None if it is well-formed.
    """

    file: str
    run_id: str
    logical_date: datetime
    request: dict[str, str] | None
    problem: str | None


def claim(folder: Path, limit: int = MAX_CLAIMS) -> list[Claim]:
    """Poll the folder, and create it if it is missing; return the requests whose run may not have started yet.

    Files `*.json` in the folder itself are read, except hidden ones. A file that was deleted and put back is new.

    Raises:
        LedgerError: the ledger is damaged. `malformed` and `settle` raise this, too.
    """
    _wait_for_writers(folder)
    with _ledger(folder) as ledger:
        # The folder is read within the transaction, so that of two polls the later one sees the newer state.
        _record(ledger, folder)
        return _open_claims(ledger, "request", limit)


def _wait_for_writers(folder: Path) -> None:
    """Wait until files that have just been written are old enough to be read; the ledger is not locked yet."""
    if not folder.is_dir():
        return
    ages = [0.0]
    for path in _files(folder).values():
        with contextlib.suppress(OSError):  # the file has been deleted
            ages.append(QUIET_SECONDS - (time.time() - path.lstat().st_mtime))
    time.sleep(min(max(ages), QUIET_SECONDS))


def malformed(folder: Path, limit: int = MAX_CLAIMS) -> list[Claim]:
    """Return the malformed files that have been found and not reported yet."""
    with _ledger(folder) as ledger:
        return _open_claims(ledger, "problem", limit)


def settle(folder: Path, run_id: str, poll: str) -> str:
    """Record that a poll has started or reported a claim; return the poll that was the first to do so."""
    with _ledger(folder) as ledger:
        ledger.execute("UPDATE claims SET settled_by = ? WHERE run_id = ? AND settled_by IS NULL", (poll, run_id))
        ((settled_by,),) = ledger.execute("SELECT settled_by FROM claims WHERE run_id = ?", (run_id,))
        return str(settled_by)


@contextlib.contextmanager
def _ledger(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open the ledger for one transaction while no other process can write; an error in the block rolls it back."""
    path = folder / LEDGER
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=LOCK_TIMEOUT_SECONDS, isolation_level=None)) as ledger:
            ledger.executescript(f"BEGIN IMMEDIATE; {_SCHEMA}")
            try:
                yield ledger
            except BaseException:
                if ledger.in_transaction:  # SQLite has already ended it if the file is damaged
                    ledger.execute("ROLLBACK")
                raise
            ledger.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        # The lowest byte is the kind of error; the others are details.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
            raise
        raise LedgerError(
            f"{path}: expected the ledger of requests, found a damaged file ({error}). Pause adhoc_request_sensor, "
            f"move {path.name} and what begins with that name out of {path.parent}, and unpause the DAG: the next poll "
            "starts a new ledger. Files that never changed since they were first seen are not run again; others are"
        ) from error


def _open_claims(ledger: sqlite3.Connection, kind: str, limit: int) -> list[Claim]:
    """Return the oldest `limit` claims that have a `kind` ("request" or "problem") and are not settled."""
    rows = ledger.execute(
        "SELECT file, run_id, logical_date, request, problem FROM claims "
        f"WHERE settled_by IS NULL AND {kind} IS NOT NULL ORDER BY logical_date LIMIT ?",
        (limit,),
    )
    return [
        Claim(file, run_id, datetime.fromisoformat(found), json.loads(request) if request else None, problem)
        for file, run_id, found, request, problem in rows
    ]


@dataclass(frozen=True)
class _Read:
    """The result of reading a file: its content and a hash of it, or the reason why it cannot be read."""

    content: bytes = b""
    digest: str | None = None
    unread: str | None = None


def _record(ledger: sqlite3.Connection, folder: Path) -> None:
    """Make a claim for each new or changed file, and record which files are gone."""
    known = {
        file: (version, digest, unread)
        for file, version, digest, unread in ledger.execute("SELECT file, version, content, unread FROM files")
    }
    present = _files(folder)
    for file, (_, digest, unread) in known.items():
        # Also checked by name, because a listing may miss a file that is being replaced.
        if (digest or unread) and file not in present and not os.path.lexists(folder / file):
            ledger.execute("UPDATE files SET content = NULL, unread = NULL WHERE file = ?", (file,))
    for file, path in present.items():
        read = _read(path)
        if read is None:
            continue
        version, digest, unread = known.get(file, (0, None, None))
        changed = read.unread != unread if read.unread else read.digest != digest
        if not changed and read.unread == unread:
            continue
        # An unreadable file keeps its last hash: if it becomes readable again unchanged, it is not new.
        row = (file, version + changed, read.digest or digest, read.unread)
        ledger.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", row)
        if changed:
            _make_claim(ledger, file, version + 1, read)


def _files(folder: Path) -> dict[str, Path]:
    """Return the folder's JSON files by name, in order. They may include links and FIFOs, which `_read` handles."""
    with os.scandir(folder) as entries:
        found = {
            # A name that is not valid UTF-8 is escaped, so that SQLite and JSON can store it.
            entry.name.encode("utf-8", "backslashreplace").decode(): Path(entry.path)
            for entry in entries
            if not entry.name.startswith(".")
            and entry.name.lower().endswith(".json")
            and not entry.is_dir(follow_symlinks=False)
        }
    return dict(sorted(found.items()))


def _read(path: Path) -> _Read | None:
    """Read a file; return None if the next poll should try again, or if it is not a regular file."""
    try:
        # A link could lead to any file on this machine, and opening a FIFO would block.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return _Read(unread="it is a link: put the file itself into the folder")
        if error.errno == errno.EACCES:
            return _Read(unread="it may not be read: give Airflow's user the right to (chmod a+r)")
        log.warning("%s is left for the next poll: %s", path, error)
        return None
    with os.fdopen(handle, "rb") as file:
        before = os.fstat(file.fileno())
        # The absolute value, because the folder may be on a machine whose clock is ahead.
        if not stat.S_ISREG(before.st_mode) or abs(time.time() - before.st_mtime) < QUIET_SECONDS:
            return None
        content = file.read(MAX_BYTES + 1)
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        return None
    size = f"{after.st_size} bytes\n".encode() if len(content) > MAX_BYTES else b""
    return _Read(content=content, digest=hashlib.sha256(size + content).hexdigest())


def _make_claim(ledger: sqlite3.Connection, file: str, version: int, read: _Read) -> None:
    request, problem = None, read.unread
    if problem is None:
        try:
            request = _parse(read.content, Path(file).stem).model_dump_json()
        except RequestError as error:
            problem = str(error)
    named = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(file).stem)[:64]
    # The hash includes the whole name, because two names may become the same in a run id.
    digest = hashlib.sha256(f"{file}\n{read.digest or problem}".encode()).hexdigest()[:12]
    found = datetime.now(UTC)
    # Airflow would take a second run with the same date for the same run, and skip it.
    while ledger.execute("SELECT 1 FROM claims WHERE logical_date = ?", (_text(found),)).fetchone():
        found += timedelta(microseconds=1)
    ledger.execute(
        "INSERT INTO claims VALUES (?, ?, ?, ?, ?, NULL)",
        (f"file__{named}__{version}__{digest}", file, _text(found), request, problem),
    )


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")


def _parse(content: bytes, stem: str) -> adhoc.Request:
    """Parse the content of a file; a request without a name gets the file's. Raises RequestError."""
    if len(content) > MAX_BYTES:
        raise RequestError(f"the file is longer than {MAX_BYTES:,} bytes: expected a JSON object of a few lines")
    try:
        given = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_without_duplicates)
    except UnicodeDecodeError as error:
        raise RequestError(f"the file is not JSON: expected UTF-8, found an invalid byte at {error.start}") from error
    except RecursionError as error:
        raise RequestError("the file is not a request: its objects or lists are nested too deeply") from error
    except RequestError:
        raise
    except ValueError as error:
        raise RequestError(f"the file is not JSON: {error}") from error
    return adhoc.parse(given, default_name=stem)


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    given = dict(pairs)
    if len(given) < len(pairs):
        raise RequestError("the request is wrong: a key occurs twice")
    return given
