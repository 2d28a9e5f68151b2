"""`make docs`: docs/dags.md, from the DAGs' docstrings and structure."""

from __future__ import annotations

from collections.abc import Iterable
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
        lines += [f"| `{dag.dag_id}` | {dag.description} | {_schedule(dag)} |" for dag in found]
    return HEAD + "\n".join(lines) + "\n\n" + "\n\n".join(map(_section, manuals.values())) + "\n"


def _section(dags: list[Any]) -> str:
    manual = dags[0].doc_md.strip().replace("# ", "## ", 1)
    names = ", ".join(f"`{dag.dag_id}`" for dag in dags)
    columns = ("task", "operator", "pool", "after", "reads", "makes")
    lines = [manual, "", f"**Tasks** of {names}:", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for task in dags[0].topological_sort():
        operator = getattr(task, "operator_class", type(task)).__name__
        cells = (
            f"`{task.task_id}`",
            f"{operator}, mapped" if hasattr(task, "operator_class") or _in_mapped_group(task) else operator,
            task.pool,
            _names(sorted(task.upstream_task_ids)),
            _names(_asset(asset) for asset in task.inlets),
            _names(_asset(asset) for asset in task.outlets),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _schedule(dag: Any) -> str:
    """In Airflow's words, but for "never": the two lines do not agree on how to say that."""
    return str(dag.timetable.description) if dag.timetable.can_be_scheduled else "only on demand"


def _in_mapped_group(task: Any) -> bool:
    return task.get_closest_mapped_task_group() is not None


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "-"


def _asset(asset: Any) -> str:
    """The asset's name, which 2.11 does not have: the end of its address, joined as assets.py does."""
    return "_".join(asset.uri.split("://")[1].split("/")[1:])


def write(root: Path) -> int:
    """Write docs/dags.md of the project at `root`; returns the exit status."""
    page = root / "docs" / "dags.md"
    page.write_text(describe(root), encoding="utf-8")
    print(f"wrote {page}")
    return 0
