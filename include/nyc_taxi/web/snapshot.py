"""The snapshot: what the warehouse contains, as a JSON file for pages that must never open the warehouse.

Whoever has the warehouse open writes it (see `contents.py`). A page reads it, which neither opens DuckDB nor waits for
anybody. The file has a line for each month, and a checksum. A writer keeps the lines of months that have not changed,
and a reader parses only the lines that it has not seen before: both cost what the changed months cost.
"""

import json
import logging
import re
import threading
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from include.nyc_taxi import settings

log = logging.getLogger(__name__)

VERSION = 2
"""A snapshot of another version is ignored, and replaced by whoever opens the warehouse next."""
HOW_TO_WRITE = (
    "Any task that opens the warehouse writes a new one: trigger the DAG warehouse_status, or run `make status`."
)


class Check(NamedTuple):
    """The result of one rule of the audit. A tuple, because there are tens of thousands in a snapshot.

    Attributes:
        severity: "error" or "warn".
        limit: the largest value that passes.
        value: None if the rule does not apply.
        detail: a sentence about the value, if it is above the limit; otherwise None, to keep the snapshot small.
    """

    rule: str
    severity: str
    limit: float
    value: float | None
    detail: str | None = None

    @property
    def passed(self) -> bool:
        """Whether the month keeps the rule."""
        return self.detail is None


@dataclass(frozen=True)
class Refusal:
    """A load that the audit has refused since the month was last published.

    Attributes:
        at: the time of the refusal, ISO 8601 in UTC.
        checks: the results of all rules.
    """

    at: str
    run_id: str
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Loaded:
    """A loaded month: its latest row in `loads`, and what the audit found.

    Attributes:
        rows: number of trips.
        bytes: the file's size.
        loaded_at: ISO 8601 in UTC.
        simulated: whether the file says that its trips are simulated; None if an older version has loaded it.
        changes: name to [old, new]; None for a month's first edition.
        unknown_columns: columns of the file that were not loaded.
        top_zones: the IDs of the pickup zones with the most trips, and the numbers of trips; empty until the month has
            been aggregated.
    """

    rows: int
    bytes: int
    source_url: str
    etag: str | None
    last_modified: str | None
    loaded_at: str
    run_id: str
    simulated: bool | None
    changes: Mapping[str, Any] | None
    unknown_columns: tuple[str, ...]
    checks: tuple[Check, ...] = ()
    top_zones: tuple[tuple[int, int], ...] = ()

    @property
    def warnings(self) -> int:
        """The number of rules that the month breaks."""
        return sum(not check.passed for check in self.checks)


@dataclass(frozen=True)
class Setting:
    """A setting of the warehouse's connection.

    Attributes:
        origin: where its value comes from, for readers.
    """

    name: str
    value: str
    origin: str


@dataclass(frozen=True)
class Place:
    """The warehouse itself: what the hook knows about it.

    Attributes:
        kind: "file" or "lake".
        place: where it is, without secrets.
    """

    kind: str
    place: str
    settings: tuple[Setting, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """What the warehouse contained when the snapshot was written.

    Attributes:
        written_at: ISO 8601 in UTC.
        duckdb: DuckDB's version.
        months: the loaded months, by fleet and month.
        refusals: refused loads, by fleet and month, whether or not another edition of the month is loaded.
        weeks: the number of trips in each counted week, by fleet and Monday.
        zones: the zones' names, by ID.
    """

    written_at: str
    duckdb: str
    at: Place
    months: Mapping[str, Mapping[str, Loaded]] = field(default_factory=dict)
    refusals: Mapping[str, Mapping[str, Refusal]] = field(default_factory=dict)
    weeks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    zones: Mapping[int, str] = field(default_factory=dict)


def path() -> Path:
    """The file with the snapshot, in the data directory."""
    return status_dir() / "warehouse.json"


def status_dir() -> Path:
    """The folder with what pages read: the snapshot, and the records of uses."""
    return settings.data_dir() / "status"


class DamagedSnapshotError(Exception):
    """The file is not a snapshot, was changed by hand, or has been written by another version."""


@dataclass(frozen=True)
class Document:
    """The snapshot's file: what a writer needs to know about the snapshot before, without parsing its months.

    Attributes:
        head: everything but the months, as JSON values.
        months: the text of each month's line, by "<fleet> <month>".
    """

    head: Mapping[str, Any]
    months: Mapping[str, str]


_FIRST_LINE = re.compile(rb'\{"version":(\d+),"crc32":(\d+),')
_BEFORE_MONTHS, _BETWEEN_MONTHS, _AFTER_MONTHS = ',"months":{\n', ",\n", "\n}}\n"
"""JSON writes line breaks within texts as \\n, so these separators are found nowhere else."""


def encode(document: Document) -> bytes:
    """The file's contents."""
    head = json.dumps(document.head, separators=(",", ":"))[1:-1]
    months = _BETWEEN_MONTHS.join(f'"{key}":{text}' for key, text in document.months.items())
    rest = f"{head}{_BEFORE_MONTHS}{months}{_AFTER_MONTHS}".encode()
    return f'{{"version":{VERSION},"crc32":{zlib.crc32(rest)},\n'.encode() + rest


def decode(content: bytes) -> Document:
    """Take the file's contents apart.

    Raises:
        DamagedSnapshotError: they are not what `encode` has made.
    """
    first, _, rest = content.partition(b"\n")
    found = _FIRST_LINE.fullmatch(first)
    if not found or int(found[1]) != VERSION:
        raise DamagedSnapshotError("another version has written it, or it is no snapshot")
    if zlib.crc32(rest) != int(found[2]):
        raise DamagedSnapshotError("it is damaged, or somebody has changed it")
    head, _, months = rest.decode().removesuffix(_AFTER_MONTHS).partition(_BEFORE_MONTHS)
    lines = (line.partition('":') for line in months.split(_BETWEEN_MONTHS) if line)
    return Document(json.loads(f"{{{head}}}"), {key[1:]: text for key, _, text in lines})


def stored() -> Document | None:
    """The snapshot's file; None if there is none, or if it cannot be used."""
    try:
        return decode(path().read_bytes())
    except (OSError, DamagedSnapshotError):
        return None


def read() -> Snapshot | None:
    """The snapshot; None if there is none that this version can read (`problem` says why)."""
    return _reader.read()[0]


def problem() -> str | None:
    """What is wrong with the snapshot and what to run, as sentences; None if it can be read."""
    return _reader.read()[1]


Month = tuple[Loaded | None, Refusal | None]
"""What a month's line contains."""


class _Reader:
    """Reads the snapshot, once for each version of the file, and each month's line once."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._version: tuple[Path, int, int, int] | None = None
        self._read: tuple[Snapshot | None, str | None] = None, None
        self._rules: list[list[Any]] = []
        self._months: dict[str, Month] = {}

    def read(self) -> tuple[Snapshot | None, str | None]:
        """The snapshot, or else the problem with it. A writer replaces the file, so each version has its own key."""
        file = path()
        try:
            facts = file.stat()
            version = file, facts.st_ino, facts.st_mtime_ns, facts.st_size
            with self._turn:
                if version != self._version:
                    self._read, self._version = self._parsed(file), version
                return self._read
        except FileNotFoundError:
            return None, f"There is no snapshot of the warehouse yet. {HOW_TO_WRITE}"
        except OSError as error:
            return None, f"The snapshot {file} cannot be read: {error}."

    def _parsed(self, file: Path) -> tuple[Snapshot | None, str | None]:
        try:
            return self._snapshot(decode(file.read_bytes())), None
        except DamagedSnapshotError as error:
            reason = str(error)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
        log.warning("%s is not used: %s. %s", file, reason, HOW_TO_WRITE)
        return None, f"The snapshot {file} is not used: {reason}. {HOW_TO_WRITE}"

    def _snapshot(self, document: Document) -> Snapshot:
        head = document.head
        rules, at = head["rules"], head["at"]
        if rules[: len(self._rules)] != self._rules:  # then the numbers in the lines mean other rules than before
            self._months = {}
        known = self._months
        parsed = {text: known.get(text) or _month(text, rules) for text in document.months.values()}
        self._rules, self._months = rules, parsed
        months: dict[str, dict[str, Loaded]] = {}
        refusals: dict[str, dict[str, Refusal]] = {}
        for key, text in document.months.items():
            fleet, month = key.split(" ")
            load, refusal = parsed[text]
            if load:
                months.setdefault(fleet, {})[month] = load
            if refusal:
                refusals.setdefault(fleet, {})[month] = refusal
        return Snapshot(
            written_at=head["written_at"],
            duckdb=head["duckdb"],
            at=Place(at["kind"], at["place"], tuple(Setting(**setting) for setting in at["settings"])),
            months=months,
            refusals=refusals,
            weeks=head["weeks"],
            zones={int(zone): name for zone, name in head["zones"].items()},
        )


_reader = _Reader()


class Rules:
    """The rules by number, which only grow: a rule keeps its number, and so a month's line its meaning.

    A rule's name, severity and limit are the same for hundreds of months, so a check is written as the number of its
    rule, its value and, if it is above the limit, its detail.
    """

    def __init__(self, known: Iterable[tuple[str, str, float]] = ()) -> None:
        self._numbers = {rule: number for number, rule in enumerate(known)}

    def short(self, checks: Iterable[Check]) -> list[list[Any]]:
        """The checks as JSON values."""
        return [[self._number(x.rule, x.severity, x.limit), x.value, *([] if x.passed else [x.detail])] for x in checks]

    def _number(self, *rule: Any) -> int:
        return self._numbers.setdefault(rule, len(self._numbers))

    def as_values(self) -> list[list[Any]]:
        """All rules as JSON values, in the order of their numbers."""
        return [list(rule) for rule in self._numbers]


def month_text(load: Loaded | None, refusal: Refusal | None, rules: Rules) -> str:
    """A month's line."""
    values = [found and vars(found) | {"checks": rules.short(found.checks)} for found in (load, refusal)]
    return json.dumps(values, separators=(",", ":"))


def _month(text: str, rules: list[list[Any]]) -> Month:
    """What `month_text` has written."""
    load, refusal = json.loads(text)

    def checks(short: Iterable[list[Any]]) -> tuple[Check, ...]:
        return tuple(Check(*rules[number], *values) for number, *values in short)

    return (
        load
        and Loaded(
            **load
            | {
                "checks": checks(load["checks"]),
                "unknown_columns": tuple(load["unknown_columns"]),
                "top_zones": tuple((zone, trips) for zone, trips in load["top_zones"]),
            }
        ),
        refusal and Refusal(**refusal | {"checks": checks(refusal["checks"])}),
    )
