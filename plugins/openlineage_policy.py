"""Keeps the source of this project's tasks out of OpenLineage events, wherever the events are sent.

The provider sends the source code of each PythonOperator's callable unless its configuration forbids it. When Airflow
loads this plugin, before any event is made, it adds a rule about this project's DAGs to the provider's
`emission_policy`. The rule is locked, and other DAGs keep what the configuration says about them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from importlib.util import find_spec
from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin, conf

log = logging.getLogger(__name__)

VARIABLE = "AIRFLOW__OPENLINEAGE__EMISSION_POLICY"

OUR_DAGS = (
    r"(taxi_trips|trips_by_week|trips_marts)_\w+|taxi_zones|adhoc_request\w*|marts_of_reloaded_months"
    r"|warehouse_(status|maintenance)"
)
"""A regular expression for the ids of all DAGs of this project."""

RULE: dict[str, Any] = {
    "scope": {"dag_id": OUR_DAGS},
    "match_mode": "regex",
    "controls": {"include_source_code": False},
    "locked": True,
}


def forbid_source_code() -> None:
    """Add the rule to the provider's configuration, for this process and those that it starts."""
    if not find_spec("airflow.providers.openlineage"):
        return
    rules: Any = None
    with contextlib.suppress(Exception):  # each line raises another one for text that is not JSON
        rules = conf.getjson("openlineage", "emission_policy", fallback=[])
    if not isinstance(rules, list):
        log.warning("[openlineage] emission_policy: expected a JSON list of rules, found something else; it is ignored")
        rules = []
    if RULE not in rules:
        os.environ[VARIABLE] = json.dumps([*rules, RULE])


forbid_source_code()


class OpenLineagePolicyPlugin(AirflowPlugin):
    """Shows in the web UI's list of plugins that the rule is in force."""

    name = "openlineage_policy"
