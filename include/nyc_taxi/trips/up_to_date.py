"""Whether a month's load can be skipped, because the warehouse and the outputs already have what the site has."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from include.nyc_taxi.months import Month
from include.nyc_taxi.reports import by_zone
from include.nyc_taxi.source.download import Download
from include.nyc_taxi.trips.loaded import LoadedMonth


def as_values(load: LoadedMonth) -> dict[str, Any]:
    """What has to be known of a load to tell later whether it is up to date, as values that JSON can hold."""
    return {"edition": vars(load.edition), "loaded_at": load.loaded_at.isoformat(), "run_id": load.run_id}


def reason_to_skip(
    fleet: str, month: Month, done: Download, loaded: Mapping[str, Any] | None, outputs: Path
) -> str | None:
    """Say why nothing is left to do for a month after its download; None if something is.

    The month must be loaded from the edition that the site has, and the run that loaded it must have got as far as the
    map.

    Args:
        loaded: the month's load as `as_values` returns it; None if the month is not loaded.
        outputs: the fleet's outputs folder.
    """
    if loaded is None or done.fetched or vars(done.edition) != loaded["edition"]:
        return None
    loaded_at = datetime.fromisoformat(loaded["loaded_at"])
    if not by_zone.made_since(outputs, month, loaded_at):
        return None
    return (
        f"nothing new: {fleet} {month} has been loaded from this edition since {loaded_at:%Y-%m-%d %H:%M} UTC "
        f"(ETag {done.edition.etag}, Last-Modified {done.edition.last_modified}), and its map is drawn. "
        "To repeat the work anyway, clear this task and those after it, or trigger the month with Load again"
    )
