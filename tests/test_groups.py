"""Tests of one group run in one process: their servers and backfills would else be started once for each process."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = """
import os
import pytest

pytestmark = pytest.mark.xdist_group("one")


@pytest.mark.parametrize("number", range(6))
def test_notes_its_process(number):
    with open("processes", "a") as file:
        print(os.getpid(), file=file)
"""


def test_the_tests_of_a_group_run_in_one_process(tmp_path: Path) -> None:
    for name in ("test_one.py", "test_other.py"):
        (tmp_path / name).write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadgroup"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    subprocess.run([*command, str(tmp_path)], cwd=tmp_path, env=environment, check=True, capture_output=True)
    processes = (tmp_path / "processes").read_text().split()
    assert (len(processes), len(set(processes))) == (12, 1)
