"""Settings and paths. They are read from the environment at each call, so that a change needs no restart."""

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
    "NYC_TAXI_DBT",
    "NYC_TAXI_DBT_POOL",
    "NYC_TAXI_REAL_DATA",  # used by the tests
    "NYC_TAXI_OPENLINEAGE_SPEC",  # likewise
    "NYC_TAXI_MACHINE",  # used by the benchmarks
    "NYC_TAXI_BENCH_DAGSTER",  # likewise
)
SIMILAR = 0.85
"""Names at least this similar to a setting are misspellings: `NYC_TAXI_FLEET` is one, `NYC_TAXI_MY_OWN` is not."""


def tlc_url() -> str | None:
    """`NYC_TAXI_TLC_URL` without trailing slashes and without its login, or None if it is not set.

    Raises:
        SettingError: the value is not an HTTP or HTTPS address.
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
    """The login in `NYC_TAXI_TLC_URL`, or None. It is secret, and only for requests to that site."""
    return split_login(_value("NYC_TAXI_TLC_URL"))[1]


def data_dir() -> Path:
    """The folder with raw/, outputs/ and requests/: `NYC_TAXI_DATA_DIR`, or `data` in the project's folder.

    Raises:
        SettingError: the path, or a part of it, is not a folder.
    """
    folder = Path(_value("NYC_TAXI_DATA_DIR") or PROJECT_ROOT / "data").absolute()
    if not _existing(folder).is_dir():
        raise SettingError(f"NYC_TAXI_DATA_DIR: expected a folder, found the file {_existing(folder)}")
    return folder


def check() -> None:
    """Check all settings before a long command begins.

    Raises:
        SettingError: a setting has an invalid value, or the data folder is not writable.
    """
    tlc_url(), fleets(), first_month(), map_density(), lake_keep(), lake_abandoned_after(), dbt_pool()
    existing = _existing(data_dir())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise SettingError(f"NYC_TAXI_DATA_DIR: expected a writable folder, found that {existing} is not writable")


def warehouse_path() -> Path:
    """The DuckDB file that is the warehouse if no Airflow connection `warehouse` is defined."""
    return data_dir() / "warehouse.duckdb"


def raw_dir() -> Path:
    """The folder of the files as the TLC published them."""
    return data_dir() / "raw"


def outputs_root() -> Path:
    """The folder of all outputs, with one folder per fleet. The web UI shows only files below it."""
    return data_dir() / "outputs"


def dbt_docs() -> Path:
    """The page with all tables and columns, which `make dbt-docs` writes and the web UI shows."""
    return data_dir() / "dbt" / "index.html"


def outputs_dir(fleet: str) -> Path:
    """The folder of a fleet's outputs: GeoJSON files and maps."""
    return outputs_root() / fleet


def requests_dir() -> Path:
    """The folder in which users put request files."""
    return data_dir() / "requests"


def fleets() -> list[str]:
    """The fleets that get DAGs: `NYC_TAXI_FLEETS`, or the whole catalogue. Read when DAG files are parsed.

    Raises:
        SettingError: a fleet is not in the catalogue.
    """
    names = [name.strip() for name in _value("NYC_TAXI_FLEETS").split(",") if name.strip()]
    for name in names:
        try:
            catalogue.fleet(name)
        except FleetError as error:
            raise SettingError(f"NYC_TAXI_FLEETS: {error}") from None
    return [*dict.fromkeys(names)] or [*catalogue.FLEETS]


def first_month() -> Month:
    """The first month that catch-up loads: `NYC_TAXI_FIRST_MONTH`. Read when DAG files are parsed.

    Raises:
        SettingError: the value is not a month.
    """
    try:
        return Month(_value("NYC_TAXI_FIRST_MONTH") or "2023-01")
    except MonthError as error:
        raise SettingError(f"NYC_TAXI_FIRST_MONTH: {error}") from None


def map_density() -> bool:
    """Whether each map of trips is accompanied by a map of trips per km²: `NYC_TAXI_MAP_DENSITY`.

    Raises:
        SettingError: the value is neither 1 nor 0.
    """
    text = _value("NYC_TAXI_MAP_DENSITY")
    if text.casefold() not in ("", "0", "1", "false", "true"):
        raise SettingError(f"NYC_TAXI_MAP_DENSITY: expected 1 or 0, found {text!r}")
    return text.casefold() in ("1", "true")


def lake_keep() -> timedelta:
    """How long past states of a lake can be read, and how long a query may take: `NYC_TAXI_LAKE_KEEP_DAYS`.

    Raises:
        SettingError: the value is not a number of days.
    """
    return _days("NYC_TAXI_LAKE_KEEP_DAYS", 7, at_least=0)


def lake_abandoned_after() -> timedelta:
    """The age after which files that killed loads left in a lake are deleted: `NYC_TAXI_LAKE_ABANDONED_DAYS`.

    It is at least one day, so that the file of a running load is never deleted.

    Raises:
        SettingError: the value is not a number of days, or less than 1.
    """
    return _days("NYC_TAXI_LAKE_ABANDONED_DAYS", 2, at_least=1)


def dbt_program() -> Path:
    """The program dbt: `NYC_TAXI_DBT`, or the one that `make dbt` installs.

    Raises:
        SettingError: there is no such program.
    """
    chosen = _value("NYC_TAXI_DBT")
    program = Path(chosen or PROJECT_ROOT / ".venv-dbt" / "bin" / "dbt").absolute()
    if not (program.is_file() and os.access(program, os.X_OK)):
        if chosen:
            raise SettingError(f"NYC_TAXI_DBT: expected the path of the program dbt, found no program at {program}")
        raise SettingError(
            f"dbt is not installed: expected it at {program}. `make dbt` installs it there; elsewhere, install "
            "requirements-dbt.txt into an environment of its own, and set NYC_TAXI_DBT to the path of its program dbt"
        )
    return program


def dbt_pool() -> str:
    """The pool of tasks that run dbt: `NYC_TAXI_DBT_POOL`, or "" if it is not set. Read when DAG files are parsed.

    Raises:
        SettingError: the value is neither of the two pools.
    """
    pool = _value("NYC_TAXI_DBT_POOL")
    if pool not in ("", "warehouse", "dbt"):
        raise SettingError(f"NYC_TAXI_DBT_POOL: expected warehouse (for a file) or dbt (for a lake), found {pool!r}")
    return pool


def _days(name: str, default: float, *, at_least: float) -> timedelta:
    text = _value(name) or str(default)
    try:
        days = float(text)
    except ValueError:
        days = -1
    if not at_least <= days <= 36_500:
        raise SettingError(f"{name}: expected a number of days, at least {at_least:g}, found {text!r}")
    return timedelta(days=days)


def _value(name: str) -> str:
    """The variable's value; empty if it is not set, which means the same.

    Raises:
        SettingError: another variable must be a misspelled setting, which would be ignored silently.
    """
    for other in os.environ:
        if (
            other.startswith("NYC_TAXI_")
            and other not in KNOWN
            and (meant := difflib.get_close_matches(other, KNOWN, 1, SIMILAR))
        ):
            raise SettingError(f"{other}: there is no such setting; did you mean {meant[0]}?")
    return os.environ.get(name, "").strip()


def _existing(path: Path) -> Path:
    """The path, or its nearest parent that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())
