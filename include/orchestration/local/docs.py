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

`load` writes a month's rows, applies the rules below, and commits, all in one transaction. **No row is dropped**: the
tables hold every trip as the TLC published it.

- A broken rule of severity `error` rolls the load back. The old month stays, the task fails for good, without retries,
  and its log names the rule. These rules are about the month as a whole. Each asks whether this can be the TLC's file
  of this month at all: no month is refused for a value that the TLC published.
- A broken rule of severity `warn` lets the month pass, and the task's log says so.

**To load a month all the same** that was refused, after looking at its file: trigger `taxi_trips_<fleet>` with *Accept
this edition* in the form, or as the error says, for example

```
airflow dags trigger taxi_trips_green --conf '{{"month": "2023-03", "accept": true}}'
```

What each rule found is in the table `quality_checks` (a load that was refused after the published one has rows of
its own, with `published` false; an accepted rule is published, and not passed), in the asset event of `load`, and on
the terminal:

```
make quality FLEET=green MONTH=2023-03
```

A limit that the TLC's own files turn out to break is changed in `include/nyc_taxi/quality.py`, where a rule is one
entry with its SQL. With today's limits all real files that the tests have pass without a warning. Exact duplicates
are told by a hash of 64 bits over all columns; in months of more than {quality.DUPLICATES_LOOKED_FOR_IN:,} trips
they are looked for in about as many of them, taken so that rows alike are taken together, and their number is
estimated.

## Clean trips

The view `trips_flagged` is the view `trips` with two more columns: `flags`, the names of the rules about trips that
a trip breaks, and `is_clean`. The view `trips_clean` has the clean trips, with their flags. A trip is clean unless it
breaks a rule that says *no* in the table below: what counts is the evidence that somebody was driven somewhere, for
money and miles that can be true.

- **Reversals** come in pairs: a charge, and a second row with the same vendor, times and zones and the amount
  negative. Both are left out. Each reversal takes one charge with it, so that a trip which was charged, reversed and
  charged again is counted once. The load marks both rows (`is_reversed` in the table of trips).
- **Flex fares**, agreed in an app, have a negative `fare_amount`, but a positive `total_amount` and a normal distance:
  they stay.
- **Clocks that stood still**: where pickup and drop-off have the same time, a plausible distance and fare show a trip.
- **Numbers that are none** (NaN, infinity) are left out, and add nothing to any sum.

In the real months that the tests have (green taxis):

| month | trips | clean | in reversals | no duration: kept / left out | over 100 mph | over 1,000 miles | flex fares |
|---|---|---|---|---|---|---|---|
| 2021-01 | 76,518 | 76,024 | 256 | 7 / 59 | 171 | 53 | 0 |
| 2022-01 | 62,495 | 61,801 | 406 | 8 / 76 | 205 | 61 | 0 |
| 2023-01 | 68,211 | 67,617 | 348 | 4 / 57 | 183 | 34 | 0 |
| 2023-02 | 64,809 | 64,206 | 374 | 7 / 74 | 153 | 37 | 0 |
| 2023-03 | 72,044 | 71,363 | 394 | 7 / 87 | 201 | 53 | 0 |

Months that an older version loaded have no `is_reversed`: the negative rows are left out there, and their positive
twins are not. Load such a month again to have them marked.

## What is not checked

The pages of a Parquet file can carry checksums (CRC). DuckDB does not compare them, and the TLC's files have none, so
nothing is lost by that: a transfer is checked by its length and, with HTTPS, by its encryption. A file whose pages
cannot be decoded is refused, forgotten, and fetched anew by the next `download`. A damaged page that decodes to other
values is noticed where these break a rule.

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
        "What is limited is the share of the month's trips that break the rule; all are of severity `warn`.",
        "",
    ]
    lines += ["| trips that … | rule | at most | clean | why |", "|---|---|---|---|---|"]
    for rule in quality.TRIP_RULES:
        is_clean, limit = "yes" if rule.is_clean else "**no**", f"{100 * rule.limit:g} %"
        cells = (rule.breaks, f"`{rule.name}`", limit, is_clean, rule.reason)
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
