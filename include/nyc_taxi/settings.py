"""Where things are. Read from the environment at each call, so that a change needs no restart."""

import difflib
import os
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from include.nyc_taxi import catalogue
from include.nyc_taxi.errors import FleetError, MonthError, SettingError
from include.nyc_taxi.months import Month
from include.nyc_taxi.urls import Login, split_login, without_login

DEFAULT_TLC_URL = "https://d37ci6vzurychx.cloudfront.net"
PROJECT_ROOT = Path(__file__).resolve().parents[2]


KNOWN = (
    "NYC_TAXI_TLC_URL",
    "NYC_TAXI_DATA_DIR",
    "NYC_TAXI_FLEETS",
    "NYC_TAXI_FIRST_MONTH",
    "NYC_TAXI_MAP_DENSITY",
    "NYC_TAXI_LAKE_KEEP_DAYS",
    "NYC_TAXI_LAKE_ABANDONED_DAYS",
    "NYC_TAXI_REAL_DATA",  # of the tests
    "NYC_TAXI_MACHINE",  # of the benchmarks
)
SIMILAR = 0.85
"""Of two names: `NYC_TAXI_FLEET` is a misspelling, `NYC_TAXI_MY_OWN` somebody's own."""


def tlc_url() -> str | None:
    """`NYC_TAXI_TLC_URL` without a trailing slash and without the login in it, or None where it is not set.

    Raises:
        SettingError: it is no address.
    """
    text = without_login(_value("NYC_TAXI_TLC_URL"))
    if not text:
        return None
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise SettingError(f"NYC_TAXI_TLC_URL: expected an address such as {DEFAULT_TLC_URL}, found {text}")
    return text.rstrip("/")


def tlc_login() -> Login | None:
    """The login in `NYC_TAXI_TLC_URL`, or None where it has none. Secret: for requests to that site only."""
    return split_login(_value("NYC_TAXI_TLC_URL"))[1]


def data_dir() -> Path:
    """Root of raw/, outputs/ and requests/: `NYC_TAXI_DATA_DIR`, else `data` beside the project.

    Raises:
        SettingError: it is, or lies in, something that is no folder.
    """
    folder = Path(_value("NYC_TAXI_DATA_DIR") or PROJECT_ROOT / "data").absolute()
    if not _existing(folder).is_dir():
        raise SettingError(f"NYC_TAXI_DATA_DIR: expected a folder, found the file {_existing(folder)}")
    return folder


def check() -> None:
    """Look at all settings at once, before something long is begun.

    Raises:
        SettingError: one of them has a value that cannot be, or the data directory cannot be written.
    """
    tlc_url(), fleets(), first_month(), map_density(), lake_keep(), lake_abandoned_after()
    existing = _existing(data_dir())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise SettingError(f"NYC_TAXI_DATA_DIR: expected a folder that can be written, found {existing}, which cannot")


def warehouse_path() -> Path:
    """The DuckDB file that serves where no Airflow connection `warehouse` is defined."""
    return data_dir() / "warehouse.duckdb"


def raw_dir() -> Path:
    """Folder of the files as the TLC published them."""
    return data_dir() / "raw"


def outputs_root() -> Path:
    """Folder of all that is made, with a folder for each fleet in it. The web UI shows what is below it, no more."""
    return data_dir() / "outputs"


def outputs_dir(fleet: str) -> Path:
    """Folder of what is made for a fleet: GeoJSON and maps."""
    return data_dir() / "outputs" / fleet


def requests_dir() -> Path:
    """Folder into which requests for reports are put as JSON files."""
    return data_dir() / "requests"


def fleets() -> list[str]:
    """`NYC_TAXI_FLEETS`: the fleets to make DAGs for, else all of the catalogue. Read when DAG files are parsed.

    Raises:
        SettingError: one of them is not in the catalogue.
    """
    names = [name.strip() for name in _value("NYC_TAXI_FLEETS").split(",") if name.strip()]
    for name in names:
        try:
            catalogue.fleet(name)
        except FleetError as error:
            raise SettingError(f"NYC_TAXI_FLEETS: {error}") from None
    return [*dict.fromkeys(names)] or [*catalogue.FLEETS]


def first_month() -> Month:
    """`NYC_TAXI_FIRST_MONTH`: the first month that catch-up loads. Read when DAG files are parsed.

    Raises:
        SettingError: it is no month.
    """
    try:
        return Month(_value("NYC_TAXI_FIRST_MONTH") or "2023-01")
    except MonthError as error:
        raise SettingError(f"NYC_TAXI_FIRST_MONTH: {error}") from None


def map_density() -> bool:
    """`NYC_TAXI_MAP_DENSITY`: whether maps of trips per km² are drawn beside those of trips."""
    text = _value("NYC_TAXI_MAP_DENSITY")
    if text.casefold() not in ("", "0", "1", "false", "true"):
        raise SettingError(f"NYC_TAXI_MAP_DENSITY: expected 1 or 0, found {text!r}")
    return text.casefold() in ("1", "true")


def lake_keep() -> timedelta:
    """`NYC_TAXI_LAKE_KEEP_DAYS`: how long a lake's past states can be read, and a query may take."""
    return _days("NYC_TAXI_LAKE_KEEP_DAYS", 7, at_least=0)


def lake_abandoned_after() -> timedelta:
    """`NYC_TAXI_LAKE_ABANDONED_DAYS`: how old a file is that a killed load has left in a lake.

    A day at least: the file of a load that is still running must not be taken for one.
    """
    return _days("NYC_TAXI_LAKE_ABANDONED_DAYS", 2, at_least=1)


def _days(name: str, default: float, *, at_least: float) -> timedelta:
    text = _value(name) or str(default)
    try:
        days = float(text)
    except ValueError:
        days = -1
    if not at_least <= days <= 36_500:
        raise SettingError(f"{name}: expected a number of days, {at_least:g} at least, found {text!r}")
    return timedelta(days=days)


def _value(name: str) -> str:
    """A variable's value; empty where it is not set, which is the same.

    Raises:
        SettingError: there is a variable that must be a misspelling: what it says would be passed over in silence.
    """
    for other in os.environ:
        if (
            other.startswith("NYC_TAXI_")
            and other not in KNOWN
            and (meant := difflib.get_close_matches(other, KNOWN, 1, SIMILAR))
        ):
            raise SettingError(f"{other}: there is no such setting; is {meant[0]} meant?")
    return os.environ.get(name, "").strip()


def _existing(path: Path) -> Path:
    """The path, or the nearest above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.exists())
