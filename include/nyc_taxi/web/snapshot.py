"""The snapshot: what the warehouse contains, as JSON files for pages that must never open the warehouse.

Whoever has the warehouse open writes it (see `contents.py`). A page reads it, which neither opens DuckDB nor waits for
anybody. A file for each fleet, its *part*, has a line for each month; another file, the *head*, says which parts there
are. Each has a checksum. A writer replaces the parts of fleets that have changed, and keeps the lines of months that
have not; a reader parses only the lines that it has not seen before. So both cost what the changed months cost, and not
what all months of all fleets would.
"""

import contextlib
import json
import logging
import re
import threading
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from include.nyc_taxi import settings
from include.nyc_taxi.trips.loaded import LoadedMonth

log = logging.getLogger(__name__)

VERSION = 3
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

    # Pages ask for these of all months at each poll, and a month that has not changed stays the same object.
    @cached_property
    def warnings(self) -> int:
        """The number of rules that the month breaks."""
        return sum(not check.passed for check in self.checks)

    @cached_property
    def as_loaded_month(self) -> LoadedMonth:
        """The same as a `LoadedMonth`."""
        return LoadedMonth(
            rows_in_file=self.rows,
            rows_loaded=self.rows,
            source_url=self.source_url,
            etag=self.etag,
            last_modified=self.last_modified,
            bytes=self.bytes,
            loaded_at=datetime.fromisoformat(self.loaded_at).astimezone(UTC),
            run_id=self.run_id,
            unknown_columns=self.unknown_columns,
        )


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
    """The file with the snapshot's head, in the data directory."""
    return status_dir() / "warehouse.json"


def part_path(fleet: str) -> Path:
    """The file with a fleet's part, beside the head."""
    return status_dir() / f"warehouse.{quote(fleet, safe='')}.json"


def status_dir() -> Path:
    """The folder with what pages read: the snapshot, and the records of uses."""
    return settings.data_dir() / "status"


class DamagedSnapshotError(Exception):
    """The file is not a snapshot, was changed by hand, or has been written by another version."""


@dataclass(frozen=True)
class Document:
    """One of the snapshot's files: what a writer needs to know about it, without parsing its months.

    Attributes:
        head: everything but the months, as JSON values.
        months: the text of each month's line, by month; empty in the snapshot's head.
    """

    head: Mapping[str, Any]
    months: Mapping[str, str] = field(default_factory=dict)


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
    """The snapshot's head; None if there is none, or if it cannot be used, or if a part is not as it was written."""
    try:
        head = decode(path().read_bytes())
        intact = all(_is_intact(part_path(fleet), part) for fleet, part in head.head["fleets"].items())
    except (OSError, DamagedSnapshotError):
        return None
    return head if intact else None


def _is_intact(file: Path, part: Mapping[str, Any]) -> bool:
    """Whether a part is as it was written.

    Its facts tell that without reading it. Where they differ, its content does: on a network file system, another
    machine may see older facts for some seconds.
    """
    if facts(file) == part["facts"]:
        return True
    with contextlib.suppress(OSError):
        return bool(zlib.crc32(file.read_bytes()) == part["crc32"])
    return False


def stored_part(fleet: str) -> Document:
    """A fleet's part.

    Raises:
        DamagedSnapshotError: it cannot be used.
    """
    try:
        return decode(part_path(fleet).read_bytes())
    except OSError as error:
        raise DamagedSnapshotError(str(error)) from error


def facts(file: Path) -> list[int] | None:
    """What any change of a file changes; None if there is no such file."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return [found.st_ino, found.st_size, found.st_mtime_ns]


def loaded_month(fleet: str, month: str) -> Loaded | None:
    """A month as the snapshot has it; None if it is not loaded. Reads only the head and the fleet's part.

    Raises:
        DamagedSnapshotError: there is no snapshot, or it cannot be used.
    """
    try:
        head = decode(path().read_bytes()).head
    except OSError as error:
        raise DamagedSnapshotError(str(error)) from error
    if fleet not in head["fleets"]:
        return None
    part = _part_of(fleet, [head["at"]["kind"], head["at"]["place"]])
    return _month(part.months[month], part.head["rules"])[0] if month in part.months else None


def _part_of(fleet: str, place: list[str]) -> Document:
    """A fleet's part, if it is of the warehouse at this place.

    Raises:
        DamagedSnapshotError: it cannot be used, or is of another warehouse.
    """
    part = stored_part(fleet)
    if part.head["of"] != place:
        raise DamagedSnapshotError(f"{part_path(fleet)} is of another warehouse")
    return part


def read() -> Snapshot | None:
    """The snapshot; None if there is none that this version can read (`problem` says why)."""
    return _reader.read()[0]


def problem() -> str | None:
    """What is wrong with the snapshot and what to run, as sentences; None if it can be read."""
    return _reader.read()[1]


Month = tuple[Loaded | None, Refusal | None]
"""What a month's line contains."""


@dataclass(frozen=True)
class _Part:
    """A part that has been read.

    Attributes:
        of_file: its file's `facts`.
        lines: what each month's line contains, by its text.
        weeks: the number of trips in each counted week.
    """

    of_file: list[int] | None
    rules: list[list[Any]]
    lines: Mapping[str, Month]
    months: Mapping[str, Loaded]
    refusals: Mapping[str, Refusal]
    weeks: Mapping[str, int]


class _Reader:
    """Reads the snapshot, each version of a file once, and each month's line once."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._version: object = None
        self._read: tuple[Snapshot | None, str | None] = None, None
        self._parts: dict[str, _Part] = {}

    def read(self) -> tuple[Snapshot | None, str | None]:
        """The snapshot, or else the problem with it. A writer replaces files, so each version has its own facts."""
        file = path()
        try:
            with self._turn:
                version = file, facts(file), [facts(part_path(fleet)) for fleet in self._parts]
                if version[1] is None:
                    return None, f"There is no snapshot of the warehouse yet. {HOW_TO_WRITE}"
                if version != self._version:
                    self._read = self._parsed(file)
                    self._version = file, version[1], [part.of_file for part in self._parts.values()]
                return self._read
        except OSError as error:
            return None, f"The snapshot {file} cannot be read: {error}."

    def _parsed(self, file: Path) -> tuple[Snapshot | None, str | None]:
        for is_last in (False, True):
            try:
                return self.snapshot(decode(file.read_bytes())), None
            except DamagedSnapshotError as error:
                reason = str(error)
            except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
                reason = f"{type(error).__name__}: {error}"
            if not is_last:
                continue  # a writer may have replaced a part after the head was read
        log.warning("%s is not used: %s. %s", file, reason, HOW_TO_WRITE)
        return None, f"The snapshot {file} is not used: {reason}. {HOW_TO_WRITE}"

    def snapshot(self, document: Document) -> Snapshot:
        """Put the head and its parts together.

        Raises:
            DamagedSnapshotError: a part is missing, damaged, or of another warehouse.
        """
        head, at = document.head, document.head["at"]
        self._parts = {fleet: self._part(fleet, [at["kind"], at["place"]]) for fleet in head["fleets"]}
        return Snapshot(
            written_at=head["written_at"],
            duckdb=head["duckdb"],
            at=Place(at["kind"], at["place"], tuple(Setting(**setting) for setting in at["settings"])),
            months={fleet: part.months for fleet, part in self._parts.items() if part.months},
            refusals={fleet: part.refusals for fleet, part in self._parts.items() if part.refusals},
            weeks={fleet: part.weeks for fleet, part in self._parts.items() if part.weeks},
            zones={int(zone): name for zone, name in head["zones"].items()},
        )

    def _part(self, fleet: str, place: list[str]) -> _Part:
        of_file, known = facts(part_path(fleet)), self._parts.get(fleet)
        if known and known.of_file == of_file:
            return known
        document = _part_of(fleet, place)
        rules = document.head["rules"]
        # If the numbers of the rules mean other ones than before, so do the lines.
        lines = known.lines if known and rules[: len(known.rules)] == known.rules else {}
        parsed = {text: lines.get(text) or _month(text, rules) for text in document.months.values()}
        found = {month: parsed[text] for month, text in document.months.items()}
        return _Part(
            of_file,
            rules,
            parsed,
            {month: load for month, (load, _) in found.items() if load},
            {month: refusal for month, (_, refusal) in found.items() if refusal},
            document.head["weeks"],
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
    values = [
        found and {x.name: getattr(found, x.name) for x in fields(found)} | {"checks": rules.short(found.checks)}
        for found in (load, refusal)
    ]
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
