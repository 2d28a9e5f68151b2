"""Read what the snapshot needs from the warehouse, and write it.

Only months that have changed since the snapshot before are read and written anew:

- In a file, a query computes a number from all rows of each month, in milliseconds. The months whose numbers differ
  from those in the snapshot have changed. So it does not matter who has changed them, nor whether that process was
  killed, nor whether the file was compacted or replaced by another one.
- A lake that was never compacted has a file for each load, and reading them all could take seconds in S3. But a lake
  keeps its changes: it is asked which months have changed since its snapshot that is in the file. If it no longer has
  that one, or if it is another lake, everything is read.

Writers take turns with a file lock, and each reads the warehouse only when it has its turn. The last one to write has
therefore also read last, so no writer of a lake can replace a newer snapshot by an older one.
"""

import itertools
import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

import duckdb

from include.nyc_taxi import catalogue, warehouse
from include.nyc_taxi.files import locked, replacing
from include.nyc_taxi.urls import without_login
from include.nyc_taxi.warehouse import lake
from include.nyc_taxi.web.snapshot import (
    Check,
    Document,
    Loaded,
    Place,
    Refusal,
    Rules,
    encode,
    month_text,
    path,
    stored,
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
    if at.kind == "lake" and (before := _before(at)) and _is_of_state(before, con, at):
        return {}
    with locked(path().with_suffix(".lock"), TURN_SECONDS):
        before = _before(at)
        try:
            with warehouse.reading(con):
                document, read = take(con, at, before)
        except duckdb.Error as error:
            if before is None:
                raise
            log.info("the snapshot is made from the whole warehouse, because what has changed is not known: %s", error)
            with warehouse.reading(con):
                document, read = take(con, at, None)
        if before is None or _content(document) != _content(before):
            with replacing(path()) as temporary:
                temporary.write_bytes(encode(document))
    return read


def _before(at: Place) -> Document | None:
    """The snapshot before, if it is of the same warehouse."""
    before = stored()
    if before and (before.head["at"]["kind"], before.head["at"]["place"]) == (at.kind, at.place):
        return before
    return None


def _is_of_state(before: Document, con: duckdb.DuckDBPyConnection, at: Place) -> bool:
    """Whether a lake is still in the state of the snapshot."""
    return bool(before.head["state"] == _state(con) and before.head["at"] == _as_values(at))


def _content(document: Document) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    return {name: value for name, value in document.head.items() if name != "written_at"}, document.months


def _as_values(at: Place) -> dict[str, Any]:
    return asdict(at) | {"settings": [asdict(setting) for setting in at.settings]}


def take(con: duckdb.DuckDBPyConnection, at: Place, before: Document | None) -> tuple[Document, dict[Key, Loaded]]:
    """Read what has changed since the snapshot `before`; everything if it is None.

    The warehouse may have been made by an older version, or still be empty.

    Returns:
        The new snapshot, and the loaded months that were read.

    Raises:
        duckdb.Error: the lake no longer knows what has changed. The transaction must then be ended.
    """
    state, stamps, tables = _state(con), {}, warehouse.all_readable(con, *TABLES)
    if state is None:
        stamps = _stamps(con, tables)
        changes = _Changes(_differing(before.head["stamps"], stamps)) if before else _Changes()
    else:
        changes = _changes_in_lake(con, before.head["state"], state) if before else _Changes()
    rules = Rules(tuple(rule) for rule in before.head["rules"]) if before else Rules()
    loads, refusals = _months(con, tables, changes.months)
    texts = dict(before.months) if before and changes.months is not None else {}
    for key in changes.months or ():
        texts.pop(" ".join(key), None)
    for key in {*loads, *refusals}:
        texts[" ".join(key)] = month_text(loads.get(key), refusals.get(key), rules)
    head = {
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "duckdb": duckdb.__version__,
        "at": _as_values(at),
        "state": state,
        "stamps": stamps,
        "rules": rules.as_values(),
        "zones": _zones(con, tables) if changes.zones or not before else before.head["zones"],
        "weeks": _weeks(con, tables, changes.weeks, before.head["weeks"] if before else {}),
    }
    return Document(head, dict(sorted(texts.items()))), loads


@dataclass(frozen=True)
class _Changes:
    """What has to be read anew.

    Attributes:
        months: None means all of them.
        weeks: None means all of them.
    """

    months: Collection[Key] | None = None
    weeks: Collection[Key] | None = None
    zones: bool = True


def _stamps(con: duckdb.DuckDBPyConnection, tables: Tables) -> dict[str, str]:
    """For each month of a file, a number that any change of its rows changes."""
    rows = " UNION ALL ".join(
        f"SELECT fleet, partition_month, sum(hash(r)::HUGEINT) AS stamp FROM {tables[name]} AS r GROUP BY ALL"
        for name in _OF_MONTHS
    )
    found = con.execute(
        "SELECT fleet || ' ' || strftime(partition_month, '%Y-%m'), string_agg(stamp::VARCHAR, ' ' ORDER BY stamp) "
        f"FROM ({rows}) GROUP BY ALL"
    )
    return dict(sorted(found.fetchall()))


def _differing(old: Mapping[str, str], new: Mapping[str, str]) -> list[Key]:
    keys = (key for key in {*old, *new} if old.get(key) != new.get(key))
    return [(fleet, month) for fleet, month in (key.split(" ") for key in keys)]


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
        return _Changes((), (), zones=False)

    def changed(table: str, *columns: str) -> set[tuple[Any, ...]]:
        selects = (
            f"SELECT DISTINCT {', '.join(columns)} "
            f"FROM ducklake_table_{kind}(current_database(), current_schema(), '{table}', $old, $new)"
            for kind in ("insertions", "deletions")
        )
        return set(con.execute(" UNION ".join(selects), {"old": old[0] + 1, "new": new[0]}).fetchall())

    month = "strftime(partition_month, '%Y-%m')"
    return _Changes(
        set().union(*(changed(table, "fleet", month) for table in _OF_MONTHS)),
        changed("trips_by_week", "fleet", "strftime(period, '%Y-%m-%d')"),
        zones=bool(changed("zones", "zone_id")),
    )


def _only(keys: Collection[Key] | None, column: str, as_text: str) -> tuple[str, list[Any]]:
    """A WHERE clause for rows of certain months or weeks, and its values.

    The plain comparison of dates comes first, because a lake decides by it which files it does not have to open.
    """
    if keys is None:
        return "", []
    days = sorted({date.fromisoformat(f"{text}-01"[: len("2023-01-01")]) for _, text in keys})
    marks = ", ".join("?" * len(days))
    where = f"WHERE {column} IN ({marks}) AND list_contains(?, fleet || ' ' || strftime({column}, '{as_text}'))"
    return where, [*days, [" ".join(key) for key in keys]]


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
    ).fetchall()
    published: dict[Key, tuple[Check, ...]] = {}
    refused: dict[Key, Refusal] = {}
    for (fleet, month, is_published, at, run_id), group in itertools.groupby(rows, lambda row: row[:5]):
        checks = tuple(Check(*row[5:]) for row in group)
        if is_published:
            published[fleet, month] = checks
        else:  # rows are in the order of time, so the newest refusal stays
            refused[fleet, month] = Refusal(at, run_id, checks)
    return published, refused


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


def _weeks(
    con: duckdb.DuckDBPyConnection,
    tables: Tables,
    keys: Collection[Key] | None,
    before: Mapping[str, Mapping[str, int]],
) -> dict[str, dict[str, int]]:
    """The number of trips in each counted week, by fleet and Monday."""
    found = {fleet: dict(weeks) for fleet, weeks in before.items()} if keys is not None else {}
    if keys is not None and not keys:
        return found
    for fleet, monday in keys or ():
        found.get(fleet, {}).pop(monday, None)
    only, values = _only(keys, "period", "%Y-%m-%d")
    for fleet, monday, trips in con.execute(
        f"SELECT fleet, strftime(period, '%Y-%m-%d'), num_trips FROM {tables['trips_by_week']} {only}",
        values,
    ).fetchall():
        found.setdefault(fleet, {})[monday] = trips
    return {fleet: dict(sorted(weeks.items())) for fleet, weeks in sorted(found.items()) if weeks}
