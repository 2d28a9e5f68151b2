"""The two ways into an existing Airflow: the page's own commands, in a clean home without the Makefile's settings."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from include.orchestration.compat import IS_AIRFLOW_3
from include.tlc_simulator.server import TlcSimulator
from tests.airflow_commands import AIRFLOW_COMMANDS, END_OF_COMMAND
from tests.conftest import ROOT
from tests.dags.test_structure import DAG_IDS

PLACE = "/srv/nyc-taxi"
"""Where the page has the checkout."""
PAGE = ROOT / "docs" / "how-to" / "existing-airflow.md"
TIMEOUT_SECONDS = 300
PICTURE = "green/manhattan_map_2023-02.png"

THEIR_DAG = """
from airflow.providers.common.compat.sdk import DAG
{more}
dag = DAG("theirs", schedule=None)
"""
THEIR_PLUGIN = """
from airflow.providers.common.compat.sdk import AirflowPlugin

class Theirs(AirflowPlugin):
    name = "theirs"
"""

# What uvicorn and gunicorn are given by Airflow's own commands, asked without a port. Prints a JSON object.
ASK_AIRFLOW_3 = """
import json, os, sys
from pathlib import Path
from airflow.api_fastapi.main import app
from starlette.testclient import TestClient

with TestClient(app, follow_redirects=False) as browser:
    stranger = browser.get(sys.argv[1]).status_code
    passwords = Path(os.environ["AIRFLOW_HOME"], "simple_auth_manager_passwords.json.generated")
    login = {"username": "admin", "password": json.loads(passwords.read_text())["admin"]}
    token = browser.post("/auth/token", json=login).json()["access_token"]
    browser.headers["Authorization"] = f"Bearer {token}"
    answers = [browser.get(path) for path in sys.argv[1:]]
    errors = browser.get("/api/v2/plugins/importErrors").json()["import_errors"]
answers = [(answer.status_code, answer.headers["Content-Type"], answer.content.hex()) for answer in answers]

from airflow.models.serialized_dag import SerializedDagModel

# Read from the metadata database, where only the timetable's registered name is.
timetable = type(SerializedDagModel.get("taxi_trips_green").dag.timetable).__name__
print("ANSWERS", json.dumps({"stranger": stranger, "answers": answers, "errors": errors, "timetable": timetable}))
"""
ASK_AIRFLOW_2 = """
import json, sys
from airflow import plugins_manager
from airflow.www.app import create_app

app = create_app({"WTF_CSRF_ENABLED": False})
with app.app_context():
    security = app.appbuilder.sm
    security.add_user("admin", "A", "B", "admin@example.test", security.find_role("Admin"), "secret")
browser = app.test_client()
stranger = browser.get(sys.argv[1]).status_code
browser.post("/login/", data={"username": "admin", "password": "secret"})
answers = [browser.get(path) for path in sys.argv[1:]]
answers = [(answer.status_code, answer.headers["Content-Type"], answer.data.hex()) for answer in answers]
errors = plugins_manager.import_errors

from airflow.models.serialized_dag import SerializedDagModel

# Read from the metadata database, where only the timetable's registered name is.
timetable = type(SerializedDagModel.get("taxi_trips_green").dag.timetable).__name__
print("ANSWERS", json.dumps({"stranger": stranger, "answers": answers, "errors": errors, "timetable": timetable}))
"""


def blocks(heading: str) -> list[str]:
    """The shell commands below one of the page's headings, block by block."""
    section = re.search(rf"^### {heading}\n(.*?)(?=^##)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert section, f"{PAGE.name} has no heading {heading!r}"
    return re.findall(r"^```sh\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)


def first_way() -> str:
    airflow_3, airflow_2 = blocks("First way: Airflow reads the checkout")
    return airflow_3 if IS_AIRFLOW_3 else airflow_2


def second_way() -> str:
    (both,) = blocks("Second way: the code is copied into your project")
    return both


class ExistingAirflow:
    """Somebody's Airflow: a home with a database and a DAG, and no variable of this project's tests or Makefile."""

    def __init__(self, folder: Path) -> None:
        self.home, self.place, self.elsewhere = folder / "airflow", folder / "nyc-taxi", folder / "elsewhere"
        for path in (self.home / "dags", self.elsewhere):
            path.mkdir(parents=True)
        self.environment = {
            "PATH": os.pathsep.join([str(Path(sys.prefix) / "bin"), os.defpath]),
            "HOME": str(folder),
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "no_proxy": "*",
        }
        for path in ("dags", "include", "plugins"):
            shutil.copytree(ROOT / path, self.place / path, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / ".airflowignore", self.place)

    def run(self, commands: str) -> str:
        """Run commands in bash, as a user types them; returns what they printed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands.replace(PLACE, str(self.place))],
            env=self.environment,
            cwd=self.elsewhere,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return done.stdout

    def set_up(self, steps: str) -> None:
        """Run the page's steps; what they export holds for all commands after them."""
        kept = self.elsewhere / "environment"
        self.run(f"{steps}\nenv -0 > '{kept}'")
        self.environment = dict(pair.split("=", 1) for pair in kept.read_text().split("\0") if pair)

    def lists(self, *commands: str) -> list[list[dict[str, Any]]]:
        """What Airflow commands list, in one process, because each would first import Airflow; they may log before."""
        script = self.elsewhere / "lists.py"
        script.write_text(AIRFLOW_COMMANDS)
        printed = self.run(f"python -P '{script}' " + " ".join(f"'{command} --output json'" for command in commands))
        found = printed.split(END_OF_COMMAND)[:-1]
        assert len(found) == len(commands), printed
        return [json.loads(re.search(r"^\[[{\]].*\Z", one.strip(), re.MULTILINE | re.DOTALL)[0]) for one in found]

    def ask(self, *paths: str) -> dict[str, Any]:
        """What Airflow's web application answers to a stranger (the first path), and to its administrator."""
        script = self.elsewhere / "ask.py"
        script.write_text(ASK_AIRFLOW_3 if IS_AIRFLOW_3 else ASK_AIRFLOW_2)
        # -P: this script's folder is not on the path, as that of the command `airflow` has nothing of ours.
        printed = self.run(f"python -P '{script}' {' '.join(paths)}")
        return json.loads(re.search(r"^ANSWERS (.*)$", printed, re.MULTILINE)[1])


@pytest.mark.parametrize("way", [first_way, second_way])
def test_what_the_readme_says_is_enough_for_all_dags_a_month_and_the_pages(way, site: TlcSimulator, tmp_path: Path):
    existing = ExistingAirflow(tmp_path)
    existing.environment["NYC_TAXI_TLC_URL"] = site.url
    is_copied = way is second_way
    if is_copied:  # as in an Astronomer project: a plugin, a package `include`, and the project on the path
        existing.environment["PYTHONPATH"] = str(existing.home)
        (existing.home / "plugins").mkdir()
        (existing.home / "plugins/theirs.py").write_text(THEIR_PLUGIN)
        (existing.home / "include").mkdir()
        (existing.home / "include/__init__.py").write_text("WHOSE = 'theirs'\n")
    their_import = "from include import WHOSE\nassert WHOSE == 'theirs'" if is_copied else ""
    (existing.home / "dags/theirs.py").write_text(THEIR_DAG.format(more=their_import))
    existing.run("airflow db migrate")

    (common,) = blocks("In both ways")
    existing.set_up(way() + common)
    if is_copied:
        shutil.rmtree(existing.place)

    existing.run("airflow dags reserialize")
    assert "No data found" in existing.run("airflow dags list-import-errors")
    pools, dags, plugins = existing.lists("pools list", "dags list", "plugins")
    assert {pool["pool"]: pool["slots"] for pool in pools}["warehouse"] == "1"
    assert {dag["dag_id"] for dag in dags} == {*DAG_IDS, "theirs"}
    names = {plugin["name"] for plugin in plugins}
    assert {"calendar_timetables", "output_pages", *(["theirs"] if is_copied else [])} <= names

    existing.run("airflow dags test taxi_trips_green 2023-02-01")

    found = existing.ask("/nyc-taxi/outputs", f"/nyc-taxi/outputs/{PICTURE}", f"/nyc-taxi/files/{PICTURE}")
    assert found["timetable"] == "CalendarMonthTimetable"
    assert found["errors"] == ([] if IS_AIRFLOW_3 else {})
    assert found["stranger"] == (401 if IS_AIRFLOW_3 else 302)
    (index, page, picture) = found["answers"]
    assert [status for status, _, _ in found["answers"]] == [200, 200, 200]
    assert b"Manhattan map, February 2023" in bytes.fromhex(index[2])
    assert PICTURE.encode() in bytes.fromhex(page[2])
    made = Path(existing.environment["NYC_TAXI_DATA_DIR"]) / "outputs" / PICTURE
    assert (picture[1], bytes.fromhex(picture[2])) == ("image/png", made.read_bytes())
