"""The provenance of trips, shown in pictures: the site they came from, and whether they are simulated."""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from include.nyc_taxi.files import replacing

if TYPE_CHECKING:
    import duckdb  # drawing does not need it

TLC = "NYC Taxi & Limousine Commission (TLC)"
NAMED_HOSTS = 3
"""The most hosts that a source line names, so that it fits on one line. It only counts the others."""


@dataclass(frozen=True)
class Provenance:
    """The provenance of the trips of some months.

    Attributes:
        simulated: whether any of the trips are simulated; None if unknown, because an older version loaded them.
        source: a description for readers, without logins, passwords and paths; None if the source is unknown.
    """

    simulated: bool | None = None
    source: str | None = None


def of_months(con: "duckdb.DuckDBPyConnection", fleet: str, months: Collection[date]) -> Provenance:
    """The provenance of a fleet's `months` (given by their first days), according to `latest_loads`."""
    from include.nyc_taxi import warehouse

    latest_loads = warehouse.readable(con, "latest_loads")
    found = con.execute(f"SELECT partition_month, source_url, simulated FROM {latest_loads} WHERE fleet = ?", [fleet])
    loads = [(url, made_up) for month, url, made_up in found.fetchall() if month in months]
    if not loads:
        return Provenance()
    marks = {made_up for _, made_up in loads}
    known = None if None in marks or len(loads) < len(set(months)) else False
    return Provenance(
        simulated=True if True in marks else known,
        source="; ".join(
            _source(what, {_host(url) for url, made_up in loads if bool(made_up) is simulated})
            for simulated, what in ((False, TLC), (True, "simulated trips, not the TLC's data"))
            if any(bool(made_up) is simulated for _, made_up in loads)
        ),
    )


def together(of_fleets: Sequence[Provenance]) -> Provenance:
    """The provenance of the trips of several fleets."""
    marks = {each.simulated for each in of_fleets}
    sources = dict.fromkeys(each.source for each in of_fleets if each.source)
    return Provenance(
        simulated=True if True in marks else None if None in marks or not marks else False,
        source="; ".join(sources) or None,
    )


def _source(what: str, hosts: set[str | None]) -> str:
    names = sorted(host for host in hosts if host)
    others = len(names) - NAMED_HOSTS
    where = ", ".join(names[:NAMED_HOSTS]) + (f" and {others} more" if others > 0 else "")
    return f"{what}, from {where}" if where else what


def _host(url: str) -> str | None:
    """The host in a URL, without login, port and path."""
    try:
        return urlsplit(url).hostname
    except ValueError:  # not a URL
        return None


def path_beside(figures: Path) -> Path:
    """The path of the provenance of a file of figures: `<name>.source.json` beside it."""
    return figures.with_name(figures.name + ".source.json")


def lock_path(figures: Path) -> Path:
    """The lock to hold while a file of figures and its provenance are written or read, so that the two agree."""
    return figures.with_name(".sources.lock")


def write(provenance: Provenance, figures: Path) -> None:
    """Write the provenance beside a file of figures whose format has no place for it."""
    with replacing(path_beside(figures)) as temporary:
        temporary.write_text(json.dumps(asdict(provenance)), encoding="utf-8")


def read(figures: Path) -> Provenance:
    """Read the provenance beside a file of figures. It is unknown if an older version wrote the file."""
    try:
        kept = json.loads(path_beside(figures).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Provenance()
    return Provenance(kept["simulated"], kept["source"])
