"""Where trips come from, for the pictures drawn of them: which site, and whether they are made up."""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from include.nyc_taxi.files import replacing

if TYPE_CHECKING:
    import duckdb  # not for those who draw

TLC = "NYC Taxi & Limousine Commission (TLC)"
NAMED_HOSTS = 3
"""A source line names this many hosts and counts the others, so that it stays one line."""


@dataclass(frozen=True)
class Provenance:
    """Where the trips of some months come from.

    Attributes:
        simulated: True if the trips of any of the months are made up, False if those of none are; None where that is
            not known: an older version has loaded them.
        source: a sentence for a reader, without login, password or path; None where it is not known.
    """

    simulated: bool | None = None
    source: str | None = None


def of_months(con: "duckdb.DuckDBPyConnection", fleet: str, months: Collection[date]) -> Provenance:
    """Look up in `latest_loads` where what is loaded of a fleet's `months` (their first days) comes from."""
    from include.nyc_taxi import warehouse

    loads = warehouse.readable(con, "latest_loads")
    found = con.execute(f"SELECT partition_month, source_url, simulated FROM {loads} WHERE fleet = ?", [fleet])
    sources = [(url, made_up) for month, url, made_up in found.fetchall() if month in months]
    if not sources:
        return Provenance()
    marks = {made_up for _, made_up in sources}
    known = None if None in marks or len(sources) < len(set(months)) else False
    return Provenance(
        simulated=True if True in marks else known,
        source="; ".join(
            _said(what, {_host(url) for url, made_up in sources if bool(made_up) is simulated})
            for simulated, what in ((False, TLC), (True, "simulated trips, not the TLC's data"))
            if any(bool(made_up) is simulated for _, made_up in sources)
        ),
    )


def _said(what: str, hosts: set[str | None]) -> str:
    names = sorted(host for host in hosts if host)
    others = len(names) - NAMED_HOSTS
    where = ", ".join(names[:NAMED_HOSTS]) + (f" and {others} more" if others > 0 else "")
    return f"{what}, from {where}" if where else what


def _host(url: str) -> str | None:
    """The host of an address: what follows a login and comes before port and path."""
    try:
        return urlsplit(url).hostname
    except ValueError:  # no address at all
        return None


def path_beside(figures: Path) -> Path:
    """Where the provenance of a file of figures is kept: `<name>.source.json` beside it."""
    return figures.with_name(figures.name + ".source.json")


def lock_path(figures: Path) -> Path:
    """What to hold while a file of figures and its provenance are written or read, so that both are of one writer."""
    return figures.with_name(".sources.lock")


def write(provenance: Provenance, figures: Path) -> None:
    """Keep the provenance beside a file of figures whose own format has no place for it."""
    with replacing(path_beside(figures)) as temporary:
        temporary.write_text(json.dumps(asdict(provenance)), encoding="utf-8")


def read(figures: Path) -> Provenance:
    """The provenance kept beside a file of figures; nothing is known where an older version has written the file."""
    try:
        kept = json.loads(path_beside(figures).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Provenance()
    return Provenance(kept["simulated"], kept["source"])
