"""Which column of a file becomes which column of ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from include.nyc_taxi.catalogue.fleets import _INDEX, fleet
from include.nyc_taxi.catalogue.types import Coded, Column, Coordinates, Fleet, Origin, published_names
from include.nyc_taxi.errors import LayoutError


@dataclass(frozen=True)
class Match:
    """How a file's columns map to ours.

    Attributes:
        columns: one pair for each column of ours: the column, and what of the file it is (None: not in the file), with
            names spelt as in the file.
        unknown: the file's columns that the catalogue does not know; they are left out of the load.
    """

    columns: tuple[tuple[Column, Origin | None], ...]
    unknown: tuple[str, ...]


def match_columns(fleet_name: str, published: Sequence[str], source: str) -> Match:
    """Map a file's columns to ours.

    Args:
        published: the file's column names.
        source: the file's name, for messages.

    Raises:
        LayoutError: columns that every month of this fleet has are missing; the message names them.
    """
    which = fleet(fleet_name)
    in_file = {name.casefold(): name for name in published}
    origins = _translated(which, in_file) or _as_today(which, in_file, published, source)
    used = {name for origin in origins.values() for name in published_names(origin)}
    return Match(
        columns=tuple((column, origins.get(column.name)) for column in which.columns),
        unknown=tuple(name for name in published if name not in used and name != _INDEX),
    )


def _translated(which: Fleet, in_file: Mapping[str, str]) -> dict[str, Origin]:
    """What of a file becomes which column of ours, by our name, if it is of a layout with other names or codes than today's.

    Args:
        in_file: the file's names, each by itself casefolded.
    """
    for layout in which.layouts:
        names = {name.casefold() for origin in layout.origins.values() for name in published_names(origin)}
        if names and names <= in_file.keys():
            return {ours: _spelt(origin, in_file) for ours, origin in layout.origins.items()}
    return {}


def _as_today(which: Fleet, in_file: Mapping[str, str], published: Sequence[str], source: str) -> dict[str, Origin]:
    """The same, for a file of today's names."""
    if missing := [c.published_as for c in which.required if c.published_as.casefold() not in in_file]:
        raise LayoutError(
            f"{source}: required columns are missing: {', '.join(missing)}; found {', '.join(published) or 'no columns'}. "
            "If the TLC has renamed them, add the new layout to include/nyc_taxi/catalogue/fleets.py"
        )
    found = ((column.name, in_file.get(column.published_as.casefold())) for column in which.columns)
    return {ours: name for ours, name in found if name}


def _spelt(origin: Origin, in_file: Mapping[str, str]) -> Origin:
    """The origin with its columns' names as the file spells them."""
    names = [in_file[name.casefold()] for name in published_names(origin)]
    if isinstance(origin, Coordinates):
        return Coordinates(*names)
    return Coded(names[0], origin.codes) if isinstance(origin, Coded) else names[0]
