"""Airflow connections that are set, but cannot be used, are errors: Airflow itself takes some of them for missing.

A connection in the environment that cannot be parsed counts as not found, and a task would go on with the default: into
another warehouse, or past a proxy.

`include` is imported where it is used: Airflow loads plugins also in processes without the DAG bundle on their path.
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
"""Of two names: a letter is missing or wrong. `AIRFLOW_CONN_WAREHOUSE_LAKE` is another name."""


def usable(get_connection: Callable[[str], Connection], conn_id: str, *kinds: str) -> Connection:
    """The connection, as Airflow has it, if it is of one of these types.

    Raises:
        SettingError: it is set, but is no connection, or one of another type. No secret is in the message.
        AirflowNotFoundException: it is not defined; a variable that is set but empty defines nothing.
    """
    from include.nyc_taxi.errors import SettingError

    name = f"{PREFIX}{conn_id.upper()}"
    if os.environ.get(name):
        _check_text(name, conn_id, kinds)
    elif similar := difflib.get_close_matches(name, [key for key in os.environ if key.startswith(PREFIX)], 1, SIMILAR):
        log.warning("%s is not set, but %s is: is that a misspelling?", name, similar[0])
    connection = get_connection(conn_id)
    where = name if os.environ.get(name) else f"the connection {conn_id!r}"
    if connection.conn_type not in kinds:
        raise SettingError(f"{where}: expected the type {' or '.join(kinds)}, found {connection.conn_type or 'none'}")
    if connection.extra and not _is_object(connection.extra):
        raise SettingError(f"{where}: expected a JSON object in extra, found something else")
    return connection


def _check_text(name: str, conn_id: str, kinds: tuple[str, ...]) -> None:
    from airflow.secrets.environment_variables import EnvironmentVariablesBackend

    from include.nyc_taxi.errors import SettingError

    problem = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.x warns about how it reads the text itself
            connection = EnvironmentVariablesBackend().get_connection(conn_id)
    except Exception as error:  # of many kinds; each may repeat the text, in which a password can be
        problem = type(error).__name__
    else:
        if connection is None or not connection.conn_type:
            problem = "no type"
    if problem:
        raise SettingError(
            f"{name} is set, but is no connection ({problem}). Expected JSON such as "
            f"""{{"conn_type": "{kinds[0]}", "host": "…"}}, or a URI such as {kinds[0]}://…"""
        ) from None


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
