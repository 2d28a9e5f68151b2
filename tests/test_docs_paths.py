"""The documentation shows what is there: it names existing paths, quotes true messages, and pictures the true rooms."""

import ast
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.conftest import ROOT
from tests.test_docs_links import NAMING, PAGES, code
from tests.test_rooms import imported

TOPS = ("include", "dags", "plugins", "tests", "kubernetes", "docs")
IN_BACKTICKS = re.compile(rf"(?:{'|'.join(TOPS)})/[\w./-]*")
A_FILE = re.compile(rf"(?<![\w/.-])(?:{'|'.join(TOPS)})/[\w/-]+\.(?:py|sql|md|json|yaml|svg|png)\b")
EXAMPLES = {
    *("include/nyc_taxi/reports/airports.py", "dags/airport_trips.py", "dags/busiest_day.py"),
    *("dags/theirs.py", "plugins/theirs.py"),
    "include/dbt/models/marts/trips_by_passengers.sql",
    "include/dbt/tests/cash_is_not_paid_more_often_than_trips_are_made.sql",
}
"""Files that readers of how-to guides write, and files that a test writes into another project."""

PICTURE = ROOT / "docs" / "images" / "architecture.svg"
OUTER = {"dags", "plugins", "include/local", "include/orchestration", "include/tlc_simulator"}
PACKAGE = ROOT / "include" / "nyc_taxi"
INNER = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").exists()}


def missing_paths(text: str) -> set[str]:
    """The paths in the code of a Markdown page that do not exist."""
    named = {part for part in code(text) if IN_BACKTICKS.fullmatch(part)} | {*A_FILE.findall(text)}
    return {path for path in named - EXAMPLES if not (ROOT / path).exists()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_paths_that_exist(page: Path) -> None:
    assert missing_paths(page.read_text()) == set()


def test_code_and_configuration_name_files_that_exist() -> None:
    texts = {path: path.read_text() for path in NAMING if path.suffix in (".py", ".sql", ".yaml", "", ".example")}
    named = {(path, name) for path, text in texts.items() if path != Path(__file__) for name in A_FILE.findall(text)}
    assert "include/nyc_taxi/catalogue/fleets.py" in {name for _, name in named}
    gone = {f"{path.relative_to(ROOT)}: {name}" for path, name in named if not (ROOT / name).exists()}
    assert {entry for entry in gone if entry.partition(": ")[2] not in EXAMPLES} == set()


def test_a_missing_path_is_found() -> None:
    text = "`include/nyc_taxi/quality.py`, `include/local/`, tests/none.py\n```\npython dags/no_such_dag.py\n```\n"
    assert missing_paths(text) == {"include/nyc_taxi/quality.py", "tests/none.py", "dags/no_such_dag.py"}


def test_the_page_on_troubleshooting_quotes_messages_of_the_code() -> None:
    page = (ROOT / "docs" / "how-to" / "troubleshooting.md").read_text()
    symptoms = re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE)
    messages = [message for symptom in symptoms for message in re.findall(r"`([^`]+)`", symptom) if " " in message]
    pieces = [
        piece.strip()
        for message in messages
        if not message.startswith("No module named")  # Python's own
        for piece in re.split(r"…|\(pid|20\d\d-\d\d| = \d:\d\d:\d\d", message)
        if " " in piece.strip()
    ]
    assert len(pieces) > 5
    said = "\n".join([(ROOT / "Makefile").read_text(), *texts_of_code()])
    assert [piece for piece in pieces if piece not in said] == []


class TestThePictureOfTheRooms:
    def test_shows_the_rooms_that_exist(self) -> None:
        folders = {re.sub(r"/$", "", text) for text in texts() if re.fullmatch(r"[a-z_/]+/", text)}
        folders = {name for name in folders if not name.startswith("data/")}
        packages = {f"include/{path.parent.name}" for path in ROOT.glob("include/*/__init__.py")}
        assert folders == OUTER | INNER
        assert packages == {name for name in OUTER if "/" in name} | {"include/nyc_taxi"}

    def test_names_modules_beside_the_rooms_that_exist(self) -> None:
        (listed,) = (text.removesuffix(", …") for text in texts() if text.endswith(", …"))
        assert [name for name in listed.split(", ") if not (PACKAGE / f"{name}.py").exists()] == []

    def test_shows_each_import_between_rooms_and_no_other(self) -> None:
        arrows = {(path.get("data-from"), path.get("data-to")) for path in picture().iter() if path.get("data-from")}
        found = imports(OUTER) | imports({f"include/nyc_taxi/{room}" for room in INNER - {"catalogue"}})
        assert {(a, b) for a, b in found if {a, b} <= OUTER or {a, b} <= INNER - {"catalogue"}} == arrows


def texts_of_code() -> list[str]:
    """All strings in the code; of f-strings, the constant parts."""
    files = [file for top in ("include", "dags", "plugins") for file in (ROOT / top).rglob("*.py")]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def picture() -> ElementTree.Element:
    return ElementTree.parse(PICTURE).getroot()


def texts() -> list[str]:
    return ["".join(element.itertext()) for element in picture().iter() if element.tag.endswith("}text")]


def imports(folders: set[str]) -> set[tuple[str, str]]:
    """Pairs of rooms of which the first imports the second."""
    return {
        (source, target)
        for folder in folders
        for file in sorted((ROOT / folder).rglob("*.py"))
        for module in imported(file)
        for source, target in [(folder.removeprefix("include/nyc_taxi/"), room_of(module))]
        if target and target != source
    }


def room_of(module: str) -> str | None:
    """The room that a module is in; None for a module that is in no room or not ours."""
    top, *rest = module.split(".")
    if (ROOT / "plugins" / f"{top}.py").exists():
        return "plugins"
    if top != "include" or not rest:
        return None
    if rest[0] != "nyc_taxi":
        return f"include/{rest[0]}"
    return rest[1] if len(rest) > 1 and rest[1] in INNER else None
