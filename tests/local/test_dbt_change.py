"""The page "Add a column, add a table, add a test": its steps, exactly as written there, on a copy of the project."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
from airflow.providers.common.compat.sdk import DAG

from include.orchestration.compat import IS_AIRFLOW_3
from tests.conftest import AIRFLOW_HOME, ROOT
from tests.local.marts import load_files, make_warehouse, simulated
from tests.with_dbt import needs_dbt

PAGE = ROOT / "docs" / "how-to" / "change-marts.md"
STEP = re.compile(r"((?:[^\n]+\n)+)\n```(\w*)\n(.*?)```", re.DOTALL)
BELOW = re.compile(r"[Ii]n\s`(?P<file>[^`]+)`,\sbelow\sthe\s+line\s`(?P<line>[^`]+)`,\sadd:$")
CREATE = re.compile(r"[Cc]reate\s`(?P<file>[^`]+)`:$")


@dataclass(frozen=True)
class Step:
    """What the page tells its reader to do.

    Attributes:
        heading: of the part of the page.
        text: the paragraph before the code.
        kind: the code's language; empty for commands.
    """

    heading: str
    text: str
    kind: str
    code: str


def steps() -> Iterator[Step]:
    for part in re.split(r"^#+ ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        for text, kind, code in STEP.findall(body):
            yield Step(heading, " ".join(text.split()), kind, code)


def edit(project: Path, step: Step) -> None:
    """Write what the page has a reader write into a file."""
    if found := BELOW.search(step.text):
        file = project / found["file"]
        lines = file.read_text().splitlines(keepends=True)
        places = [number for number, line in enumerate(lines) if line.strip() == found["line"]]
        assert places, f"{found['file']} has no line {found['line']}"
        lines.insert(places[0] + 1, step.code)
        file.write_text("".join(lines))
    else:
        found = CREATE.search(step.text)
        assert found, f"expected a paragraph that says what to create, or below which line to add, found: {step.text}"
        file = project / found["file"]
        assert not file.exists()
        file.write_text(step.code)


class Reader:
    """Somebody who follows the page in a checkout of their own, after `make demo`."""

    def __init__(self, project: Path) -> None:
        self.project, self.warehouse = project, project / "data" / "demo" / "warehouse.duckdb"
        self.said: dict[str, str] = {}

    def follow(self, heading: str) -> None:
        for step in [step for step in steps() if step.heading == heading]:
            if step.kind:
                edit(self.project, step)
                continue
            for command in step.code.splitlines():
                done = subprocess.run(
                    command,
                    shell=True,
                    cwd=self.project,
                    env={**os.environ, "AIRFLOW": "3" if IS_AIRFLOW_3 else "2"},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
                self.said[command] = done.stdout

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.warehouse)) as con:
            return con.execute(sql).fetchall()

    def built_at(self, mart: str = "daily_trips") -> dict[tuple[str, str], Any]:
        sql = (
            f"SELECT fleet, strftime(partition_month, '%Y-%m'), built_at FROM marts.built_months WHERE mart = '{mart}'"
        )
        return {(fleet, month): at for fleet, month, at in self.query(sql)}


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metadata_database: None) -> Reader:
    """A checkout with the environments of this one, and with Airflow's metadata database of the tests."""
    project = tmp_path / "nyc-taxi"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/")):
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, project / name)
    for name in (".venv", ".venv-airflow2", ".venv-dbt"):
        if (ROOT / name).exists():
            (project / name).symlink_to((ROOT / name).resolve())
    home = project / ".airflow" / ("3.3-demo" if IS_AIRFLOW_3 else "2.11-demo")
    for state in (home, home.with_name(home.name.removesuffix("-demo"))):
        state.mkdir(parents=True)
        (state / ".ready").touch()
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"sqlite:///{AIRFLOW_HOME}/airflow.db")
    monkeypatch.delenv("NYC_TAXI_DATA_DIR")
    reader = Reader(project)
    make_warehouse(reader.warehouse)
    return reader


def test_the_page_has_steps_of_all_three_kinds() -> None:
    found = list(steps())
    assert {step.heading for step in found} >= {"Add a column", "Add a table", "Add a test"}
    assert sum(bool(step.kind) for step in found) == 5
    assert sum(not step.kind for step in found) == 5


@pytest.mark.slow
@needs_dbt
@pytest.mark.skipif(not IS_AIRFLOW_3, reason="dbt is the same program on both lines")
def test_the_steps_do_what_the_page_says(reader: Reader, tmp_path: Path) -> None:
    reader.follow("Add a column, add a table, add a test")
    before = reader.built_at()
    assert len(before) == 5

    reader.follow("Add a column")
    (first, second) = [said for command, said in reader.said.items() if "build --select daily_trips" in command]
    assert "daily_trips: all months are built already" in first
    assert "2023-02" in second
    after = reader.built_at()
    assert {month for month in after if after[month] != before[month]} == {
        ("green", "2023-02")
    }  # nothing else is rebuilt
    with duckdb.connect(str(reader.warehouse)) as con:
        load_files(con, simulated(tmp_path, [("green", "2023-03")], rows=500))

    reader.follow("Add a table")
    assert {month for _, month in reader.built_at("trips_by_passengers")} == {
        "2020-04",
        "2023-01",
        "2023-02",
        "2023-03",
    }
    assert tasks_of(reader.project) - tasks_of(ROOT) == {"trips_by_passengers"}
    docs = (reader.project / "data/demo/dbt/index.html").read_text()
    assert "One row is a fleet, month of the file and number of passengers." in docs
    manifest = json.loads((reader.project / "include/dbt/manifest.json").read_text())
    assert "model.nyc_taxi.trips_by_passengers" in manifest["child_map"]["model.nyc_taxi.stg_trips"]

    reader.follow("Add a test")
    (tested,) = [said for command, said in reader.said.items() if "test --select daily_trips" in command]
    assert "PASS cash_is_not_paid_more_often_than_trips_are_made" in tested

    lines = subprocess.run(
        [".venv-dbt/bin/sqlfluff", "lint", "include/dbt"],
        cwd=reader.project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert lines.returncode == 0, lines.stdout

    # A month that is loaded later has the column, and old months are as they were.
    made = subprocess.run(
        ["make", "dbt", "DEMO=1", "ARGS=run --select daily_trips"], cwd=reader.project, capture_output=True, check=False
    )
    assert made.returncode == 0
    cash = (
        "SELECT DISTINCT strftime(partition_month, '%Y-%m'), count(cash_trips) > 0 FROM marts.daily_trips GROUP BY ALL"
    )
    assert sorted(reader.query(cash)) == [
        ("2020-04", False),
        ("2023-01", False),
        ("2023-02", True),
        ("2023-03", True),
    ]
    assert {month: at for month, at in reader.built_at().items() if month in after} == after


def tasks_of(project: Path) -> set[str]:
    """The models of which cosmos makes tasks from the project's manifest, as Airflow does."""
    from cosmos import DbtTaskGroup, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig
    from cosmos.constants import LoadMode, TestBehavior

    dbt = project / "include" / "dbt"
    with DAG("marts", schedule=None) as dag:
        DbtTaskGroup(
            project_config=ProjectConfig(
                dbt_project_path=dbt, manifest_path=dbt / "manifest.json", project_name="nyc_taxi"
            ),
            profile_config=ProfileConfig("nyc_taxi", "lint", profiles_yml_filepath=dbt / "lint" / "profiles.yml"),
            execution_config=ExecutionConfig(dbt_executable_path=str(project / ".venv-dbt" / "bin" / "dbt")),
            render_config=RenderConfig(
                load_method=LoadMode.DBT_MANIFEST,
                select=["path:models/marts"],
                test_behavior=TestBehavior.NONE,
                emit_datasets=False,
            ),
            operator_args={"install_deps": False},
        )
    return {
        task_id.split(".")[-1].removesuffix("_run") if not task_id.endswith(".run") else task_id.split(".")[-2]
        for task_id in dag.task_ids
    }
