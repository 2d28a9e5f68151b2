"""dbt's profile, made from the Airflow connection `warehouse`, so that nothing is configured twice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.nyc_taxi.catalogue import CITY_TIME
from include.nyc_taxi.errors import SettingError

if TYPE_CHECKING:
    from warehouse_hook import WarehouseHook

NAME, TARGET, SCHEMA = "nyc_taxi", "warehouse", "marts"
"""The profile's name, as in dbt_project.yml; its only target; and the schema of the marts."""

SECRET = "DBT_ENV_SECRET_WAREHOUSE"  # noqa: S105 - the beginning of variables' names; dbt hides the values of such variables
CONNECT_ATTEMPTS = 6
"""dbt waits 1, 2, 4 … seconds for another process that has the file open: together one minute."""
EXTENSIONS = ("ducklake", "postgres_scanner", "httpfs")


def profile(hook: WarehouseHook, extensions: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The profile for the warehouse that the hook opens, and the environment variables with its secrets.

    The profile itself has no secrets, so it may be written to a file. All of DuckDB's threads work on one model at a
    time: `threads` of dbt is 1.

    Args:
        extensions: a folder in which a lake's DuckDB extensions are linked. dbt can only be told a folder.

    Raises:
        SettingError: the warehouse is neither a DuckDB file nor a lake.
    """
    from include.nyc_taxi.warehouse.lake import DATABASE  # imports DuckDB, which parsing DAG files must not

    options = {name: str(value) for name, value in hook.get_connect_config().items()}
    common = {
        "type": "duckdb",
        "schema": SCHEMA,
        "threads": 1,
        "settings": {"TimeZone": CITY_TIME},
        "retries": {"connect_attempts": CONNECT_ATTEMPTS, "retryable_exceptions": ["IOException"]},
    }
    database = hook.get_database()
    if not hook.is_lake:
        if database.startswith("md:"):
            raise SettingError(f"dbt: expected a DuckDB file or a lake as warehouse, found {hook.place}")
        return common | {"path": database, "config_options": options}, {}
    secrets = {f"{SECRET}_CATALOG": database}  # it may contain a password
    named = []
    for secret in hook.secrets:
        shown: dict[str, Any] = {"type": secret.kind, "name": f"{DATABASE}_{secret.kind}"}
        for name, value in secret.values.items():
            variable = f"{SECRET}_{secret.kind}_{name}".upper()
            secrets[variable] = str(value)
            shown[name] = _variable(variable)
        named.append(shown)
    attached = {"data_path": hook.connection_extra.get("data_path")}
    if any(secret.kind == "postgres" for secret in hook.secrets):
        attached["meta_secret"] = f"{DATABASE}_postgres"
    _link_extensions(extensions)
    return common | {
        "path": ":memory:",
        "database": DATABASE,
        "config_options": options
        | {
            "extension_directory": str(extensions),
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "true",
        },
        "secrets": named,
        "attach": [
            {
                "path": _variable(f"{SECRET}_CATALOG"),
                "alias": DATABASE,
                "is_ducklake": True,
                "options": {name: value for name, value in attached.items() if value},
            }
        ],
    }, secrets


@contextlib.contextmanager
def only_dbt() -> Iterator[None]:
    """On a lake, wait until no other dbt runs, whether in a task of any pool or by hand. A file needs no such turns."""
    from include.nyc_taxi import settings
    from include.nyc_taxi.files import locked

    with locked(settings.data_dir() / "dbt" / ".lock"):
        yield


def _variable(name: str) -> str:
    return f"{{{{ env_var('{name}') }}}}"


def _link_extensions(folder: Path) -> None:
    """Link the extensions of the installed packages where DuckDB looks for them, so that it downloads nothing."""
    import duckdb

    (platform,) = duckdb.execute("PRAGMA platform").fetchone() or ("",)
    here = folder / f"v{duckdb.__version__}" / platform
    here.mkdir(parents=True, exist_ok=True)
    for name in EXTENSIONS:
        if not find_spec(f"duckdb_extension_{name}"):
            continue
        package = Path(str(import_module(f"duckdb_extension_{name}").__file__)).parent
        file = package / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        link = here / file.name
        if not link.exists() or link.resolve() != file.resolve():
            link.unlink(missing_ok=True)
            link.symlink_to(file)
