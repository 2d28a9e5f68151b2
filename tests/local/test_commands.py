"""The Makefile's commands as it calls them: each in a process of its own, which has to find all that it imports."""

import json
import os
import subprocess
import sys

import duckdb
import pytest

from include.local.__main__ import main
from include.nyc_taxi import warehouse
from tests.conftest import ROOT


@pytest.fixture
def run(data_dir):
    """Run a command; returns its exit status and all that it printed."""

    def run(*arguments: str, **connections: dict) -> tuple[int, str]:
        variables = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(uri) for name, uri in connections.items()}
        done = subprocess.run(
            [sys.executable, "-m", "include.local", *arguments],
            cwd=ROOT,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.fixture
def lake(tmp_path):
    """The connection to a lake whose catalog is a file."""
    return {
        "conn_type": "duckdb",
        "host": f"ducklake:{tmp_path}/catalog.ducklake",
        "extra": {"data_path": f"{tmp_path}/lake/"},
    }


def test_compact(run, data_dir):
    status, output = run("compact")
    assert status == 0, output
    assert f"There is no warehouse in a file at {data_dir}/warehouse.duckdb: nothing to do." in output


def test_compact_of_a_lake(run, lake):
    status, output = run("compact", warehouse=lake)
    assert status == 0, output
    assert "0 files merged or rewritten" in output


class TestMigrate:
    @pytest.mark.slow
    def test_into_a_lake_and_back(self, run, lake, data_dir, tmp_path):
        data_dir.mkdir()
        with duckdb.connect(str(data_dir / "warehouse.duckdb")) as con:
            warehouse.ensure_tables(con)
            con.execute("INSERT INTO trips_by_zone VALUES ('green', '2023-01-01', 1, 7)")
        status, output = run("migrate", "--to", "a_lake", a_lake=lake)
        assert status == 0, output
        assert "trips_by_zone: 1 rows" in output
        assert "1 rows, the same on both sides" in output

        back = tmp_path / "back.duckdb"
        status, output = run("migrate", "--to", "back", warehouse=lake, back={"conn_type": "duckdb", "host": str(back)})
        assert status == 0, output
        with duckdb.connect(str(back)) as con:
            assert con.execute("SELECT zone_id, num_trips FROM trips_by_zone").fetchall() == [(1, 7)]

    @pytest.mark.parametrize(
        ("to", "status", "sentence"),
        [
            ("", 2, "expected TO=<connection>, found nothing"),
            ("nowhere", 2, "there is no connection 'nowhere'"),
            ("warehouse", 1, "expected a DuckDB file and a lake, found two DuckDB files"),
        ],
    )
    def test_a_slip_is_one_sentence(self, capsys, to, status, sentence):
        assert main(["migrate", "--to", to]) == status
        (line,) = capsys.readouterr().err.splitlines()
        assert sentence in line
