"""What an operator learns when dbt fails: the model or test, its file, and dbt's own message with the SQL's line.

dbt's exit status says only that something failed. Its file `run_results.json` says what.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from include.nyc_taxi.errors import NycTaxiError

MOST_FAILURES = 3
"""The message describes so many failures and names the rest."""
LAST_LINES = 6
"""Lines of dbt's output in the message if dbt failed before it ran a model."""

_LASTING = re.compile(
    r"(Compilation|Parsing|Parser|Binder|Catalog|Constraint|Conversion|Contract|Database Configuration) Error"
    r"|is not a valid|contract that failed|Got \d+ results?"
)
"""Errors that the same SQL gives again on the same data, unlike those of a warehouse that does not answer."""
_HEADING = re.compile(r"^(Runtime|Database|Compilation|Parsing) Error in (model|test|seed|unit_test) .*$", re.MULTILINE)
_TIME = re.compile(r"^\d\d:\d\d:\d\d\b")


class DbtError(NycTaxiError, permanent=False):
    """dbt has failed, perhaps only for now."""


class DbtModelError(DbtError, permanent=True):
    """A model or a test has failed, and would fail again: its SQL, its description or its data is wrong."""


def explained(status: int, target: Path, output: Sequence[str]) -> DbtError:
    """The error for a dbt that has failed.

    Args:
        status: dbt's exit status.
        target: the folder in which dbt has left `run_results.json` and `manifest.json`, if it got so far.
        output: what dbt has printed, line by line.
    """
    from include.nyc_taxi.warehouse.lake import without_passwords  # imports DuckDB, which parsing DAG files must not

    failed = list(_failed(target))
    if failed:
        shown = [_described(result, node) for result, node in failed[:MOST_FAILURES]]
        if rest := [node.get("name") or result["unique_id"] for result, node in failed[MOST_FAILURES:]]:
            shown.append(f"and {len(rest)} more: {', '.join(rest)}")
        text = "; ".join(shown)
        lasting = all(_LASTING.search(str(result.get("message"))) for result, _ in failed)
    else:
        lines = [text for line in output if (text := without_time(line))]
        begin = next((i for i, line in enumerate(lines) if line.startswith("Encountered an error")), -LAST_LINES)
        text = " ".join(lines[begin:][: LAST_LINES + 1]) or "it printed nothing"
        lasting = bool(_LASTING.search(text))
    kind = DbtModelError if lasting else DbtError
    return kind(f"dbt has failed (exit status {status}): {without_passwords(text)}")


def without_time(line: str) -> str:
    """A line of dbt's output without the time before it and the blanks around it."""
    return _TIME.sub("", line).strip()


def _failed(target: Path) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The results of models and tests that failed, with what the manifest says about each."""
    results = _read(target / "run_results.json").get("results", [])
    failed = [result for result in results if result.get("status") in ("error", "fail", "runtime error")]
    if not failed:
        return
    manifest = _read(target / "manifest.json")
    nodes = {**manifest.get("nodes", {}), **manifest.get("unit_tests", {})}
    for result in failed:
        yield result, nodes.get(result["unique_id"], {})


def _read(file: Path) -> dict[str, Any]:
    """The file's content; empty if there is none, or if dbt was killed while it wrote it."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _described(result: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    """One failure on one line, such as "test not_null_x_y of x (include/dbt/models/marts/marts.yml): Got 3 results"."""
    unique_id = str(result["unique_id"])
    what = f"{unique_id.split('.')[0].replace('_', ' ')} {node.get('name') or unique_id.split('.')[2]}"
    if what.startswith("test "):
        tested = [node["attached_node"]] if node.get("attached_node") else node.get("depends_on", {}).get("nodes", [])
        what += f" of {' and '.join(each.split('.')[-1] for each in tested)}" if tested else ""
    file = f" (include/dbt/{node['original_file_path']})" if node.get("original_file_path") else ""
    message = _HEADING.sub("", str(result.get("message") or "no message"))
    return f"{what}{file}: {' '.join(message.split())}"
