"""The pages in docs/reference/ that `make docs` writes from the DAG files, the audit's rules and the Makefile."""

import ast
import re
from pathlib import Path

import pytest

from include.local.docs import describe, describe_commands, describe_rules
from include.nyc_taxi.audit import rules
from tests.conftest import ROOT
from tests.dags.test_structure import DAG_IDS

REFERENCE = ROOT / "docs" / "reference"


def test_the_page_is_as_the_dag_files_are() -> None:
    assert (REFERENCE / "dags.md").read_text() == describe(ROOT), "docs/reference/dags.md is stale: run `make docs`"


def test_the_page_on_quality_is_as_the_rules_are() -> None:
    page = (REFERENCE / "quality.md").read_text()
    assert page == describe_rules(), "docs/reference/quality.md is stale: run `make docs`"
    assert [x.name for x in (*rules.TRIP_RULES, *rules.MONTH_RULES) if f"`{x.name}`" not in page] == []


def test_the_page_names_every_dag() -> None:
    page = (REFERENCE / "dags.md").read_text()
    assert [dag_id for dag_id in DAG_IDS if f"| `{dag_id}` |" not in page] == []


def expanded(dag_file: Path) -> set[str]:
    """Return the names of the tasks and groups in a DAG file on which `expand` or `expand_kwargs` is called."""
    calls = [node for node in ast.walk(ast.parse(dag_file.read_text())) if isinstance(node, ast.Call)]
    mapped = [
        call.func.value
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("expand", "expand_kwargs")
    ]
    groups = {value.id for value in mapped if isinstance(value, ast.Name)}
    keywords = [keyword for value in mapped if isinstance(value, ast.Call) for keyword in value.keywords]
    return groups | {ast.literal_eval(keyword.value) for keyword in keywords if keyword.arg == "task_id"}


@pytest.mark.parametrize("dag_file", sorted((ROOT / "dags").glob("*.py")), ids=lambda path: path.stem)
def test_the_page_calls_exactly_those_tasks_mapped_that_the_dag_file_expands(dag_file: Path) -> None:
    page = (REFERENCE / "dags.md").read_text()
    (section,) = re.findall(
        rf"^\*\*Tasks\*\* of `{dag_file.stem}(?:_fhv)?`.*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL
    )
    rows = re.findall(r"^\| `([\w.]+)` \| \w+(, mapped)? \|", section, re.MULTILINE)
    assert rows
    names = expanded(dag_file)
    assert {name for name, is_mapped in rows if is_mapped} == {name for name, _ in rows if name.split(".")[0] in names}


def test_there_are_mapped_tasks_to_be_told_from_others() -> None:
    assert expanded(ROOT / "dags" / "adhoc_request_sensor.py") == {"report", "request"}
    assert expanded(ROOT / "dags" / "taxi_trips_editions.py") == {"start"}


def test_the_page_on_the_commands_is_as_the_makefile_is() -> None:
    page = (REFERENCE / "commands.md").read_text()
    assert page == describe_commands(ROOT), "docs/reference/commands.md is stale: run `make docs`"


def test_the_page_on_the_commands_has_every_line_of_make_help() -> None:
    page = (REFERENCE / "commands.md").read_text()
    helped = re.findall(r"^#   make ([a-z-]+) ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert len(helped) > 15
    assert re.findall(r"^\| `make ([a-z-]+)` \| [^|]+ \|$", page, re.MULTILINE) == helped
    assert len(re.findall(r"^## ", page, re.MULTILINE)) == 5


def test_a_dag_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "broken.py").write_text("from airflow import DAG, nonsense\n")
    with pytest.raises(ValueError, match=r"(?s)broken\.py: .*nonsense"):
        describe(tmp_path)
