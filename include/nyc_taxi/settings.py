"""Where things are. Read from the environment at each call, so that a change needs no restart."""

import os
from datetime import timedelta
from pathlib import Path

from include.nyc_taxi import tlc
from include.nyc_taxi.errors import SettingError
from include.nyc_taxi.urls import Login, split_login, without_login

DEFAULT_TLC_URL = "https://d37ci6vzurychx.cloudfront.net"
PROJECT_ROOT = Path(__file__).resolve().parents[2]


def tlc_url() -> str | None:
    """`NYC_TAXI_TLC_URL` without a trailing slash and without the login in it, or None where it is not set."""
    return without_login(os.environ.get("NYC_TAXI_TLC_URL", "").rstrip("/")) or None


def tlc_login() -> Login | None:
    """The login in `NYC_TAXI_TLC_URL`, or None where it has none. Secret: for requests to that site only."""
    return split_login(os.environ.get("NYC_TAXI_TLC_URL", ""))[1]


def data_dir() -> Path:
    """Root of raw/, outputs/ and requests/: `NYC_TAXI_DATA_DIR`, else `data` beside the project."""
    return Path(os.environ.get("NYC_TAXI_DATA_DIR") or PROJECT_ROOT / "data").absolute()


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
    """`NYC_TAXI_FLEETS`: the fleets to make DAGs for, else all of the catalogue. Read when DAG files are parsed."""
    return [name.strip() for name in os.environ.get("NYC_TAXI_FLEETS", "").split(",") if name.strip()] or [*tlc.FLEETS]


def first_month() -> str:
    """`NYC_TAXI_FIRST_MONTH`: the first month that catch-up makes. Read when DAG files are parsed."""
    return os.environ.get("NYC_TAXI_FIRST_MONTH", "2023-01")


def lake_keep() -> timedelta:
    """`NYC_TAXI_LAKE_KEEP_DAYS`: how long a lake's past states can be read, and a query may take."""
    return _days("NYC_TAXI_LAKE_KEEP_DAYS", 7, at_least=0)


def lake_abandoned_after() -> timedelta:
    """`NYC_TAXI_LAKE_ABANDONED_DAYS`: how old a file is that a killed load has left in a lake.

    A day at least: the file of a load that is still running must not be taken for one.
    """
    return _days("NYC_TAXI_LAKE_ABANDONED_DAYS", 2, at_least=1)


def _days(name: str, default: float, *, at_least: float) -> timedelta:
    text = os.environ.get(name) or str(default)
    try:
        days = float(text)
    except ValueError:
        days = -1
    if not at_least <= days <= 36_500:
        raise SettingError(f"{name}: expected a number of days, {at_least:g} at least, found {text!r}")
    return timedelta(days=days)
