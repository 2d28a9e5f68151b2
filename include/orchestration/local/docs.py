"""`make docs`: docs/dags.md, from the DAGs' docstrings and structure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from include.orchestration.airflow_line import read_dags

HEAD = """<!-- Made by `make docs` from the DAG files; a test fails when it is stale. -->

# The DAGs

"""


def describe(root: Path) -> str:
    """The page, in Markdown: a list of the DAGs of the project at `root`, then each manual and table of tasks.

    DAGs that one file makes for several fleets share its manual.

    Raises:
        ValueError: a DAG file cannot be read; the message has the errors.
    """
    dags = read_dags(root / "dags")
    manuals: dict[str, list[Any]] = {}
    for dag_id in sorted(dags):
        manuals.setdefault(dags[dag_id].doc_md, []).append(dags[dag_id])
    lines = ["| DAG | what it does | schedule |", "|---|---|---|"]
    for found in manuals.values():
        lines += [f"| `{dag.dag_id}` | {dag.description} | {dag.timetable.description} |" for dag in found]
    return HEAD + "\n".join(lines) + "\n\n" + "\n\n".join(map(_section, manuals.values())) + "\n"


def _section(dags: list[Any]) -> str:
    manual = dags[0].doc_md.strip().replace("# ", "## ", 1)
    names = ", ".join(f"`{dag.dag_id}`" for dag in dags)
    lines = [manual, "", f"**Tasks** of {names}:", "", "| task | operator | pool | after |", "|---|---|---|---|"]
    for task in dags[0].topological_sort():
        after = ", ".join(f"`{name}`" for name in sorted(task.upstream_task_ids)) or "-"
        lines.append(f"| `{task.task_id}` | {type(task).__name__} | {task.pool} | {after} |")
    return "\n".join(lines)


def write(root: Path) -> int:
    """Write docs/dags.md of the project at `root`; returns the exit status."""
    page = root / "docs" / "dags.md"
    page.write_text(describe(root), encoding="utf-8")
    print(f"wrote {page}")
    return 0
