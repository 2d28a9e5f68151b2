"""docs/dags.md and docs/quality.md, which `make docs` makes from the DAG files and the rules."""

from pathlib import Path

import pytest

from include.nyc_taxi import quality
from include.orchestration.local.docs import describe, describe_rules
from tests.conftest import ROOT
from tests.dags.test_structure import DAG_IDS


def test_the_page_is_as_the_dag_files_are() -> None:
    assert (ROOT / "docs" / "dags.md").read_text() == describe(ROOT), "docs/dags.md is stale: run `make docs`"


def test_the_page_on_quality_is_as_the_rules_are() -> None:
    page = (ROOT / "docs" / "quality.md").read_text()
    assert page == describe_rules(), "docs/quality.md is stale: run `make docs`"
    assert [x.name for x in (*quality.TRIP_RULES, *quality.MONTH_RULES) if f"`{x.name}`" not in page] == []


def test_the_page_names_every_dag() -> None:
    page = (ROOT / "docs" / "dags.md").read_text()
    assert [dag_id for dag_id in DAG_IDS if f"| `{dag_id}` |" not in page] == []


def test_a_dag_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "broken.py").write_text("from airflow import DAG, nonsense\n")
    with pytest.raises(ValueError, match=r"(?s)broken\.py: .*nonsense"):
        describe(tmp_path)
