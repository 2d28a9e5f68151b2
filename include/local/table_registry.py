"""The registry of tables that DAG files read: which DAG and task make a table, and which DAGs wait for it.

`make dbt-manifest` and `make docs` write it, from dbt's manifest and from the DAGs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from include.local.console import say
from include.local.errors import CommandError
from include.nyc_taxi import catalogue, settings
from include.nyc_taxi.files import replacing
from include.orchestration import tables
from include.orchestration.compat import read_dags

DBT = Path("include", "dbt")
MANIFEST = settings.PROJECT_ROOT / DBT / "manifest.json"

COLUMNS = {"month": "partition_month", "week": "period"}
"""The column with the first day of what a run makes."""


def write() -> None:
    """Write tables.json. The DAG files are read with the tables that it is to have, so that they may need new ones.

    Raises:
        CommandError: a DAG file cannot be read, or DAGs wait for each other; the file is as it was.
    """
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    tables.use(json.loads(describe(manifest, {})))
    try:
        text = describe(manifest, waits(read_dags(settings.PROJECT_ROOT / "dags")))
    except (ValueError, tables.TableError) as error:
        raise CommandError(f"{tables.FILE} was not written: {error}") from error
    tables.use(json.loads(text))
    with replacing(tables.FILE) as file:
        file.write_text(text, encoding="utf-8")
    say(f"wrote {tables.FILE}")


def describe(manifest: Mapping[str, Any], waits: tables.Waits) -> str:
    """The text of tables.json.

    Raises:
        TableError: DAGs wait for each other.
    """
    nodes = manifest["sources"] | {
        key: node for key, node in manifest["nodes"].items() if node["resource_type"] in ("model", "seed")
    }
    names = {key: _name(node) for key, node in nodes.items()}
    found = {names[key]: _facts(node, names) for key, node in nodes.items()}
    content = {"tables": _one_for_all_fleets(found), "waits": waits}
    all_waits = tables.Registry(content).waits({})
    for dag_id in all_waits:
        tables.refuse_circle(all_waits, dag_id)
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def waits(dags: Mapping[str, Any]) -> tables.Waits:
    """Which of these DAGs have sensors that wait for others."""
    return {dag_id: found for dag_id in sorted(dags) if (found := tables.waits_of(dags[dag_id]))}


def _name(node: Mapping[str, Any]) -> str:
    """The name in SQL: without the schema of the warehouse's own tables."""
    name = str(node.get("alias") or node.get("identifier") or node["name"])
    return name if node["schema"] == "main" else f"{node['schema']}.{name}"


def _facts(node: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    made_by = (node["config"].get("meta") or {}).get("made_by")
    if made_by:
        made_by = {key: value.replace("{table}", node["name"]) for key, value in made_by.items()}
    column = COLUMNS.get((made_by or {}).get("partition", ""))
    return {
        "file": (DBT / node["original_file_path"]).as_posix(),
        "kind": "source" if node["resource_type"] == "source" else node["config"]["materialized"],
        "made_by": made_by,
        "column": column if column in node["columns"] else None,
        "reads": sorted(names[key] for key in node.get("depends_on", {}).get("nodes", []) if key in names),
    }


def _one_for_all_fleets(found: Mapping[str, Any]) -> dict[str, Any]:
    """Let the fleets' tables of trips be one entry, also for a fleet that is added to the catalogue later."""
    fleets = {fleet.table: fleet.name for fleet in catalogue.FLEETS.values()}
    merged: dict[str, Any] = {}
    for name, facts in found.items():
        if name in fleets and facts["made_by"]:
            of_all = {key: value.replace(fleets[name], "{fleet}") for key, value in facts["made_by"].items()}
            first = merged.setdefault(name.replace(fleets[name], "{fleet}", 1), facts | {"made_by": of_all})
            if first == facts | {"made_by": of_all}:
                continue
        merged[name] = facts
    return merged
