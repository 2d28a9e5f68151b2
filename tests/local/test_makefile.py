"""What `make` refuses at once, before it installs or makes anything."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.integration.project import LINE, Project


def make(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run make; returns its exit status and what it has printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("given", "named"),
    [("fleet=green", "fleet"), ("FLET=green", "FLET"), ("from=2023-01", "from"), ("FLEETS=green", "FLEETS")],
)
def test_a_variable_that_nobody_reads_is_refused(given, named):
    status, output = make(ROOT, "-n", "backfill", given)
    assert status == 2
    assert f"There is no variable {named}: expected one of AIRFLOW PYTHON FLEET FROM TO" in output
    assert "include.local" not in output


def test_variables_that_somebody_reads_are_taken(tmp_path):
    (tmp_path / ".ready").touch()
    given = ["FLEET=green", "FROM=2023-01", "TO=2023-02", "REPROCESS=none", "NYC_TAXI_FLEETS=green", "DEMO=1"]
    status, output = make(ROOT, "-n", "backfill", f"AIRFLOW={LINE}", f"VENV={sys.prefix}", f"STATE={tmp_path}", *given)
    assert status == 0, output
    assert '--fleet "green" --from "2023-01" --to "2023-02" --reprocess "none"' in output


def test_a_line_of_airflow_that_there_is_not_is_refused():
    assert "AIRFLOW: expected 2 or 3, found 1" in make(ROOT, "status", "AIRFLOW=1")[1]


@pytest.mark.parametrize("name", ["a b", "it's", 'a "b"', "$HOME", "a#b", "(a)", "a:b", "a;b"])
def test_a_folder_with_a_name_that_make_cannot_have_is_refused_and_nothing_is_made_elsewhere(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    for file in ("Makefile", "requirements.txt", "requirements-airflow2.txt"):
        shutil.copy(ROOT / file, folder)
    status, output = make(folder, "setup", f"AIRFLOW={LINE}")
    assert status == 2
    assert output.count("\n") == 1
    assert f"has a space or a special character in its path: {folder}. Move it" in output
    assert list(tmp_path.iterdir()) == [folder]
    assert len(list(folder.iterdir())) == 3


class TestMoved:
    """A folder that was set up elsewhere has that place's name in its programs and settings."""

    def test_environment(self, tmp_path):
        program = tmp_path / "venv" / "bin" / "pip"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!{tmp_path}/old/.venv/bin/python3\n")
        status, output = make(ROOT, "status", f"AIRFLOW={LINE}", f"VENV={tmp_path}/venv", f"STATE={tmp_path}/state")
        assert status == 2
        assert f"This folder was set up at another place, as {tmp_path}/old/.venv: move it back, or" in output
        assert [path.name for path in tmp_path.iterdir()] == ["venv"]

    def test_state(self, tmp_path):
        (tmp_path / "airflow.cfg").write_text(f"[logging]\nbase_log_folder = {tmp_path}/old/.airflow/3.3/logs\n")
        status, output = make(ROOT, "status", f"AIRFLOW={LINE}", f"VENV={sys.prefix}", f"STATE={tmp_path}")
        assert status == 2
        assert f"This folder was set up at another place, as {tmp_path}/old/.airflow/3.3: move it back, or" in output
        assert [path.name for path in tmp_path.iterdir()] == ["airflow.cfg"]


@pytest.mark.slow
def test_a_port_in_use_is_said_at_once(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        status, output = Project(tmp_path, "http://127.0.0.1:1").run("standalone", PORT=str(port))
    assert status == 2
    assert f"Port {port} of localhost is in use" in output
    assert "Starting Airflow" not in output
