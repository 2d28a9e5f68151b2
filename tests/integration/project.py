"""The commands a user types, run for real: own Airflow home, own data directory, own TLC."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from include.orchestration.compat import IS_AIRFLOW_3
from tests.conftest import ROOT

LINE = "3" if IS_AIRFLOW_3 else "2"
TIMEOUT_SECONDS = 600
MONTHS = {"FROM": "2023-01", "TO": "2023-03"}
"""What `undisturbed` backfills, as variables of make."""


class Project:
    """The project's make targets on a state of their own; `settings` are environment variables for all of them.

    Args:
        set_up: a state that `make setup` has made, to begin with a copy of it; else the first target sets up.
    """

    def __init__(self, folder: Path, tlc_url: str, set_up: Path | None = None, **settings: str) -> None:
        self.state, self.data_dir = folder / "airflow", folder / "data"
        if set_up:
            shutil.copytree(set_up, self.state)
            configuration = self.state / "airflow.cfg"
            configuration.write_text(configuration.read_text().replace(str(set_up), str(self.state)))
            (self.state / ".ready").touch()  # not older than what is installed
        self._environment = {
            # This test runs inside `make test`, whose variables are not for the make that it tests.
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MAKE", "MFLAGS"))},
            "NYC_TAXI_TLC_URL": tlc_url,
            "NYC_TAXI_DATA_DIR": str(self.data_dir),
            **settings,
        }

    def _make(self, target: str, variables: dict[str, str]) -> list[str]:
        settings = {"AIRFLOW": LINE, "STATE": str(self.state), "VENV": sys.prefix, **variables}
        return ["make", target, *(f"{name}={value}" for name, value in settings.items())]

    def start(self, target: str, **variables: str) -> subprocess.Popen[str]:
        """Start a make target with the interpreter that runs this test; its output is one pipe."""
        return subprocess.Popen(
            self._make(target, variables),
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def shell(self, commands: str, **variables: str) -> str:
        """Run Airflow commands in `make shell`; returns what they printed."""
        done = subprocess.run(
            self._make("shell", variables),
            cwd=ROOT,
            env=self._environment,
            input=f"set -e\n{commands}\n",
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, target: str, **variables: str) -> tuple[int, str]:
        """Run a make target to its end; returns its exit status and what it printed."""
        process = self.start(target, **variables)
        try:
            output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.terminate()  # make passes it on, and what it has started ends
            raise
        return process.returncode, output
