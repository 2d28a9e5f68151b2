"""Read what the snapshot needs from the warehouse, and write it.

Only months that have changed since the snapshot before are read and written anew:

- A file that has not been written to since then, by its size and time, has no changes, and nothing is read. Otherwise
  a query computes a number from all rows of each fleet, which takes 0.2 s for 50,000 months, and then from those of
  each month of the fleets whose numbers differ. The months whose numbers differ have changed. So it does not matter
  who has changed them, nor whether that process was killed, nor whether the file was compacted or replaced by another.
- A lake that was never compacted has a file for each load, and reading them all could take seconds in S3. But a lake
  keeps its changes: it is asked which months have changed since its snapshot that is in the file. If it no longer has
  that one, or if it is another lake, everything is read.

Writers take turns with a file lock, and each reads the warehouse only when it has its turn. The last one to write has
therefore also read last, so no writer of a lake can replace a newer snapshot by an older one. A writer replaces the
parts of fleets first and the head last: if it is killed in between, the next one finds the same changes again.
"""

import itertools
import json
import logging
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb

from include.nyc_taxi import catalogue, warehouse
from include.nyc_taxi.files import locked, replacing
from include.nyc_taxi.urls import without_login
from include.nyc_taxi.warehouse import checkpoints, lake
from include.nyc_taxi.web.snapshot import (
    Check,
    DamagedSnapshotError,
    Document,
    Loaded,
    Place,
    Refusal,
    Rules,
    encode,
    facts,
    month_text,
    part_path,
    path,
    stored,
    stored_part,
)

log = logging.getLogger(__name__)

TURN_SECONDS = 5.0
"""How long a writer waits for its turn. Then it writes none: the page stays old until the next task."""
TOP_ZONES = 10
_OF_MONTHS = ("loads", "quality_checks", "trips_by_zone")
TABLES = ("latest_loads", "loads", "quality_checks", "trips_by_zone", "trips_by_week", "zones")

Tables = Mapping[str, str]
"""SQL for a FROM clause that reads a table or view, by its name."""

Key = tuple[str, str]
"""A fleet and a month, or a fleet and a week's Monday."""


def write(con: duckdb.DuckDBPyConnection, at: Place) -> dict[Key, Loaded]:
    """Bring the snapshot up to date with the warehouse. It is not touched if it is already.

    Call it after a commit, outside a transaction.

    Returns:
        The loaded months that were read anew, because they have changed since the snapshot before.

    Raises:
        TimeoutError: other writers kept this one waiting for too long.
        OSError, duckdb.Error: the snapshot could not be written, or the warehouse not read.
    """
    if (before := _before(at)) and _is_of_state(before, con, at):
        return {}
    with locked(path().with_suffix(".lock"), TURN_SECONDS):
        before = _before(at)
        try:
            with warehouse.reading(con):
                taken = take(con, at, before)
        except (duckdb.Error, DamagedSnapshotError) as error:
            if before is None:
                raise
            log.info("the snapshot is made from the whole warehouse, because what has changed is not known: %s", error)
            before = None
            with warehouse.reading(con):
                taken = take(con, at, None)
        taken.head["file"] = _settled(con) if taken.head["state"] is None else None
        _replace_files(taken, before)
    return taken.read


def _replace_files(taken: "Taken", before: Document | None) -> None:
    """Write the parts that have changed, and then the head; delete the parts of fleets that are no longer there."""
    # Without a snapshot before, all fleets have been read, and everything else is gone.
    known = before.head["fleets"] if before else {}
    fleets = {fleet: part for fleet, part in known.items() if fleet not in taken.parts}
    for fleet, part in taken.parts.items():
        if part:
            content, file = encode(part), part_path(fleet)
            with replacing(file) as temporary:
                temporary.write_bytes(content)
            fleets[fleet] = {"digest": taken.digests.get(fleet), "facts": facts(file), "crc32": zlib.crc32(content)}
    taken.head["fleets"] = dict(sorted(fleets.items()))
    if before is None or _content(taken.head) != _content(before.head):
        with replacing(path()) as temporary:
            temporary.write_bytes(encode(Document(taken.head)))
    kept = {part_path(fleet) for fleet in fleets}
    for file in path().parent.glob(part_path("*").name.replace("%2A", "*")):
        if file not in kept:
            file.unlink(missing_ok=True)


def _before(at: Place) -> Document | None:
    """The head of the snapshot before, if it is of the same warehouse."""
    before = stored()
    if before and (before.head["at"]["kind"], before.head["at"]["place"]) == (at.kind, at.place):
        return before
    return None


def _is_of_state(before: Document, con: duckdb.DuckDBPyConnection, at: Place) -> bool:
    """Whether the warehouse is still in the state of the snapshot: a lake by its number, a file by its facts."""
    if before.head["at"] != _as_values(at):
        return False
    if at.kind == "lake":
        return bool(before.head["state"] == _state(con))
    file = _file(con)
    return bool(file and before.head["file"] == _facts_of_file(file))


def _settled(con: duckdb.DuckDBPyConnection) -> list[Any] | None:
    """The facts of the warehouse's file as they will be when it is closed; None if they cannot be told.

    Closing a small file moves the changes in its log into the file, which is done here, before. Those of a large file
    stay in the log, because moving them takes seconds.
    """
    file = _file(con)
    if file is None:
        return None
    if file.stat().st_size < checkpoints.LARGE_FILE_BYTES:
        try:
            con.execute("CHECKPOINT")
        except duckdb.Error:  # another transaction of this process is still open
            return None
    return _facts_of_file(file)


def _file(con: duckdb.DuckDBPyConnection) -> Path | None:
    """The warehouse's file; None if it is in memory."""
    found = con.execute("SELECT path FROM duckdb_databases() WHERE database_name = current_database()").fetchone()
    return Path(found[0]) if found and found[0] else None


def _facts_of_file(file: Path) -> list[Any]:
    """What any commit changes about the warehouse's file and its log.

    They are not opened: closing the file again would drop the lock that DuckDB has on it.
    """
    log_facts = facts(file.with_name(f"{file.name}.wal"))
    return [facts(file), log_facts if log_facts and log_facts[1] else None]


def _content(head: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in head.items() if name != "written_at"}


def _as_values(at: Place) -> dict[str, Any]:
    return asdict(at) | {"settings": [asdict(setting) for setting in at.settings]}


@dataclass(frozen=True)
class Taken:
    """What has been read for a new snapshot.

    Attributes:
        head: the new head, but for its fleets.
        parts: the new parts of the fleets that may have changed; None for a fleet of which nothing is left.
        digests: of a file, a number for each fleet that any change of its rows changes.
        read: the loaded months that were read.
    """

    head: dict[str, Any]
    parts: dict[str, Document | None]
    digests: Mapping[str, str]
    read: dict[Key, Loaded]


def take(con: duckdb.DuckDBPyConnection, at: Place, before: Document | None) -> Taken:
    """Read what has changed since the snapshot with the head `before`; everything if it is None.

    The warehouse may have been made by an older version, or still be empty.

    Raises:
        duckdb.Error: the lake no longer knows what has changed. The transaction must then be ended.
        DamagedSnapshotError: a part of the snapshot before cannot be used.
    """
    state, tables = _state(con), warehouse.all_readable(con, *TABLES)
    digests = _digests(con, tables) if state is None else {}
    stamps: dict[str, dict[str, str]] = {}
    changes, parts = _Changes(), {}
    if before and state is None:
        known = {fleet: part["digest"] for fleet, part in before.head["fleets"].items()}
        fleets = {fleet for fleet in {*digests, *known} if digests.get(fleet) != known.get(fleet)}
        stamps, parts = _stamps(con, tables, fleets), _parts(fleets, before)
        changes = _Changes([key for fleet in fleets for key in _differing(parts, stamps, fleet)], fleets=fleets)
    elif before and state:
        changes = _changes_in_lake(con, before.head["state"], state)
        parts = _parts(changes.fleets or (), before)
    elif state is None:
        stamps = _stamps(con, tables, None)
    loads, refusals = _months(con, tables, changes.months)
    weeks = _weeks(con, tables, changes)
    if changes.fleets is None:
        parts = dict.fromkeys({*(fleet for fleet, _ in {*loads, *refusals}), *weeks, *stamps}, _EMPTY)
    of_fleets: dict[str, list[Key]] = {fleet: [] for fleet in parts}
    for key in {*(changes.months or ()), *loads, *refusals}:
        of_fleets[key[0]].append(key)
    new: dict[str, Document | None] = {}
    for fleet, part in parts.items():
        rules = Rules(tuple(rule) for rule in part.head["rules"])
        texts = dict(part.months)
        for key in of_fleets[fleet]:
            texts.pop(key[1], None)
            if key in loads or key in refusals:
                texts[key[1]] = month_text(loads.get(key), refusals.get(key), rules)
        head = {
            "of": [at.kind, at.place],
            "rules": rules.as_values(),
            "stamps": stamps.get(fleet, {}),
            "weeks": _merged(part.head["weeks"], weeks.get(fleet, {}), changes, fleet),
        }
        new[fleet] = Document(head, dict(sorted(texts.items()))) if texts or head["weeks"] else None
    return Taken(
        {
            "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "duckdb": duckdb.__version__,
            "at": _as_values(at),
            "state": state,
            "zones": _zones(con, tables) if changes.zones or not before else before.head["zones"],
        },
        new,
        digests,
        loads,
    )


_EMPTY = Document({"rules": [], "stamps": {}, "weeks": {}})


def _parts(fleets: Collection[str], before: Document) -> dict[str, Document]:
    return {fleet: stored_part(fleet) if fleet in before.head["fleets"] else _EMPTY for fleet in fleets}


@dataclass(frozen=True)
class _Changes:
    """What has to be read anew.

    Attributes:
        months: None means all of them.
        weeks: of a lake; None means all of them, or those of `fleets`.
        fleets: the fleets of these months and weeks; None means all of them.
    """

    months: Collection[Key] | None = None
    weeks: Collection[Key] | None = None
    fleets: Collection[str] | None = None
    zones: bool = True


def _digests(con: duckdb.DuckDBPyConnection, tables: Tables) -> dict[str, str]:
    """For each fleet of a file, a number that any change of its rows changes."""
    rows = " UNION ALL ".join(
        f"SELECT fleet, '{name}' AS name, sum(hash(r)::HUGEINT) AS stamp FROM {tables[name]} AS r GROUP BY ALL"
        for name in (*_OF_MONTHS, "trips_by_week")
    )
    found = con.execute(f"SELECT fleet, string_agg(stamp::VARCHAR, ' ' ORDER BY name) FROM ({rows}) GROUP BY ALL")
    return dict(found.fetchall())


def _stamps(
    con: duckdb.DuckDBPyConnection, tables: Tables, fleets: Collection[str] | None
) -> dict[str, dict[str, str]]:
    """For each month of these fleets of a file, a number that any change of its rows changes; None for all fleets."""
    found: dict[str, dict[str, str]] = {}
    if fleets is not None and not fleets:
        return found
    only = "" if fleets is None else f"WHERE fleet IN ({', '.join('?' * len(fleets))})"
    rows = " UNION ALL ".join(
        f"SELECT fleet, partition_month, sum(hash(r)::HUGEINT) AS stamp FROM {tables[name]} AS r {only} GROUP BY ALL"
        for name in _OF_MONTHS
    )
    for fleet, month, stamp in con.execute(
        "SELECT fleet, strftime(partition_month, '%Y-%m') AS month, "
        f"string_agg(stamp::VARCHAR, ' ' ORDER BY stamp) FROM ({rows}) GROUP BY ALL ORDER BY month",
        [*(fleets or ())] * len(_OF_MONTHS),
    ).fetchall():
        found.setdefault(fleet, {})[month] = stamp
    return found


def _differing(parts: Mapping[str, Document], stamps: Mapping[str, Mapping[str, str]], fleet: str) -> list[Key]:
    """The months of a fleet whose rows have changed."""
    old, new = parts[fleet].head["stamps"], stamps.get(fleet, {})
    return [(fleet, month) for month in {*old, *new} if old.get(month) != new.get(month)]


def _state(con: duckdb.DuckDBPyConnection) -> list[Any] | None:
    """A lake's state: the number of its snapshot, and that one's time, which no other lake has. None for a file."""
    if not lake.is_lake(con):
        return None
    found = con.execute(
        "SELECT snapshot_id, snapshot_time::VARCHAR FROM ducklake_snapshots(current_database()) "
        "ORDER BY snapshot_id DESC LIMIT 1"
    ).fetchone()
    return list(found) if found else [None, None]


def _changes_in_lake(con: duckdb.DuckDBPyConnection, old: list[Any], new: list[Any]) -> _Changes:
    """What has changed in a lake after the state `old`, up to the state `new`."""
    (known,) = con.execute(
        "SELECT count(*) FROM ducklake_snapshots(current_database()) "
        "WHERE snapshot_id = ? AND snapshot_time::VARCHAR = ?",
        old,
    ).fetchone() or (0,)
    if not known or old[0] > new[0]:
        return _Changes()
    if old == new:
        return _Changes((), (), (), zones=False)

    def changed(table: str, *columns: str) -> set[tuple[Any, ...]]:
        selects = (
            f"SELECT DISTINCT {', '.join(columns)} "
            f"FROM ducklake_table_{kind}(current_database(), current_schema(), '{table}', $old, $new)"
            for kind in ("insertions", "deletions")
        )
        return set(con.execute(" UNION ".join(selects), {"old": old[0] + 1, "new": new[0]}).fetchall())

    month = "strftime(partition_month, '%Y-%m')"
    months: set[Any] = set().union(*(changed(table, "fleet", month) for table in _OF_MONTHS))
    weeks: set[Any] = changed("trips_by_week", "fleet", "strftime(period, '%Y-%m-%d')")
    fleets = {fleet for fleet, _ in months | weeks}
    return _Changes(months, weeks, fleets, zones=bool(changed("zones", "zone_id")))


def _only(keys: Collection[Key] | None, column: str, as_text: str) -> tuple[str, list[Any]]:
    """A WHERE clause for rows of certain months or weeks, and its values.

    The plain comparison of dates comes first, because a lake decides by it which files it does not have to open.
    """
    if keys is None:
        return "", []
    days = sorted({date.fromisoformat(f"{text}-01"[: len("2023-01-01")]) for _, text in keys})
    fleets = sorted({fleet for fleet, _ in keys})
    where = (
        f"WHERE {column} IN ({', '.join('?' * len(days))}) AND fleet IN ({', '.join('?' * len(fleets))}) "
        f"AND list_contains(?, fleet || ' ' || strftime({column}, '{as_text}'))"
    )
    return where, [*days, *fleets, [" ".join(key) for key in keys]]


def _months(
    con: duckdb.DuckDBPyConnection, tables: Tables, keys: Collection[Key] | None
) -> tuple[dict[Key, Loaded], dict[Key, Refusal]]:
    """The loaded months, and the refused loads."""
    if keys is not None and not keys:
        return {}, {}
    only, values = _only(keys, "partition_month", "%Y-%m")
    checks, refusals = _audits(con, tables, only, values)
    zones = _top_zones(con, tables, only, values)
    rows = con.execute(
        "SELECT fleet, strftime(partition_month, '%Y-%m'), rows_loaded, bytes, source_url, etag, last_modified, "
        "strftime(loaded_at, '%Y-%m-%dT%H:%M:%S.%f+00:00'), run_id, simulated, changes, unknown_columns "
        f"FROM {tables['latest_loads']} {only}",
        values,
    ).fetchall()
    loads = {}
    for fleet, month, count, size, url, etag, modified, loaded_at, run_id, simulated, changes, unknown in rows:
        loads[fleet, month] = Loaded(
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
            top_zones=zones.get((fleet, month), ()),
        )
    return loads, refusals


def _audits(
    con: duckdb.DuckDBPyConnection, tables: Tables, only: str, values: list[Any]
) -> tuple[dict[Key, tuple[Check, ...]], dict[Key, Refusal]]:
    """The checks of published months, and the refused loads."""
    rows = con.execute(
        "SELECT fleet, strftime(partition_month, '%Y-%m'), published, "
        "strftime(checked_at, '%Y-%m-%dT%H:%M:%S.%f+00:00'), run_id, rule, severity, at_most, value, "
        "CASE WHEN NOT passed THEN detail END "
        f"FROM {tables['quality_checks']} {only} "
        "ORDER BY fleet, partition_month, checked_at, run_id, published",
        values,
    )
    published: dict[Key, tuple[Check, ...]] = {}
    refused: dict[Key, Refusal] = {}
    for (fleet, month, is_published, at, run_id), group in itertools.groupby(_fetched(rows), lambda row: row[:5]):
        checks = tuple(Check(*row[5:]) for row in group)
        if is_published:
            published[fleet, month] = checks
        else:  # rows are in the order of time, so the newest refusal stays
            refused[fleet, month] = Refusal(at, run_id, checks)
    return published, refused


def _fetched(found: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    """The rows of a result, some at a time: there are dozens of checks for each month."""
    while rows := found.fetchmany(10_000):
        yield from rows


def _top_zones(
    con: duckdb.DuckDBPyConnection, tables: Tables, only: str, values: list[Any]
) -> dict[Key, tuple[tuple[int, int], ...]]:
    rows = con.execute(
        "SELECT fleet, strftime(partition_month, '%Y-%m'), "
        f"max(CASE WHEN zone_id BETWEEN 1 AND {catalogue.ZONES} THEN struct_pack(n := num_trips, z := -zone_id) END, "
        f"{TOP_ZONES}) FROM {tables['trips_by_zone']} {only} GROUP BY ALL",
        values,
    ).fetchall()
    return {(fleet, month): tuple((-top["z"], top["n"]) for top in tops or ()) for fleet, month, tops in rows}


def _zones(con: duckdb.DuckDBPyConnection, tables: Tables) -> dict[str, str]:
    found = con.execute(f"SELECT zone_id::VARCHAR, zone FROM {tables['zones']} ORDER BY zone_id")
    return dict(found.fetchall())


def _weeks(con: duckdb.DuckDBPyConnection, tables: Tables, changes: _Changes) -> dict[str, dict[str, int]]:
    """The number of trips in each counted week that has to be read, by fleet and Monday."""
    found: dict[str, dict[str, int]] = {}
    if changes.weeks is not None:
        if not changes.weeks:
            return found
        only, values = _only(changes.weeks, "period", "%Y-%m-%d")
    elif changes.fleets is not None:
        if not changes.fleets:
            return found
        only, values = f"WHERE fleet IN ({', '.join('?' * len(changes.fleets))})", [*changes.fleets]
    else:
        only, values = "", []
    for fleet, monday, trips in con.execute(
        f"SELECT fleet, strftime(period, '%Y-%m-%d'), num_trips FROM {tables['trips_by_week']} {only} ORDER BY period",
        values,
    ).fetchall():
        found.setdefault(fleet, {})[monday] = trips
    return found


def _merged(old: Mapping[str, int], read: Mapping[str, int], changes: _Changes, fleet: str) -> dict[str, int]:
    """A fleet's weeks: those that were read, and of a lake those that have not changed."""
    if changes.weeks is None:
        return dict(read)
    changed = {monday for of_fleet, monday in changes.weeks if of_fleet == fleet}
    return dict(sorted({**{monday: trips for monday, trips in old.items() if monday not in changed}, **read}.items()))
