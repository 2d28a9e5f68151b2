"""An Airflow 3 that stays up while one backfill after another is run, disturbed and compared."""

import contextlib
import json
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import requests

from include.tlc_simulator.server import TlcSimulator
from tests.integration.project import Project
from tests.long.fingerprint import fingerprint
from tests.long.kills import Metadata, has_ended

FLEET, DAG_ID = "green", "taxi_trips_green"
MONTHS = ["2023-01", "2023-02", "2023-03"]
TASKS = ["download", "load", "aggregate", "map"]
ROWS = 3000
PATIENCE_SECONDS = 900
QUIET_SECONDS = 2.0
"""The scheduler ends by itself when a run is deleted that it looks at: it gets so long to look away."""


class Lane:
    """`make standalone` with a simulated TLC, a home and a data directory of its own.

    Attributes:
        reference: the fingerprint of an undisturbed backfill.
        typical: seconds that each task has taken in the latest backfill, by task id.
        needed: bytes that are in the data directory after it.
    """

    def __init__(self, project: Project, site: TlcSimulator, airflow: subprocess.Popen[str], port: int) -> None:
        self.project, self.site = project, site
        self.data_dir, self.metadata = project.data_dir, Metadata(project.state, DAG_ID)
        self.reference: dict[str, str] = {}
        self.typical: dict[str, float] = {}
        self.needed = 0
        self._airflow, self._address = airflow, f"http://127.0.0.1:{port}"
        self._log_folder = project.state / "logs" / f"dag_id={DAG_ID}"
        self._session = requests.Session()

    @classmethod
    @contextlib.contextmanager
    def running(cls, folder: Path) -> Iterator["Lane"]:
        """Start one, and run the undisturbed backfill in it."""
        folder.mkdir(parents=True)
        with TlcSimulator(folder / "tlc", rows=ROWS, first_month=MONTHS[0], last_month=MONTHS[-1]) as site:
            project = Project(
                folder,
                site.url,
                NYC_TAXI_FLEETS=FLEET,
                # Only the backfills that we create; and the DAG files do not change meanwhile.
                AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE="False",
                AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL="3600",
                AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME="0.2",
            )
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            airflow = project.start("standalone", PORT=str(port))
            lane = cls(project, site, airflow, port)
            try:
                lane._log_in()
                lane._run_undisturbed()
                yield lane
            finally:
                airflow.terminate()  # make passes it on; a second one would keep it from stopping what it has started
                airflow.communicate(timeout=PATIENCE_SECONDS)

    def start_over(self) -> None:
        """An empty data directory, no runs, a site without faults.

        The runs are deleted, not reprocessed: a task that has been tried often waits longer for its next retry.
        """
        self.site.clear_faults()
        self._pause(True)
        time.sleep(QUIET_SECONDS)
        for backfill in self._ask("GET", f"backfills?dag_id={DAG_ID}").json()["backfills"]:
            if not backfill["completed_at"]:
                self._ask("PUT", f"backfills/{backfill['id']}/cancel")
        for run_id, _ in self.metadata.runs().values():
            self._ask("DELETE", f"dags/{DAG_ID}/dagRuns/{quote(run_id, safe='')}")
        self.data_dir.mkdir(exist_ok=True)
        for path in self.data_dir.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.rmtree(self._log_folder, ignore_errors=True)  # attempts are numbered anew

    def create_backfill(self) -> None:
        """What `make backfill` creates.

        The DAG is paused meanwhile: a creation that meets a busy SQLite deletes the runs that it has made already, and
        the scheduler may have begun them.
        """
        body = {
            "dag_id": DAG_ID,
            "from_date": f"{MONTHS[0]}-01T00:00:00Z",
            "to_date": f"{MONTHS[-1]}-01T00:00:00Z",
            "reprocess_behavior": "completed",
            "max_active_runs": 4,
        }
        self._ask("POST", "backfills", json=body)
        self._pause(False)

    def clear(self, run_id: str, task_id: str) -> None:
        """Clear a task and what depends on it, as docs/how-to/rerun.md says."""
        body = {
            "dag_run_id": run_id,
            "task_ids": [task_id],
            "include_downstream": True,
            "only_failed": False,
            "dry_run": False,
        }
        self._ask("POST", f"dags/{DAG_ID}/clearTaskInstances", json=body)

    def finish(self) -> int:
        """Wait until all runs are a success; returns how often a run that had failed for good had to be cleared."""
        cleared, until = 0, time.monotonic() + PATIENCE_SECONDS
        while True:
            if has_ended(self.metadata, MONTHS):
                failed = [run_id for run_id, state in self.metadata.runs().values() if state == "failed"]
                if not failed:
                    self._note_typical()
                    return cleared
                for run_id, task_id in self.metadata.failed():
                    self.clear(run_id, task_id)
                    cleared += 1
            if self._airflow.poll() is not None:
                raise RuntimeError(f"Airflow ended:\n{self._airflow.communicate()[0]}")
            if time.monotonic() > until:
                raise TimeoutError(f"the backfill did not end within {PATIENCE_SECONDS} s: {self.metadata.runs()}")
            time.sleep(0.2)

    def logs(self) -> list[Path]:
        """The logs of all attempts since the start."""
        return sorted(self._log_folder.rglob("attempt=*.log"))

    def fingerprint(self) -> dict[str, str]:
        """Of what is in the data directory now."""
        return fingerprint(self.data_dir)

    def _run_undisturbed(self) -> None:
        """Twice: the first time everything is cold."""
        for _ in range(2):
            self.start_over()
            self.create_backfill()
            self.finish()
        self.reference = self.fingerprint()
        self.needed = sum(path.stat().st_size for path in self.data_dir.rglob("*") if path.is_file())

    def _note_typical(self) -> None:
        """The machine may be busier, or less so, than it was."""
        for task in TASKS:
            taken = [self.metadata.attempt(task, month) for month in MONTHS]
            self.typical[task] = statistics.median(attempt.seconds for attempt in taken if attempt)

    def _log_in(self) -> None:
        """Wait until Airflow answers and knows the DAG."""
        until = time.monotonic() + PATIENCE_SECONDS
        passwords = self.project.state / "simple_auth_manager_passwords.json.generated"
        while True:
            assert self._airflow.poll() is None, self._airflow.communicate()[0]
            try:
                login = {"username": "admin", "password": json.loads(passwords.read_text())["admin"]}
                token = requests.post(f"{self._address}/auth/token", json=login, timeout=30).json()["access_token"]
                self._session.headers["Authorization"] = f"Bearer {token}"
                self._pause(True, attempts=1)
            except (OSError, ValueError, KeyError, RuntimeError) as error:
                if time.monotonic() > until:
                    raise TimeoutError(f"Airflow did not come up: {error}") from error
                time.sleep(1)
            else:
                return

    def _pause(self, paused: bool, attempts: int = 10) -> None:
        self._ask("PATCH", f"dags/{DAG_ID}", json={"is_paused": paused}, attempts=attempts)

    def _ask(self, method: str, path: str, *, attempts: int = 10, **body: object) -> requests.Response:
        """Ask Airflow's API; a busy SQLite answers 500 or 409 now and then."""
        for attempt in range(1, attempts + 1):
            answer = self._session.request(method, f"{self._address}/api/v2/{path}", timeout=120, **body)
            if answer.ok:
                return answer
            if attempt < attempts:
                time.sleep(1)
        raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:1000]}")
