"""`make docs`: the pages in docs/reference/ that are written from the code.

`dags.md` comes from the DAGs' docstrings and structure, `quality.md` from the audit's rules, `commands.md` from the
Makefile's first comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from include.nyc_taxi.audit import rules
from include.orchestration.compat import read_dags

HEAD = """<!-- Made by `make docs` from the DAG files; a test fails when it is stale. -->

# The DAGs

"""


_NOT_ACCEPTABLE = ", ".join(f"`{rule.name}`" for rule in rules.MONTH_RULES if rule.name not in rules.ACCEPTABLE)

QUALITY_HEAD = f"""<!-- Made by `make docs` from include/nyc_taxi/audit/rules.py; a test fails when it is stale. -->

# The audit of a month

The task `load` writes a month's rows, applies the rules below, and commits only if the month passes. **No row is
dropped**: the tables hold every trip as the TLC published it.

- If a month breaks a rule of severity `error`, the load is rolled back. The old month stays, the task fails without
  retries, and its log names the rule. These rules judge the month as a whole: each asks whether the file can be the
  TLC's file of this month. No month is refused because of a single value that the TLC published.
- If a month breaks a rule of severity `warn`, it is loaded, and the task's log names the rule.

**To load a refused month anyway**, look at its file first. Then trigger `taxi_trips_<fleet>` with *Accept this
edition* in the form, or with the command that the error shows, for example

```
airflow dags trigger taxi_trips_green --conf '{{"month": "2023-03", "accept": true}}'
```

Rules that cannot be overridden in this way: {_NOT_ACCEPTABLE}.

The table `quality_checks`, the asset event of `load` and this command show what each rule found:

```
make quality FLEET=green MONTH=2023-03
```

If a load is refused after another one was committed, `quality_checks` keeps the rows of both; those of the refused
load have `published` false. A rule that was accepted by hand has `published` true and `passed` false.

If the TLC's own files turn out to break a limit, change the limit in `include/nyc_taxi/audit/rules.py`, where each
rule is one entry with its SQL. With today's limits, all real files that the tests use pass without a warning.
The audit finds exact duplicates by comparing 64-bit hashes over all columns. In months of more than
{rules.DUPLICATES_LOOKED_FOR_IN:,} trips it searches a sample of about that size, chosen so that identical rows are
always sampled together, and estimates their number.

## Clean trips

The view `trips_flagged` is the view `trips` with two more columns: `flags`, the names of the trip rules that the trip
breaks, and `is_clean`. The view `trips_clean` contains only the clean trips, with their flags. A trip is clean unless
it breaks a rule whose column *clean* says *no* in the table below. The criterion is evidence that somebody was driven
somewhere, for an amount and a distance that are plausible.

- **Reversals** come in pairs: a charge, and a second row with the same vendor, times and zones and the negated amount.
  Both rows are left out. Each reversal cancels one charge, so that a trip which was charged, reversed and charged
  again is counted once. The load marks both rows in the column `is_reversed`.
- **Flex fares**, which are agreed in an app, have a negative `fare_amount`, but a positive `total_amount` and a normal
  distance. These trips are kept.
- **Stopped clocks**: if pickup and drop-off have the same time, a plausible distance and fare show that the trip took
  place.
- **NaN and infinity**: trips with such a value are left out, and sums ignore these values.

These are the counts for the real months that the tests use (green taxis):

| month | trips | clean | in reversals | no duration: kept / left out | over 100 mph | over 1,000 miles | flex fares |
|---|---|---|---|---|---|---|---|
| 2021-01 | 76,518 | 76,024 | 256 | 7 / 59 | 171 | 53 | 0 |
| 2022-01 | 62,495 | 61,801 | 406 | 8 / 76 | 205 | 61 | 0 |
| 2023-01 | 68,211 | 67,617 | 348 | 4 / 57 | 183 | 34 | 0 |
| 2023-02 | 64,809 | 64,206 | 374 | 7 / 74 | 153 | 37 | 0 |
| 2023-03 | 72,044 | 71,363 | 394 | 7 / 87 | 201 | 53 | 0 |

Months that an older version loaded have no `is_reversed`. In these months the negative rows are left out, but the
charges that they reverse are not. Load such a month again to mark both.

## What the audit does not check

The pages of a Parquet file can carry checksums (CRC). DuckDB does not verify them, but the TLC's files do not have
any. A download is protected by its length and, with HTTPS, by its encryption. If a page cannot be decoded, the file is
refused and the next `download` fetches it again. If a damaged page decodes to other values, the audit notices only
values that break a rule.

"""

COMMANDS_HEAD = """<!-- Made by `make docs` from the Makefile; a test fails when it is stale. -->

# The commands

`make help` prints this list. Every command first installs and sets up what it needs.

"""

COMMANDS_TAIL = """
Every command takes `AIRFLOW=2`, which runs it on Airflow 2.11. `DEMO=1` makes a command work on the data and the
Airflow of `make demo`. To type Airflow's own commands with the same settings, start `make shell`.
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
    lines = ["## Rules about a month", "", "| rule | severity | limit | unit | why |", "|---|---|---|---|---|"]
    for month_rule in rules.MONTH_RULES:
        unit, limit = month_rule.unit, f"{month_rule.limit:g}"
        lines.append(f"| `{month_rule.name}` | {month_rule.severity} | {limit} | {unit} | {month_rule.reason} |")
    lines += [
        "",
        "## Rules about trips",
        "",
        "The limit is the share of the month's trips that may break the rule. All these rules have severity `warn`.",
        "",
    ]
    lines += ["| trips that … | rule | limit | clean | why |", "|---|---|---|---|---|"]
    for rule in rules.TRIP_RULES:
        is_clean, limit = "yes" if rule.is_clean else "**no**", f"{100 * rule.limit:g} %"
        cells = (rule.breaks, f"`{rule.name}`", limit, is_clean, rule.reason)
        lines.append(f"| {' | '.join(cells)} |")
    return QUALITY_HEAD + "\n".join(lines) + "\n"


def describe_commands(root: Path) -> str:
    """The page on the commands, in Markdown: a table for each group of the comment at the top of the Makefile."""
    groups: dict[str, list[str]] = {}
    rows: list[str] = []
    for line in (root / "Makefile").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if command := re.fullmatch(r"#   make (?P<target>[a-z-]+) +(?P<text>.+)", line):
            rows.append(f"| `make {command['target']}` | {command['text']} |")
        elif title := line.removeprefix("#").strip():
            groups[title] = rows = []
    table = ["", "| command | what it does |", "|---|---|"]
    sections = ["\n".join([f"## {title}", *table, *rows]) for title, rows in groups.items() if rows]
    return COMMANDS_HEAD + "\n\n".join(sections) + "\n" + COMMANDS_TAIL


def _section(dags: list[Any]) -> str:
    manual = dags[0].doc_md.strip().replace("# ", "## ", 1)
    names = ", ".join(f"`{dag.dag_id}`" for dag in dags)
    columns = ("task", "operator", "pool", "after", "reads", "makes")
    lines = [manual, "", f"**Tasks** of {names}:", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for task in dags[0].topological_sort():
        operator = getattr(task, "operator_class", type(task)).__name__
        cells = (
            f"`{task.task_id}`",
            f"{operator}, mapped" if _is_mapped(task) else operator,
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
    pages = {"dags.md": describe(root), "quality.md": describe_rules(), "commands.md": describe_commands(root)}
    for name, text in pages.items():
        page = root / "docs" / "reference" / name
        page.write_text(text, encoding="utf-8")
        print(f"wrote {page}")
    return 0
