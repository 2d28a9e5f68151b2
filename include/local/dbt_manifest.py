"""`make dbt-manifest`: list the models of the dbt project, from which Airflow makes tasks without asking dbt.

The list is dbt's own manifest, without what differs from one machine or moment to the next.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from include.local import dbt, table_registry
from include.local.console import say
from include.nyc_taxi.files import replacing

MANIFEST = dbt.PROJECT / "manifest.json"

_KEPT = ("nodes", "sources", "exposures", "unit_tests", "parent_map", "child_map")
_KEPT_METADATA = ("dbt_schema_version", "dbt_version", "project_name", "adapter_type")
_LEFT_OUT = ("build_path", "compiled_path", "created_at", "raw_code", "root_path", "doc_blocks", "docs", "patch_path")


def run() -> int:
    """Write the manifest, and the registry of tables from it; returns the exit status."""
    text = describe()
    if text is None:
        return 1
    with replacing(MANIFEST) as file:
        file.write_text(text, encoding="utf-8")
    say(f"wrote {MANIFEST}")
    table_registry.write()
    return 0


def describe() -> str | None:
    """The text of the manifest; None if dbt cannot read the project. It opens no warehouse."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        dbt.write_profile(state, {"type": "duckdb", "schema": "marts", "path": str(state / "warehouse.duckdb")})
        if dbt.call(["parse", "--no-partial-parse"], state, {}, quiet=True):
            return None
        manifest = json.loads((state / "target" / "manifest.json").read_text(encoding="utf-8"))
    return json.dumps(_without_circumstances(manifest), indent=1, sort_keys=True) + "\n"


def _without_circumstances(manifest: dict[str, Any]) -> dict[str, Any]:
    found = {key: manifest[key] for key in _KEPT}
    for key in ("nodes", "sources", "exposures", "unit_tests"):
        found[key] = {
            name: {fact: value for fact, value in node.items() if fact not in _LEFT_OUT}
            for name, node in manifest[key].items()
        }
    return found | {"metadata": {key: manifest["metadata"][key] for key in _KEPT_METADATA}}
