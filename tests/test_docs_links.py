"""What README and docs/ refer to is there: files, headings, make targets, DAGs."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.nyc_taxi import catalogue, settings
from tests.conftest import ROOT
from tests.dags.test_structure import DAG_IDS, PER_FLEET

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("**/*.md"))]
NAMING = [
    *(ROOT / name for name in ("Makefile", "Dockerfile", "docker-compose.yaml", ".env.example")),
    *(path for room in ("include", "dags", "plugins", "tests", "kubernetes") for path in (ROOT / room).rglob("*.*")),
]
"""Where pages are named outside of pages."""

FLEETS = [*catalogue.FLEETS, "<fleet>"]
NAMES = {
    *DAG_IDS,
    *(f"{kind}_{fleet}" for kind in (*PER_FLEET, "taxi_trips_file") for fleet in FLEETS),
    # An asset, and what docs/explanation/from-dagster.md calls by its name in Dagster Essentials.
    *("taxi_zones_file", "taxi_trips_file", "adhoc_request_job"),
}
"""DAGs, and the other things whose names look as if they were DAGs'."""

FENCE = re.compile(r"^ *(```+|~~~+).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)(`+)(?!`)((?:(?!\n\n).)+?)(?<!`)\1(?!`)", re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)\)|\b(?:src|href)=\"([^\"]+)\"")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
MAKE = re.compile(r"(?:^|[`;&|$]) *make(?: [A-Z]+=\S+)* ([a-z][a-z-]*)", re.MULTILINE)
DAG_LIKE = re.compile(
    r"(?<![\w/])(?:taxi_trips_[\w<>]+|trips_by_week_[\w<>]+|trips_marts_[\w<>]+|(?:adhoc_request|warehouse_status|taxi_zones)\w*)"
)
NAMED = re.compile(r"\bdocs/[\w./-]+\.md\b")
TARGET = re.compile(r"^([a-z][a-z-]*)(?: [a-z-]+)*:(?!=)", re.MULTILINE)


def code(text: str) -> Iterator[str]:
    """All code of a page: blocks, and what is in backticks."""
    yield from (found.group() for found in FENCE.finditer(text))
    yield from (found.group(2) for found in SPAN.finditer(FENCE.sub("", text)))


def anchors(text: str) -> set[str]:
    """The page's headings, as links to them are written."""
    headings = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(FENCE.sub("", text)))
    return {heading.strip().replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """Links of the page to files or headings that are not there."""
    text = SPAN.sub("", FENCE.sub("", page.read_text()))
    broken = []
    for link in (markdown or html for markdown, html in LINK.findall(text)):
        path, _, fragment = link.partition("#")
        if re.match(r"[a-z]+:", link):  # the web's
            continue
        target = page.parent / path if path else page
        if not target.exists() or (fragment and fragment not in anchors(target.read_text())):
            broken.append(link)
    return broken


def unknown_targets(page: Path) -> set[str]:
    """Targets that the page names after `make`, and the Makefile has not."""
    return {name for part in code(page.read_text()) for name in MAKE.findall(part)} - make_targets()


def make_targets() -> set[str]:
    return set(TARGET.findall((ROOT / "Makefile").read_text()))


def unknown_dags(page: Path) -> set[str]:
    """Names in the page's code that look like a DAG's, and are nothing's."""
    return {name for part in code(page.read_text()) for name in DAG_LIKE.findall(part)} - NAMES


def test_there_are_pages_and_targets() -> None:
    assert {"README.md", "tutorial.md", "rerun.md", "from-dagster.md"} <= {page.name for page in PAGES}
    assert {"demo", "backfill", "backfill-weeks", "status", "test"} <= make_targets()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
class TestEveryPage:
    def test_links_to_files_and_headings_that_are_there(self, page: Path) -> None:
        assert broken_links(page) == []

    def test_names_make_targets_that_the_makefile_has(self, page: Path) -> None:
        assert unknown_targets(page) == set()

    def test_names_dags_that_there_are(self, page: Path) -> None:
        assert unknown_dags(page) == set(), "a DAG's id, or one of NAMES in this file?"


def named_pages(path: Path) -> set[str]:
    """The pages in docs/ that a file names, from the root of the repository."""
    return set(NAMED.findall(path.read_text())) if path.suffix in (".py", ".sql", ".yaml", "", ".example") else set()


def test_code_and_configuration_name_pages_that_are_there() -> None:
    named = {name: path for path in NAMING for name in named_pages(path)}
    assert {"docs/how-to/compose.md", "docs/how-to/rerun.md"} <= named.keys()
    assert {str(path.relative_to(ROOT)): name for name, path in named.items() if not (ROOT / name).is_file()} == {}


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, todo = set[Path](), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            text = SPAN.sub("", FENCE.sub("", page.read_text()))
            links = (markdown.partition("#")[0] for markdown, _ in LINK.findall(text))
            todo += [(page.parent / link).resolve() for link in links if link and not re.match(r"[a-z]+:", link)]
    assert [str(page.relative_to(ROOT)) for page in PAGES if page not in reached] == []


def test_the_readme_is_read_in_a_minute() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 90


def test_the_page_on_settings_has_each_of_them() -> None:
    page = (ROOT / "docs" / "reference" / "settings.md").read_text()
    for_developers = {"NYC_TAXI_REAL_DATA", "NYC_TAXI_OPENLINEAGE_SPEC", "NYC_TAXI_MACHINE", "NYC_TAXI_BENCH_DAGSTER"}
    assert set(re.findall(r"^\| `(NYC_TAXI_[A-Z_]+)`", page, re.MULTILINE)) == {*settings.KNOWN} - for_developers


def test_what_is_not_there_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A page: `make`, and more\n"
        "[here](page.md), [there](#a-page-make-and-more), [web](https://example.org/none#none)\n"
        '[no file](none.md), [no heading](page.md#none), [nor here](#not-a-heading), <img src="none.png">\n'
        "`[code](is-no-link.md)`, make no-command, `make AIRFLOW=2 test ARGS=x`, `make no-target`\n"
        "`taxi_trips_<fleet>`, `taxi_trips_yellow.load`, `dags/taxi_zones.py`, taxi_zones_no, `taxi_trips_purple`\n"
        "```\n# Not a heading\nmake status; make no-other-target   # x\nairflow dags trigger adhoc_requests\n```\n"
    )
    assert broken_links(page) == ["none.md", "page.md#none", "#not-a-heading", "none.png"]
    assert unknown_targets(page) == {"no-target", "no-other-target"}
    assert unknown_dags(page) == {"taxi_trips_purple", "adhoc_requests"}
