"""The pages in docs/reference/ that `make docs` writes from the DAG files, the audit's rules and the Makefile.

A page may be what the generator writes, and wrong: so its facts are compared with what Airflow has parsed, with what
audits have recorded, and with what `make help` prints.
"""

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from include.local.dbt_sources import SOURCES, describe_sources
from include.local.docs import describe, describe_commands, describe_rules, describe_tables
from include.nyc_taxi import catalogue, warehouse
from include.nyc_taxi.months import Month
from include.nyc_taxi.trips.load import load_month
from include.tlc_simulator.trips import write_month
from tests.conftest import ROOT
from tests.dags.test_structure import DAG_IDS

REFERENCE = ROOT / "docs" / "reference"


def tables(page: str) -> Iterator[list[dict[str, str]]]:
    """The tables of a Markdown page; each row is its cells by the column's title, as the page has them."""
    for head, lines in re.findall(r"^(\|.*\|)\n\|[-|]+\|\n((?:\|.*\|\n?)*)", page, re.MULTILINE):
        titles, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in (head, *lines.splitlines()))
        yield [dict(zip(titles, cells, strict=True)) for cells in rows]


def names(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


class TestDags:
    """dags.md and the DAGs as Airflow parses them."""

    page = (REFERENCE / "dags.md").read_text()

    def test_the_page_is_as_the_dag_files_are(self) -> None:
        assert self.page == describe(ROOT), "docs/reference/dags.md is stale: run `make docs`"

    def test_its_first_table_has_every_dag_with_its_description(self, dag_bag: Any) -> None:
        listed = {names(row["DAG"])[0]: row["what it does"] for row in next(tables(self.page))}
        assert list(listed) == DAG_IDS
        assert listed == {dag_id: dag.description for dag_id, dag in dag_bag.dags.items()}

    @pytest.mark.parametrize("dag_id", DAG_IDS)
    def test_it_has_every_task_with_its_pool_its_order_and_its_assets(self, dag_bag: Any, dag_id: str) -> None:
        (section,) = [
            part
            for part in re.split(r"^\*\*Tasks\*\* of ", self.page, flags=re.MULTILINE)[1:]
            if dag_id in names(part.partition(":")[0])
        ]
        described = {names(row["task"])[0]: row for row in next(tables(section))}
        dag = dag_bag.dags[dag_id]
        assert sorted(described) == sorted(dag.task_ids)
        first = names(section)[0]  # of DAGs that share a manual, the page shows the assets of the first
        for task_id, row in described.items():
            task = dag.get_task(task_id)
            assert row["pool"] == task.pool
            assert row["operator"].partition(",")[0] == task.task_type
            assert set(names(row["after"])) == task.upstream_task_ids
            if dag_id == first:
                for column, found in (("reads", task.inlets), ("makes", task.outlets)):
                    assert len(names(row[column])) == len(found), f"{task_id} {column}"
                    for name, asset in zip(names(row[column]), found, strict=True):
                        assert asset.uri.replace("/", "_").endswith(f"_{name}")


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A warehouse with a month of each fleet."""
    folder = tmp_path_factory.mktemp("audited")
    with duckdb.connect(str(folder / "warehouse.duckdb")) as con:
        warehouse.ensure_tables(con)
        for fleet in catalogue.FLEETS:
            write_month(folder / catalogue.file_name(fleet, "2023-01"), fleet, "2023-01", rows=5000)
            load_month(con, fleet, Month("2023-01"), folder / catalogue.file_name(fleet, "2023-01"), "run 1")
        yield con


class TestRules:
    """quality.md and what audits record in the warehouse."""

    page = (REFERENCE / "quality.md").read_text()

    def about(self, what: str) -> dict[str, dict[str, str]]:
        """The rows of the table under a heading, by rule."""
        _, _, section = self.page.partition(f"## Rules about {what}\n")
        return {names(row["rule"])[0]: row for row in next(tables(section))}

    def test_the_page_is_as_the_rules_are(self) -> None:
        assert self.page == describe_rules(), "docs/reference/quality.md is stale: run `make docs`"

    def test_it_has_the_rules_that_audits_apply_with_their_severities_and_limits(
        self, audited: duckdb.DuckDBPyConnection
    ) -> None:
        recorded = audited.execute("SELECT DISTINCT rule, severity, at_most FROM quality_checks").fetchall()
        months = [(rule, row["severity"], float(row["limit"])) for rule, row in self.about("a month").items()]
        trips = [
            (rule, "warn", pytest.approx(float(row["limit"].removesuffix(" %")) / 100))
            for rule, row in self.about("trips").items()
        ]
        assert sorted(months + trips, key=lambda rule: rule[0]) == sorted(recorded)

    def test_a_trip_is_clean_unless_it_breaks_a_rule_that_says_no(self, audited: duckdb.DuckDBPyConnection) -> None:
        is_clean = {rule: row["clean"] == "yes" for rule, row in self.about("trips").items()}
        found = audited.execute("SELECT DISTINCT flags, is_clean FROM trips_flagged").fetchall()
        assert {clean for flags, clean in found if flags} == {True, False}
        assert found == [(flags, all(is_clean[flag] for flag in flags)) for flags, _ in found]


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
    assert expanded(ROOT / "dags" / "marts_of_reloaded_months.py") == {"start"}


class TestCommands:
    """commands.md and what `make help` prints."""

    page = (REFERENCE / "commands.md").read_text()

    def test_the_page_is_as_the_makefile_is(self) -> None:
        assert self.page == describe_commands(ROOT), "docs/reference/commands.md is stale: run `make docs`"

    def test_it_has_the_groups_and_the_lines_of_make_help(self) -> None:
        printed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        commands = re.findall(r"^  (make [a-z-]+) +(.+)$", printed, re.MULTILINE)
        assert len(commands) > 15
        rows = [row for table in tables(self.page) for row in table]
        assert [(names(row["command"])[0], row["what it does"]) for row in rows] == commands
        titles = re.findall(r"^([A-Z].*)\n  make ", printed, re.MULTILINE)
        assert re.findall(r"^## (.+)$", self.page, re.MULTILINE) == titles


def test_a_dag_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "broken.py").write_text("from airflow import DAG, nonsense\n")
    with pytest.raises(ValueError, match=r"(?s)broken\.py: .*nonsense"):
        describe(tmp_path)


class TestTables:
    """tables.md and the warehouse as a load leaves it."""

    page = (REFERENCE / "tables.md").read_text()

    def test_the_page_is_as_the_registry_is(self) -> None:
        assert self.page == describe_tables(), "docs/reference/tables.md is stale: run `make docs`"

    def test_it_has_every_table_and_view_with_every_column(self, tmp_path: Path) -> None:
        path = tmp_path / catalogue.file_name("green", "2023-02")
        write_month(path, "green", "2023-02", rows=20)
        with duckdb.connect() as con:
            load_month(con, "green", Month("2023-02"), path, "run 1")
            made = con.execute(
                "SELECT table_name, list(column_name ORDER BY column_index) FROM duckdb_columns() "
                "WHERE NOT internal AND database_name = current_database() GROUP BY ALL"
            )
            found = dict(made.fetchall())
        listed = {names(row["table"])[0]: row["columns"] for row in next(tables(self.page))}
        assert listed.keys() == found.keys()
        for table, columns in found.items():
            assert set(columns) <= set(names(listed[table])), table


class TestSources:
    """The dbt project's sources.yml, and the DAGs that it names."""

    text = (ROOT / SOURCES).read_text()

    def test_it_is_as_the_registry_and_the_catalogue_are(self) -> None:
        assert self.text == describe_sources(), f"{SOURCES} is stale: run `make docs`"

    def test_what_makes_a_table_is_a_task_of_a_dag_that_says_so(self, dag_bag: Any) -> None:
        configs = [json.loads(line) for line in re.findall(r"^        config: (.+)$", self.text, re.MULTILINE)]
        makers = [config["meta"]["made_by"] for config in configs]
        assert len(makers) > 10
        for made_by in makers:
            for fleet in catalogue.FLEETS:
                task = dag_bag.dags[made_by["dag"].format(fleet=fleet)].get_task(made_by["task"])
                assert task.outlets, f"{made_by}: the task makes nothing"
