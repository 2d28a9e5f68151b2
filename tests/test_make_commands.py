"""What messages, manuals and docs tell a reader to type after `make` is in `make help`, and its variables exist."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.orchestration import status
from tests.conftest import ROOT
from tests.test_docs_links import PAGES, TARGET, code

CODE = sorted(path for folder in ("include", "dags", "plugins") for path in (ROOT / folder).rglob("*.py"))
CONFIGURATION = [ROOT / "docker-compose.yaml", ROOT / "kubernetes/values.yaml", ROOT / "Dockerfile"]
VARIABLES = r"(?: [A-Z][A-Z_]*=(?:\"[^\"]*\"|[^\s`\"']*))*"
COMMAND = re.compile(rf"(^|\W)make({VARIABLES}) ([a-z][a-z-]*)({VARIABLES})", re.MULTILINE)
VARIABLE = re.compile(r"^([A-Z_]+) [?:]?=|\$\(([A-Z_]+)\)|ifdef ([A-Z_]+)|origin ([A-Z_]+)", re.MULTILINE)
NAME = re.compile(r"([A-Z][A-Z_]*)=")


def makefile() -> str:
    return (ROOT / "Makefile").read_text()


def all_targets() -> set[str]:
    return set(TARGET.findall(makefile())) | set(re.findall(r"^\.PHONY: (.+)$", makefile(), re.MULTILINE)[0].split())


def helped() -> set[str]:
    """The targets that `make help` names."""
    text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = re.findall(r"^ *make ((?:[a-z-]+ \| )*[a-z-]+)", text, re.MULTILINE)
    return {target for line in lines for target in line.split(" | ")}


def groups() -> dict[str, list[str]]:
    """The targets of `make help` by the group that they are in."""
    text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    parts = re.findall(r"^([A-Z][a-z]+[^\n]*)\n((?:  make [^\n]+\n)+)", text, re.MULTILINE)
    return {title.partition(" (")[0]: re.findall(r"^  make ([a-z-]+) ", lines, re.MULTILINE) for title, lines in parts}


def known_variables() -> set[str]:
    """Variables that the Makefile sets or reads."""
    found = VARIABLE.findall(makefile())
    return {name for names in found for name in names if name}


def texts(path: Path) -> Iterator[str]:
    """A file's texts that a reader may see: a page's code, a program's strings, anything else as a whole."""
    if path.suffix == ".md":
        yield from code(path.read_text())
    elif path.suffix == ".py":
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):  # what is put in has no name here
                parts = (str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
                yield "".join(parts)
    else:
        yield path.read_text()


def commands(text: str) -> Iterator[tuple[str, set[str]]]:
    """The targets that the text names after `make`, each with its variables.

    "make" is an English word too: without a backtick before it, it counts only with a target that the Makefile has, or
    with a variable.
    """
    for before, first, target, then in COMMAND.findall(text):
        variables = set(NAME.findall(first + then))
        if before == "`" or variables or target in all_targets():
            yield target, variables


def wrong(path: Path) -> list[str]:
    return [
        f"{path.name}: make {target} {' '.join(sorted(variables))}".rstrip()
        for text in texts(path)
        for target, variables in commands(text)
        if target not in helped_targets or variables - variables_known
    ]


helped_targets, variables_known = helped(), known_variables()


def test_help_names_what_there_is() -> None:
    assert {"demo", "backfill", "status", "standalone", "test", "lint", "bench", "pool"} <= helped_targets
    assert helped_targets <= all_targets()
    assert {"FLEET", "FROM", "TO", "DEMO", "AIRFLOW", "ARGS", "SCALE", "REPROCESS"} <= variables_known


def test_help_has_every_target_in_exactly_one_group() -> None:
    assert list(groups()) == ["Start", "Work with months", "Look", "Marts for analysts", "Maintain", "Develop"]
    for_users = all_targets() - {"unmoved", "run-demo", "demo-marts"}  # these only serve others
    assert sorted(target for targets in groups().values() for target in targets) == sorted(for_users)


@pytest.mark.parametrize("path", [*PAGES, *CODE, *CONFIGURATION], ids=lambda path: str(path.relative_to(ROOT)))
def test_whoever_is_told_to_type_a_command_finds_it_in_make_help(path: Path) -> None:
    assert wrong(path) == []


def test_the_makefile_itself_names_no_other() -> None:
    comments = [line for line in makefile().splitlines() if line.startswith("#")]
    assert [found for line in comments for found in commands(line) if found[0] not in helped_targets] == []


@pytest.mark.parametrize("demo", ["", "1"])
@pytest.mark.parametrize("is_airflow_3", [True, False])
def test_the_command_that_make_status_recommends_is_one_of_them(
    demo: str, is_airflow_3: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMO", demo)
    monkeypatch.setattr(status, "IS_AIRFLOW_3", is_airflow_3)
    found = list(commands(f"`{status.loading_command()} FLEET=green FROM=2023-01 TO=2023-02`"))
    line = set() if is_airflow_3 else {"AIRFLOW"}
    assert found == [("demo" if demo else "backfill", {"FLEET", "FROM", "TO", *line})]
    assert found[0][0] in helped_targets
    assert found[0][1] <= variables_known


def test_commands_are_found_and_wrong_ones_told(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        '"""Run `make no-target`; make sure of it, then make run-demo again."""\n'
        'print("make status", f"`make backfill FLEET={fleet} NONE=1`")\n'
        'print("let us make a chart", "make nothing FROM=2023-01")\n'
    )
    assert wrong(program) == [
        "program.py: make no-target",
        "program.py: make run-demo",
        "program.py: make backfill FLEET NONE",
        "program.py: make nothing FROM",
    ]


def demo_of(given: list[str], state: Path) -> str:
    """What `make demo` would run."""
    (state / ".ready").touch()  # nothing is to be set up
    command = ["make", "-n", "demo", f"STATE={state}", *given]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout


def test_make_demo_needs_dbt_only_if_it_is_asked_for_marts(tmp_path: Path) -> None:
    assert "local dbt" not in demo_of([], tmp_path)
    with_marts = demo_of(["DBT=1"], tmp_path)
    steps = re.findall(r"-m include\.local (demo|dbt-docs|dbt -- --quiet build)", with_marts)
    assert steps == ["demo", "dbt -- --quiet build", "dbt-docs"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], ("yellow", "2023-01", "2023-03")),
        (["FROM=2022-11"], ("yellow", "2022-11", "2022-11")),
        (["FLEET=green", "FROM=2022-11", "TO=2022-12"], ("green", "2022-11", "2022-12")),
        (["TO=2023-02"], ("yellow", "2023-01", "2023-02")),
    ],
)
def test_make_demo_runs_the_first_quarter_or_what_it_is_asked_for(
    given: list[str], expected: tuple[str, ...], tmp_path: Path
) -> None:
    said = demo_of(given, tmp_path)
    (found,) = re.findall(r'local demo --fleet "(.*?)" --from "(.*?)" --to "(.*?)"', said)
    assert found == expected
