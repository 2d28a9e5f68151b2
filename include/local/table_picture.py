"""A picture of the tables: which DAG makes each, and which DAG waits for whom.

Plain SVG, made from the registry: a column for each step, in which a DAG is above the tables that it makes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from html import escape
from typing import TYPE_CHECKING

from include.nyc_taxi import catalogue

if TYPE_CHECKING:
    from include.orchestration.tables import Registry

WIDTH, GAP, LINE, HEAD, TOP, MARGIN = 240, 130, 22, 40, 96, 20
"""In pixels: of a column, between columns, of a table's line, of a DAG's box, above all, and around all."""

_STYLE = """\
  .head { fill: #7d8590; font-size: 19px; font-weight: 600 }
  .note { fill: #7d8590; font-size: 12.5px }
  .dag { fill: #dbeafe; stroke: #3b6fb6 }
  .tables { fill: #fdf0cd; stroke: #b7791f }
  .name { fill: #16202a; font-weight: 600; text-anchor: middle; font-size: 13px }
  .table { fill: #16202a; font-family: ui-monospace, 'DejaVu Sans Mono', monospace; font-size: 12.5px }
  .line { fill: none; stroke: #7d8590; stroke-width: 1.6; marker-end: url(#tip) }"""


def draw(registry: Registry) -> str:
    """The picture as SVG. DAGs and tables that each fleet has are drawn once, with <fleet> in their names."""
    made: dict[str, list[str]] = {}
    for table in registry:
        if table.made_by:
            names = made.setdefault(of_any_fleet(table.made_by.dag), [])
            if of_any_fleet(table.name) not in names:
                names.append(of_any_fleet(table.name))
    waits = waits_of_any_fleet(registry)
    columns = _columns({dag_id: [*waits.get(dag_id, {})] for dag_id in sorted({*made, *waits})})
    places: dict[str, tuple[int, int]] = {}
    boxes: list[str] = []
    tallest = 0
    for step, dag_ids in enumerate(columns):
        y = TOP
        for dag_id in dag_ids:
            places[dag_id] = (MARGIN + step * (WIDTH + GAP), y)
            boxes += _box(dag_id, sorted(made.get(dag_id, [])), *places[dag_id])
            y += HEAD + LINE * len(made.get(dag_id, [])) + 44
        tallest = max(tallest, y)
    arrows = [
        _arrow(maker, dag_id, tables, places, number)
        for dag_id in sorted(waits)
        for number, (maker, tables) in enumerate(sorted(waits[dag_id].items()))
    ]
    width = 2 * MARGIN + len(columns) * (WIDTH + GAP) - GAP
    return "\n".join([*_head(width, tallest), *arrows, *boxes, "</svg>"]) + "\n"


def waits_of_any_fleet(registry: Registry) -> dict[str, dict[str, list[str]]]:
    """By DAG, the DAGs for which it waits, each with the tables that it needs; with <fleet> for the fleets."""
    found: dict[str, dict[str, list[str]]] = {}
    for dag_id, makers in registry.waits({}).items():
        for maker, tables in makers.items():
            needed = found.setdefault(of_any_fleet(dag_id), {}).setdefault(of_any_fleet(maker), [])
            needed += sorted({of_any_fleet(table) for table in tables} - {*needed})
    return found


def of_any_fleet(name: str) -> str:
    """A name with <fleet> in place of a fleet, or of "{fleet}"."""
    for fleet in catalogue.FLEETS.values():
        if name == fleet.table:
            return name.replace(fleet.name, "<fleet>", 1)
        if name.endswith(f"_{fleet.name}"):
            return name.removesuffix(fleet.name) + "<fleet>"
    return name.replace("{fleet}", "<fleet>")


def _columns(waits: Mapping[str, list[str]]) -> list[list[str]]:
    """The DAGs step by step: each waits only for those of earlier steps."""
    sorter = TopologicalSorter(waits)
    sorter.prepare()
    columns = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        columns.append(ready)
        sorter.done(*ready)
    return columns


def _head(width: int, height: int) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="title" '
        "font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\" font-size=\"14\">"
    )
    yield '<title id="title">Which DAG makes which tables, and which DAG waits for whom</title>'
    yield "<!-- Made by `make docs`; tests/dags/test_tables.py compares it with the DAGs. -->"
    yield f"<style>\n{_STYLE}\n</style>"
    yield (
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 10 5 0 10z" fill="#7d8590"/></marker></defs>'
    )
    yield f'<text class="head" x="{MARGIN}" y="34">Tables and the DAGs that make them</text>'
    yield (
        f'<text class="note" x="{MARGIN}" y="56">Blue: a DAG. Yellow: the tables that it makes. '
        "An arrow leads to a DAG that waits.</text>"
    )


def _box(dag_id: str, tables: list[str], x: int, y: int) -> Iterator[str]:
    yield f'<rect class="dag" x="{x}" y="{y}" width="{WIDTH}" height="{HEAD - 8}" rx="7"/>'
    yield f'<text class="name" data-dag="{escape(dag_id)}" x="{x + WIDTH // 2}" y="{y + 21}">{escape(dag_id)}</text>'
    if tables:
        height = LINE * len(tables) + 10
        yield f'<rect class="tables" x="{x}" y="{y + HEAD - 4}" width="{WIDTH}" height="{height}" rx="7"/>'
    for line, name in enumerate(tables):
        yield (
            f'<text class="table" data-maker="{escape(dag_id)}" x="{x + 14}" y="{y + HEAD + 16 + line * LINE}">'
            f"{escape(name)}</text>"
        )


def _arrow(maker: str, dag_id: str, tables: list[str], places: Mapping[str, tuple[int, int]], number: int) -> str:
    """From the right of the DAG that makes the table to the left of the one that waits."""
    (left, top), (x, y) = places[maker], places[dag_id]
    start_x, start_y, end_y = left + WIDTH, top + (HEAD - 8) // 2, y + 8 + 8 * (number % 3)
    bend = start_x + GAP // 2
    return (
        f'<path class="line" data-from="{escape(maker)}" data-to="{escape(dag_id)}" '
        f'd="M{start_x} {start_y}C{bend} {start_y} {x - GAP // 2} {end_y} {x - 2} {end_y}">'
        f"<title>{escape(dag_id)} waits for {escape(', '.join(tables))} of {escape(maker)}</title></path>"
    )
