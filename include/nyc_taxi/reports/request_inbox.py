"""Request files: each version of one is claimed once, and its run started, or its fault reported, once.

A *look* at the folder writes what is new into a ledger, a SQLite file in the folder itself: files and ledger move, and
are lost, together. A claim is handed out at every look until it is settled. The run it starts has a name that follows
from file, version and content, so that to start it twice (two looks at a time, a crash before it was settled) is to
start it once.
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
"""So many at a look, the rest at the next: Airflow maps over 1,024 at most, and a look should not take long."""
QUIET_SECONDS = 2.0
"""A file changed more lately may still be being written: a look waits for it once, then leaves it to the next one."""
LOCK_TIMEOUT_SECONDS = 60.0

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_SCHEMA = Path(__file__).with_suffix(".sql").read_text()


class LedgerError(NycTaxiError, permanent=True):
    """The ledger is damaged; the message says how to go on without it."""


@dataclass(frozen=True)
class Claim:
    """A version of a request file that is still to be dealt with.

    Attributes:
        file: the file's name.
        run_id: of the run that it starts. Also the claim's own name.
        logical_date: of that run; no two claims have the same.
        request: the run's configuration; None where the file is malformed.
        problem: what is wrong with it, on one line; None where nothing is.
    """

    file: str
    run_id: str
    logical_date: datetime
    request: dict[str, str] | None
    problem: str | None


def claim(folder: Path, limit: int = MAX_CLAIMS) -> list[Claim]:
    """Look at the folder, which is made where it is missing; return requests whose run is not known to be started.

    Taken are files `*.json` of the folder itself that are not hidden. A file that went away and is back counts as new.

    Raises:
        LedgerError: the ledger is damaged; also from `malformed` and `settle`.
    """
    _wait_for_writers(folder)
    with _ledger(folder) as ledger:
        # All in one transaction: of two looks, one sees the other's versions, never an older state of the folder.
        _record(ledger, folder)
        return _open_claims(ledger, "request", limit)


def _wait_for_writers(folder: Path) -> None:
    """Let files that have just been written come of age, before the ledger is locked."""
    if not folder.is_dir():
        return
    ages = [0.0]
    for path in _files(folder).values():
        with contextlib.suppress(OSError):  # it is gone again
            ages.append(QUIET_SECONDS - (time.time() - path.lstat().st_mtime))
    time.sleep(min(max(ages), QUIET_SECONDS))


def malformed(folder: Path, limit: int = MAX_CLAIMS) -> list[Claim]:
    """What the looks so far have found malformed and nobody has reported."""
    with _ledger(folder) as ledger:
        return _open_claims(ledger, "problem", limit)


def settle(folder: Path, run_id: str, look: str) -> str:
    """Note that the look `look` has started, or reports, a claim; return the look that was the first to note it."""
    with _ledger(folder) as ledger:
        ledger.execute("UPDATE claims SET settled_by = ? WHERE run_id = ? AND settled_by IS NULL", (look, run_id))
        ((settled_by,),) = ledger.execute("SELECT settled_by FROM claims WHERE run_id = ?", (run_id,))
        return str(settled_by)


@contextlib.contextmanager
def _ledger(folder: Path) -> Iterator[sqlite3.Connection]:
    """The ledger, in a transaction that no other process writes beside; rolled back by whatever the block raises."""
    path = folder / LEDGER
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=LOCK_TIMEOUT_SECONDS, isolation_level=None)) as ledger:
            ledger.executescript(f"BEGIN IMMEDIATE; {_SCHEMA}")
            try:
                yield ledger
            except BaseException:
                if ledger.in_transaction:  # SQLite has ended it itself where the file is damaged
                    ledger.execute("ROLLBACK")
                raise
            ledger.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        # The lower byte is the kind of error; the upper ones say more of it.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
            raise
        raise LedgerError(
            f"{path}: expected the ledger of requests, found a damaged file ({error}). Pause adhoc_request_sensor, "
            f"move {path.name} and what begins with that name out of {path.parent}, unpause: the next look begins a "
            "new ledger. Files that have not changed since they were first seen are not run again; changed ones are"
        ) from error


def _open_claims(ledger: sqlite3.Connection, kind: str, limit: int) -> list[Claim]:
    """The oldest `limit` claims that have a `kind` ("request" or "problem") and are not settled."""
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
    """What reading a file gave: its content and the content's hash, or why it cannot be read."""

    content: bytes = b""
    digest: str | None = None
    unread: str | None = None


def _record(ledger: sqlite3.Connection, folder: Path) -> None:
    """Make a claim of each file that is new or has changed, and note which files are gone."""
    known = {
        file: (version, digest, unread)
        for file, version, digest, unread in ledger.execute("SELECT file, version, content, unread FROM files")
    }
    present = _files(folder)
    for file, (_, digest, unread) in known.items():
        # Asked for by name too: a listing need not show a file that is being replaced.
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
        # A file that cannot be read keeps the hash of what was read of it last: readable again, it need not be new.
        row = (file, version + changed, read.digest or digest, read.unread)
        ledger.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", row)
        if changed:
            _make_claim(ledger, file, version + 1, read)


def _files(folder: Path) -> dict[str, Path]:
    """The folder's JSON files by name, in order of their names. Of these a FIFO or a link is for `_read` to judge."""
    with os.scandir(folder) as entries:
        found = {
            # A name that is no proper text is written so that SQLite and JSON can hold it.
            entry.name.encode("utf-8", "backslashreplace").decode(): Path(entry.path)
            for entry in entries
            if not entry.name.startswith(".")
            and entry.name.lower().endswith(".json")
            and not entry.is_dir(follow_symlinks=False)
        }
    return dict(sorted(found.items()))


def _read(path: Path) -> _Read | None:
    """Read a file; None where it is to be left for the next look, or is no file."""
    try:
        # A link could lead to any file of this machine, and a FIFO would be waited for.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return _Read(unread="it is a link: put the file itself into the folder")
        if error.errno == errno.EACCES:
            return _Read(unread="it may not be read: give Airflow's user the right to (chmod a+r)")
        log.warning("%s is left for the next look: %s", path, error)
        return None
    with os.fdopen(handle, "rb") as file:
        before = os.fstat(file.fileno())
        # Also where the clock of another machine, from which the folder comes, is somewhat ahead.
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
            request = json.dumps(_parse(read.content, Path(file).stem).values())
        except RequestError as error:
            problem = str(error)
    named = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(file).stem)[:64]
    # The whole name goes into the hash: two names may look the same once they are fit for a run id.
    digest = hashlib.sha256(f"{file}\n{read.digest or problem}".encode()).hexdigest()[:12]
    found = datetime.now(UTC)
    # Airflow takes a run of the same date for the same run, and would skip the second.
    while ledger.execute("SELECT 1 FROM claims WHERE logical_date = ?", (_text(found),)).fetchone():
        found += timedelta(microseconds=1)
    ledger.execute(
        "INSERT INTO claims VALUES (?, ?, ?, ?, ?, NULL)",
        (f"file__{named}__{version}__{digest}", file, _text(found), request, problem),
    )


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")


def _parse(content: bytes, stem: str) -> adhoc.Request:
    """The request in a file's content; its name is the file's where it gives none. Raises RequestError."""
    if len(content) > MAX_BYTES:
        raise RequestError(f"the file is longer than {MAX_BYTES:,} bytes: expected a JSON object of a few lines")
    try:
        given = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_without_duplicates)
    except UnicodeDecodeError as error:
        raise RequestError(f"the file is no JSON: expected UTF-8, found a wrong byte at {error.start}") from error
    except RecursionError as error:
        raise RequestError("the file is no request: objects or lists within each other, too deep to read") from error
    except RequestError:
        raise
    except ValueError as error:
        raise RequestError(f"the file is no JSON: {error}") from error
    return adhoc.parse(given, default_name=stem)


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    given = dict(pairs)
    if len(given) < len(pairs):
        raise RequestError("the request is wrong: a key is there twice")
    return given
