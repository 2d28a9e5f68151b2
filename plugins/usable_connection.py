"""Fails on Airflow connections that are set but invalid. Airflow itself treats some of them as missing.

If a connection in the environment cannot be parsed, Airflow reports it as not found, and a task would go on with its
default: another warehouse, or no proxy.

`include` is imported where it is used: Airflow also loads plugins in processes without the DAG bundle on their path.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

log = logging.getLogger(__name__)

PREFIX = "AIRFLOW_CONN_"
SIMILAR = 0.93
"""Similarity of names that differ by a missing or wrong letter. `AIRFLOW_CONN_WAREHOUSE_LAKE` is another name."""


def usable(get_connection: Callable[[str], Connection], conn_id: str, *kinds: str) -> Connection:
    """Airflow's connection `conn_id`, which must have one of the types `kinds`.

    Raises:
        SettingError: it is set, but cannot be read or has another type. The message has no secret.
        AirflowNotFoundException: it is not defined. A variable that is set but empty defines nothing.
    """
    from include.nyc_taxi.errors import SettingError

    name = f"{PREFIX}{conn_id.upper()}"
    if os.environ.get(name):
        _check_text(name, conn_id, kinds)
    elif similar := difflib.get_close_matches(name, [key for key in os.environ if key.startswith(PREFIX)], 1, SIMILAR):
        log.warning("%s is not set, but %s is. Is it misspelled?", name, similar[0])
    connection = get_connection(conn_id)
    where = name if os.environ.get(name) else f"the connection {conn_id!r}"
    if connection.conn_type not in kinds:
        raise SettingError(f"{where}: expected the type {' or '.join(kinds)}, found {connection.conn_type or 'none'}")
    if connection.extra and not _is_object(connection.extra):
        raise SettingError(f"{where}: expected a JSON object in its extra, found something else")
    return connection


def _check_text(name: str, conn_id: str, kinds: tuple[str, ...]) -> None:
    from airflow.secrets.environment_variables import EnvironmentVariablesBackend

    from include.nyc_taxi.errors import SettingError

    problem = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.x warns about its own way to read it
            connection = EnvironmentVariablesBackend().get_connection(conn_id)
    except Exception as error:  # of many kinds; each may repeat the value, which can contain a password
        problem = type(error).__name__
    else:
        if connection is None or not connection.conn_type:
            problem = "no type"
    if problem:
        raise SettingError(
            f"{name} is set, but is not a valid connection ({problem}). Expected JSON such as "
            f"""{{"conn_type": "{kinds[0]}", "host": "…"}}, or a URI such as {kinds[0]}://…"""
        ) from None


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
