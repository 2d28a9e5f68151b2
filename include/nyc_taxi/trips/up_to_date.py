"""Whether a month's load can be skipped, because the warehouse and the outputs already have what the site has."""

from pathlib import Path

from include.nyc_taxi.months import Month
from include.nyc_taxi.reports import by_zone
from include.nyc_taxi.source.download import Download
from include.nyc_taxi.trips.loaded import LoadedMonth


def reason_to_skip(fleet: str, month: Month, done: Download, loaded: LoadedMonth | None, outputs: Path) -> str | None:
    """Say why nothing is left to do for a month after its download; None if something is.

    The month must be loaded from the edition that the site has, and the run that loaded it must have got as far as the
    map.

    Args:
        loaded: the month's load; None if the month is not loaded.
        outputs: the fleet's outputs folder.
    """
    if loaded is None or done.fetched or done.edition != loaded.edition:
        return None
    if not by_zone.made_since(outputs, month, loaded.loaded_at):
        return None
    return (
        f"nothing new: {fleet} {month} has been loaded from this edition since {loaded.loaded_at:%Y-%m-%d %H:%M} UTC "
        f"(ETag {done.edition.etag}, Last-Modified {done.edition.last_modified}), and its map is drawn. "
        "To repeat the work anyway, clear this task and those after it, or trigger the month with Load again"
    )
