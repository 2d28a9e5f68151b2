"""Map the columns of a file to the columns of the warehouse's table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from include.nyc_taxi.catalogue.fleets import fleet
from include.nyc_taxi.catalogue.types import INDEX, Coded, Column, Coordinates, Fleet, Origin, published_names
from include.nyc_taxi.errors import LayoutError


@dataclass(frozen=True)
class Match:
    """The mapping of a file's columns to ours.

    Attributes:
        columns: a pair for each of our columns: the column and its origin in the file, with names spelled as in the
            file. The origin is None if the file lacks the column.
        unknown: the file's columns that the catalogue does not know. They are not loaded.
    """

    columns: tuple[tuple[Column, Origin | None], ...]
    unknown: tuple[str, ...]


def match_columns(fleet_name: str, published: Sequence[str], source: str) -> Match:
    """Map a file's columns to ours.

    Args:
        published: the file's column names.
        source: the file's name, for messages.

    Raises:
        LayoutError: columns are missing that every month of this fleet has; the message names them.
    """
    which = fleet(fleet_name)
    in_file = {name.casefold(): name for name in published}
    origins = _historical_origins(which, in_file) or _current_origins(which, in_file, published, source)
    used = {name for origin in origins.values() for name in published_names(origin)}
    return Match(
        columns=tuple((column, origins.get(column.name)) for column in which.columns),
        unknown=tuple(name for name in published if name not in used and name != INDEX),
    )


def _historical_origins(which: Fleet, in_file: Mapping[str, str]) -> dict[str, Origin]:
    """The origin of each of our columns, by our name, if the file has a layout with other names or codes than today's.

    Args:
        in_file: the file's column names, by their case-folded form.

    Returns:
        An empty mapping if the file has no such layout.
    """
    for layout in which.layouts:
        names = {name.casefold() for origin in layout.origins.values() for name in published_names(origin)}
        if names and names <= in_file.keys():
            return {ours: _spelled(origin, in_file) for ours, origin in layout.origins.items()}
    return {}


def _current_origins(
    which: Fleet, in_file: Mapping[str, str], published: Sequence[str], source: str
) -> dict[str, Origin]:
    """The origin of each of our columns, by our name, in a file with today's column names."""
    if missing := [c.published_as for c in which.required if c.published_as.casefold() not in in_file]:
        raise LayoutError(
            f"{source}: required columns are missing: {', '.join(missing)}; found {', '.join(published) or 'no columns'}. "
            "If the TLC has renamed them, add the new layout to include/nyc_taxi/catalogue/fleets.py"
        )
    found = ((column.name, in_file.get(column.published_as.casefold())) for column in which.columns)
    return {ours: name for ours, name in found if name}


def _spelled(origin: Origin, in_file: Mapping[str, str]) -> Origin:
    """The origin with its column names spelled as in the file."""
    names = [in_file[name.casefold()] for name in published_names(origin)]
    if isinstance(origin, Coordinates):
        return Coordinates(*names)
    return Coded(names[0], origin.codes) if isinstance(origin, Coded) else names[0]
