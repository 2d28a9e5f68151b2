"""The commands a user types, run for real: own Airflow home, own data directory, own TLC."""

import os
import subprocess
import sys
from pathlib import Path

from include.orchestration.airflow_line import IS_AIRFLOW_3
from tests.conftest import ROOT

LINE = "3" if IS_AIRFLOW_3 else "2"
TIMEOUT_SECONDS = 600


class Project:
    """The project's make targets on a state of their own."""

    def __init__(self, folder: Path, tlc_url: str) -> None:
        self.state, self.data_dir = folder / "airflow", folder / "data"
        self._environment = {
            # This test runs inside `make test`, whose variables are not for the make that it tests.
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MAKE", "MFLAGS"))},
            "NYC_TAXI_TLC_URL": tlc_url,
            "NYC_TAXI_DATA_DIR": str(self.data_dir),
        }

    def start(self, target: str, **variables: str) -> subprocess.Popen[str]:
        """Start a make target with the interpreter that runs this test; its output is one pipe."""
        settings = {"AIRFLOW": LINE, "STATE": str(self.state), "VENV": sys.prefix, **variables}
        command = ["make", target, *(f"{name}={value}" for name, value in settings.items())]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, target: str, **variables: str) -> tuple[int, str]:
        """Run a make target to its end; returns its exit status and what it printed."""
        process = self.start(target, **variables)
        output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        return process.returncode, output
