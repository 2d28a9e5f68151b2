"""The snapshot: what the warehouse contains, as a JSON file for pages that must never open the warehouse.

Whoever has the warehouse open writes the snapshot after its commit, before it closes the warehouse (see
`plugins/warehouse_hook.py`). A page reads the file. It neither opens DuckDB nor waits for anybody.

Writers take turns with a file lock, and each reads the warehouse only when it has its turn. The last one to write has
therefore also read last, so no writer of a lake can replace a newer snapshot by an older one.
"""

import functools
import itertools
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

import duckdb

from include.nyc_taxi import catalogue, settings, warehouse
from include.nyc_taxi.files import locked, replacing
from include.nyc_taxi.urls import without_login

log = logging.getLogger(__name__)

VERSION = 1
"""A snapshot of another version is ignored, and replaced by whoever opens the warehouse next."""
TURN_SECONDS = 5.0
"""How long a writer waits for its turn. Then it writes none: the page stays old until the next task."""
TOP_ZONES = 10


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

    def rows_loaded_since(self, before: Self | None, run_id: str) -> int | None:
        """The number of trips that a run has loaded since an older snapshot; None if it has loaded no month."""
        loads = [
            load
            for fleet, months in self.months.items()
            for month, load in months.items()
            if load.run_id == run_id and not (before and _same_load(before.months.get(fleet, {}).get(month), load))
        ]
        return sum(load.rows for load in loads) if loads else None


def _same_load(one: Loaded | None, other: Loaded) -> bool:
    return one is not None and one.loaded_at == other.loaded_at


def path() -> Path:
    """The file with the snapshot, in the data directory."""
    return status_dir() / "warehouse.json"


def status_dir() -> Path:
    """The folder with what pages read: the snapshot, and the records of uses."""
    return settings.data_dir() / "status"


def write(con: duckdb.DuckDBPyConnection, at: Place) -> Snapshot:
    """Read the warehouse, and replace the snapshot by what it contains; return it.

    Call it after a commit, outside a transaction.

    Raises:
        TimeoutError: other writers kept this one waiting for too long.
        OSError, duckdb.Error: the snapshot could not be written, or the warehouse not read.
    """
    with locked(path().with_suffix(".lock"), TURN_SECONDS):
        with warehouse.reading(con):
            snapshot = take(con, at)
        with replacing(path()) as temporary:
            temporary.write_text(_as_text(snapshot))
    return snapshot


def take(con: duckdb.DuckDBPyConnection, at: Place) -> Snapshot:
    """Read a snapshot from the warehouse, which may have been made by an older version, or still be empty."""
    checks, refusals = _audits(con)
    return Snapshot(
        written_at=datetime.now(UTC).isoformat(timespec="seconds"),
        duckdb=duckdb.__version__,
        at=at,
        months=_months(con, checks, _top_zones(con)),
        refusals=refusals,
        weeks=_weeks(con),
        zones=dict(con.execute(f"SELECT zone_id, zone FROM {warehouse.readable(con, 'zones')}").fetchall()),
    )


def _months(
    con: duckdb.DuckDBPyConnection,
    checks: Mapping[tuple[str, str], tuple[Check, ...]],
    top_zones: Mapping[tuple[str, str], tuple[tuple[int, int], ...]],
) -> dict[str, dict[str, Loaded]]:
    rows = con.execute(
        "SELECT fleet, strftime(partition_month, '%Y-%m'), rows_loaded, bytes, source_url, etag, last_modified, "
        "strftime(loaded_at, '%Y-%m-%dT%H:%M:%S.%f+00:00'), run_id, simulated, changes, unknown_columns "
        f"FROM {warehouse.readable(con, 'latest_loads')} ORDER BY ALL"
    ).fetchall()
    found: dict[str, dict[str, Loaded]] = {}
    for fleet, month, count, size, url, etag, modified, loaded_at, run_id, simulated, changes, unknown in rows:
        found.setdefault(fleet, {})[month] = Loaded(
            rows=count,
            bytes=size,
            source_url=without_login(url),
            etag=etag,
            last_modified=modified,
            loaded_at=loaded_at,
            run_id=run_id,
            simulated=simulated,
            changes=json.loads(changes) if changes else None,
            unknown_columns=tuple(json.loads(unknown or "[]")),
            checks=checks.get((fleet, month), ()),
            top_zones=top_zones.get((fleet, month), ()),
        )
    return found


def _audits(
    con: duckdb.DuckDBPyConnection,
) -> tuple[dict[tuple[str, str], tuple[Check, ...]], dict[str, dict[str, Refusal]]]:
    """The checks of published months, and the refused loads."""
    rows = con.execute(
        "SELECT fleet, strftime(partition_month, '%Y-%m'), published, "
        "strftime(checked_at, '%Y-%m-%dT%H:%M:%S.%f+00:00'), run_id, rule, severity, at_most, value, "
        "CASE WHEN NOT passed THEN detail END "
        f"FROM {warehouse.readable(con, 'quality_checks')} "
        "ORDER BY fleet, partition_month, checked_at, run_id, published"
    ).fetchall()
    published: dict[tuple[str, str], tuple[Check, ...]] = {}
    refused: dict[str, dict[str, Refusal]] = {}
    for (fleet, month, is_published, at, run_id), group in itertools.groupby(rows, lambda row: row[:5]):
        checks = tuple(Check(*row[5:]) for row in group)
        if is_published:
            published[fleet, month] = checks
        else:  # rows are in the order of time, so the newest refusal stays
            refused.setdefault(fleet, {})[month] = Refusal(at, run_id, checks)
    return published, refused


def _top_zones(con: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], tuple[tuple[int, int], ...]]:
    rows = con.execute(
        "SELECT fleet, strftime(partition_month, '%Y-%m'), "
        f"max(CASE WHEN zone_id BETWEEN 1 AND {catalogue.ZONES} THEN struct_pack(n := num_trips, z := -zone_id) END, "
        f"{TOP_ZONES}) FROM {warehouse.readable(con, 'trips_by_zone')} GROUP BY ALL"
    ).fetchall()
    return {(fleet, month): tuple((-top["z"], top["n"]) for top in tops or ()) for fleet, month, tops in rows}


def _weeks(con: duckdb.DuckDBPyConnection) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for fleet, monday, trips in con.execute(
        "SELECT fleet, strftime(period, '%Y-%m-%d'), num_trips "
        f"FROM {warehouse.readable(con, 'trips_by_week')} ORDER BY ALL"
    ).fetchall():
        found.setdefault(fleet, {})[monday] = trips
    return found


def read() -> Snapshot | None:
    """The snapshot; None if there is none that this version can read. It is parsed once, until it is replaced."""
    try:
        facts = path().stat()
        return _parsed(path(), (facts.st_ino, facts.st_mtime_ns, facts.st_size))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        log.warning("%s cannot be read (%s). The next task that opens the warehouse replaces it", path(), error)
        return None


@functools.lru_cache(maxsize=1)
def _parsed(file: Path, version: tuple[int, int, int]) -> Snapshot | None:  # noqa: ARG001 - the cache's key
    """Parse the file. A writer replaces it by another file, so each version of it has its own key."""
    document = json.loads(file.read_text())
    return _from_values(document) if document["version"] == VERSION else None


def _as_text(snapshot: Snapshot) -> str:
    """The snapshot as JSON.

    A rule's name, severity and limit are the same for hundreds of months, so a check is written as the number of its
    rule, its value and, if it is above the limit, its detail.
    """
    rules: dict[tuple[str, str, float], int] = {}

    def short(checks: Iterable[Check]) -> list[list[Any]]:
        return [
            [rules.setdefault((x.rule, x.severity, x.limit), len(rules)), x.value, *([] if x.passed else [x.detail])]
            for x in checks
        ]

    document = {
        "version": VERSION,
        "written_at": snapshot.written_at,
        "duckdb": snapshot.duckdb,
        "at": asdict(snapshot.at),
        "months": {
            fleet: {month: vars(load) | {"checks": short(load.checks)} for month, load in months.items()}
            for fleet, months in snapshot.months.items()
        },
        "refusals": {
            fleet: {month: vars(refusal) | {"checks": short(refusal.checks)} for month, refusal in months.items()}
            for fleet, months in snapshot.refusals.items()
        },
        "weeks": snapshot.weeks,
        "zones": snapshot.zones,
    }
    return json.dumps(document | {"rules": list(rules)}, separators=(",", ":"))


def _from_values(document: Mapping[str, Any]) -> Snapshot:
    rules = document["rules"]

    def checks(short: Iterable[list[Any]]) -> tuple[Check, ...]:
        return tuple(Check(*rules[number], *values) for number, *values in short)

    at = document["at"]
    return Snapshot(
        written_at=document["written_at"],
        duckdb=document["duckdb"],
        at=Place(at["kind"], at["place"], tuple(Setting(**setting) for setting in at["settings"])),
        months={
            fleet: {
                month: Loaded(
                    **load
                    | {
                        "checks": checks(load["checks"]),
                        "unknown_columns": tuple(load["unknown_columns"]),
                        "top_zones": tuple((zone, trips) for zone, trips in load["top_zones"]),
                    }
                )
                for month, load in months.items()
            }
            for fleet, months in document["months"].items()
        },
        refusals={
            fleet: {
                month: Refusal(**refusal | {"checks": checks(refusal["checks"])}) for month, refusal in months.items()
            }
            for fleet, months in document["refusals"].items()
        },
        weeks=document["weeks"],
        zones={int(zone): name for zone, name in document["zones"].items()},
    )
