"""`make docs`: docs/dags.md, from the DAGs' docstrings and structure, and docs/quality.md, from the audit's rules."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from include.nyc_taxi import quality
from include.orchestration.airflow_line import read_dags

HEAD = """<!-- Made by `make docs` from the DAG files; a test fails when it is stale. -->

# The DAGs

"""


QUALITY_HEAD = f"""<!-- Made by `make docs` from include/nyc_taxi/quality.py; a test fails when it is stale. -->

# Quality: the audit of a month

Write, audit, publish: `load` writes a month's rows, applies the rules below, and commits, all in one transaction. A
broken rule of severity `error` rolls it back: the old month stays, the task fails for good, without retries, and
names the rule. A broken rule of severity `warn` lets the month pass, and the task's log says so. **No row is
dropped.** The view `trips_clean` is the view `trips` without the trips that are marked *impossible* here.

What each rule found is in the table `quality_checks` (a load that was refused after the published one has rows of
its own, with `published` false), in the asset event of `load`, and on the terminal:

```
make quality FLEET=green MONTH=2023-03
```

A limit that the TLC's own files turn out to break is changed in `include/nyc_taxi/quality.py`, where a rule is one
entry with its SQL. With today's limits all real files that the tests have pass without a warning. Exact duplicates
are told by a hash of 64 bits over all columns; in months of more than {quality.DUPLICATES_LOOKED_FOR_IN:,} trips
they are looked for in about as many of them, taken so that rows alike are taken together, and their number is
estimated.

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


def describe_rules() -> str:
    """The page on quality, in Markdown: a table of the rules about a month, and one of those about single trips."""
    lines = ["## Rules about a month", "", "| rule | severity | at most | of what | why |", "|---|---|---|---|---|"]
    for month_rule in quality.MONTH_RULES:
        unit, limit = month_rule.unit, f"{month_rule.limit:g}"
        lines.append(f"| `{month_rule.name}` | {month_rule.severity} | {limit} | {unit} | {month_rule.reason} |")
    lines += [
        "",
        "## Rules about trips",
        "",
        "What is limited is the share of the month's trips that break the rule.",
        "",
    ]
    lines += ["| trips that … | rule | severity | at most | impossible | why |", "|---|---|---|---|---|---|"]
    for rule in quality.TRIP_RULES:
        impossible, limit = "yes" if rule.impossible else "", f"{100 * rule.limit:g} %"
        cells = (rule.breaks, f"`{rule.name}`", rule.severity, limit, impossible, rule.reason)
        lines.append(f"| {' | '.join(cells)} |")
    return QUALITY_HEAD + "\n".join(lines) + "\n"


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
    """Write the pages of the project at `root`; returns the exit status."""
    for name, text in (("dags.md", describe(root)), ("quality.md", describe_rules())):
        page = root / "docs" / name
        page.write_text(text, encoding="utf-8")
        print(f"wrote {page}")
    return 0
