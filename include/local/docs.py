"""`make docs`: the pages in docs/reference/ that are written from the code, and the sources of the dbt project.

`dags.md` comes from the DAGs' docstrings and structure, `quality.md` from the audit's rules, `tables.md` from the
registries of tables, as does the picture `tables.svg`, and `commands.md` from the Makefile's first comment. The folder
`pages` has the text around these tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from string import Template
from typing import Any

import duckdb

from include.local import table_picture, table_registry
from include.local.console import say
from include.local.dbt_sources import SOURCES, describe_sources
from include.nyc_taxi import warehouse
from include.nyc_taxi.audit import rules
from include.nyc_taxi.warehouse import registry
from include.orchestration import tables
from include.orchestration.compat import read_dags

TEMPLATES = Path(__file__).parent / "pages"


def describe(root: Path) -> str:
    """The page on the DAGs of the project at `root`: a list, then each manual and table of tasks.

    DAGs that one file makes for several fleets share its manual.

    Raises:
        ValueError: a DAG file cannot be read; the message has the errors.
    """
    dags = read_dags(root / "dags")
    manuals: dict[str, list[Any]] = {}
    for dag_id in sorted(dags):
        manuals.setdefault(dags[dag_id].doc_md, []).append(dags[dag_id])
    found = [dag for of_manual in manuals.values() for dag in of_manual]
    rows = [(f"`{dag.dag_id}`", dag.description, _schedule(dag)) for dag in found]
    return _page("dags", dags=_rows(rows), manuals="\n\n".join(map(_section, manuals.values())))


def describe_rules() -> str:
    """The page on the audit: a table of the rules about a month, and one of those about single trips."""
    return _page(
        "quality",
        not_acceptable=", ".join(f"`{rule.name}`" for rule in rules.MONTH_RULES if rule.name not in rules.ACCEPTABLE),
        sampled_from=f"{rules.DUPLICATES_SAMPLE_ROWS:,}",
        month_rules=_rows((f"`{x.name}`", x.severity, f"{x.limit:g}", x.unit, x.reason) for x in rules.MONTH_RULES),
        trip_rules=_rows(
            (x.breaks, f"`{x.name}`", f"{100 * x.limit:g} %", "yes" if x.is_clean else "**no**", x.reason)
            for x in rules.TRIP_RULES
        ),
    )


def describe_tables() -> str:
    """The page on the warehouse: a table of its tables and views, with their columns, and one of what makes them."""
    rows = [
        (f"`{table.name}`", table.row, ", ".join(map(_column, table.columns.items()))) for table in registry.tables()
    ]
    with duckdb.connect() as con:
        warehouse.ensure_tables(con)
        for view in registry.views():
            names = [f"`{name}`" for name, *_ in con.execute(f"DESCRIBE {view.name}").fetchall()]
            rows.append((f"view `{view.name}`", view.row, ", ".join(names)))
    return _page(
        "tables",
        tables=f"| table | one row is | columns |\n|---|---|---|\n{_rows(rows)}",
        makers=_rows(_makers(tables.registry())),
    )


def _makers(found: tables.Registry) -> Iterable[tuple[str, ...]]:
    """A row for each table that something makes: its name, DAG, task, what a run makes, and the DAGs that wait."""
    waiting: dict[str, set[str]] = {}
    for reader, makers in table_picture.waits_of_any_fleet(found).items():
        for name in (name for needed in makers.values() for name in needed):
            waiting.setdefault(name, set()).add(reader)
    listed = {table_picture.of_any_fleet(table.name): table.made_by for table in found if table.made_by}
    for name, maker in sorted(listed.items()):
        part = f"a {maker.partition} of a fleet" if maker.partition else "all of it"
        dag_id = table_picture.of_any_fleet(maker.dag)
        yield f"`{name}`", f"`{dag_id}`", f"`{maker.task}`", part, _names(sorted(waiting.get(name, ())))


def _column(item: tuple[str, registry.Column]) -> str:
    name, column = item
    return f"`{name}`" + (f" ({column.meaning})" if column.meaning else "")


def describe_commands(root: Path) -> str:
    """The page on the commands: a table for each group of the comment at the top of the Makefile."""
    groups: dict[str, list[tuple[str, str]]] = {}
    rows: list[tuple[str, str]] = []
    for line in (root / "Makefile").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if command := re.fullmatch(r"#   make (?P<target>[a-z-]+) +(?P<text>.+)", line):
            rows.append((f"`make {command['target']}`", command["text"]))
        elif title := line.removeprefix("#").strip():
            groups[title] = rows = []
    header = "| command | what it does |\n|---|---|"
    sections = [f"## {title}\n\n{header}\n{_rows(rows)}" for title, rows in groups.items() if rows]
    return _page("commands", commands="\n\n".join(sections))


def _page(name: str, **values: str) -> str:
    return Template((TEMPLATES / f"{name}.md").read_text(encoding="utf-8")).substitute(values)


def _rows(rows: Iterable[Iterable[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _section(dags: list[Any]) -> str:
    rows = [
        (
            f"`{task.task_id}`",
            getattr(task, "operator_class", type(task)).__name__ + (", mapped" if _is_mapped(task) else ""),
            task.pool,
            _names(sorted(task.upstream_task_ids)),
            _names(_asset(asset) for asset in task.inlets),
            _names(_asset(asset) for asset in task.outlets),
        )
        for task in dags[0].topological_sort()
    ]
    manual, names = dags[0].doc_md.strip().replace("# ", "## ", 1), _names(dag.dag_id for dag in dags)
    header = "| task | operator | pool | after | reads | makes |\n|---|---|---|---|---|---|"
    return f"{manual}\n\n**Tasks** of {names}:\n\n{header}\n{_rows(rows)}"


def _schedule(dag: Any) -> str:
    """In Airflow's words, but for "never": the two lines do not agree on how to say that."""
    return str(dag.timetable.description) if dag.timetable.can_be_scheduled else "only on demand"


def _is_mapped(task: Any) -> bool:
    """Whether the task is expanded at run time, by itself or with its group.

    Only a mapped operator keeps what its `partial` was given; both lines have `operator_class` on every operator.
    """
    return hasattr(task, "partial_kwargs") or task.get_closest_mapped_task_group() is not None


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "-"


def _asset(asset: Any) -> str:
    """The asset's name, which 2.11 does not have: the end of its address, joined as assets.py does."""
    return "_".join(asset.uri.split("://")[1].split("/")[1:])


def run(root: Path) -> int:
    """Write the pages of the project at `root`; returns the exit status."""
    table_registry.write()
    pages = {
        Path("docs", "reference", "dags.md"): describe(root),
        Path("docs", "reference", "quality.md"): describe_rules(),
        Path("docs", "reference", "tables.md"): describe_tables(),
        Path("docs", "reference", "commands.md"): describe_commands(root),
        SOURCES: describe_sources(),
        Path("docs", "images", "tables.svg"): table_picture.draw(tables.registry()),
    }
    for name, text in pages.items():
        page = root / name
        page.write_text(text, encoding="utf-8")
        say(f"wrote {page}")
    return 0
