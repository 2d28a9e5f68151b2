"""The page "Taxi warehouse" on a real Airflow server of this line, with the project's own DAGs."""

import contextlib
import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import requests
import warehouse_page

from include.orchestration.compat import IS_AIRFLOW_3
from tests.cluster.services import free_port
from tests.conftest import ROOT
from tests.plugins.test_output_pages import BASE_URL, wait_for

PAGE = "/nyc-taxi/warehouse/"
SECRET = "hunter2-is-secret"
GRID, MONTH, RESOURCE = (f"{PAGE}data/{name}" for name in ("grid", "month/green/2023-01", "resource"))
STATIC = f"{PAGE}static/probe.js"
ROUTES = [PAGE, STATIC, GRID, MONTH, RESOURCE]
USERS = {"admin": "Admin", "viewer": "Viewer"} | ({} if IS_AIRFLOW_3 else {"greens": "Greens"})
"""Users and their roles. Airflow 3's simple auth manager has no role for a single DAG."""

MAKE_ROLE = """
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

with get_application_builder() as builder:
    security = builder.sm
    role = security.add_role("Greens")
    for resource in ("Website", "DAG Runs", "Task Instances", "DAG:taxi_trips_green"):
        security.add_permission_to_role(role, security.create_permission("can_read", resource))
"""

PREPARE = """
from include.nyc_taxi import warehouse
from warehouse_hook import WarehouseHook

with WarehouseHook().opened() as con:
    warehouse.ensure_tables(con)
    con.execute(
        "INSERT INTO loads (fleet, partition_month, source_url, bytes, rows_in_file, rows_loaded, quality, loaded_at, "
        "run_id, etag) VALUES ('green', DATE '2023-01-01', 'https://tlc.test/green.parquet', 1427002, 68211, 68211, "
        "'{}', TIMESTAMP '2023-04-01 12:00', 'loader', '\\"9051137b\\"')"
    )
    con.execute("INSERT INTO trips_by_week (fleet, period, num_trips) VALUES ('green', DATE '2023-01-09', 9)")
from include.nyc_taxi import settings

for path in ("green/manhattan_map_2023-01.png", "green/manhattan_stats_2023-01.geojson"):
    file = settings.outputs_root() / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"green")
"""
OUTPUTS = f"{PAGE}data/outputs?folder=green&page=2023"
ROUTES.append(OUTPUTS)


class TestPlugin:
    def test_makes_no_other_process_import_a_web_framework(self, start_python):
        process = start_python(
            "import sys\n"
            "import warehouse_page\n"
            "plugin = warehouse_page.WarehousePagePlugin()\n"
            "print([name for name in ('fastapi', 'flask_appbuilder', 'include') if name in sys.modules])\n"
        )
        assert process.communicate()[0].splitlines()[-1] == "[]"

    def test_has_a_page_for_one_line_only(self):
        plugin = warehouse_page.WarehousePagePlugin()
        assert bool(plugin.react_apps) is IS_AIRFLOW_3
        if IS_AIRFLOW_3:
            assert plugin.appbuilder_views == []

    def test_is_below_the_base_urls_path(self, monkeypatch):
        monkeypatch.setenv(BASE_URL, "https://proxy.test/teams/airflow")
        assert warehouse_page.base() == "/teams/airflow/nyc-taxi/warehouse"
        _, _, body = warehouse_page.page_answer('"><script>')
        text = body.decode()
        (env,) = re.findall(r'data-env="([^"]*)"', text)
        assert json.loads(html.unescape(env))["airflowBase"] == "/teams/airflow"
        assert json.loads(html.unescape(env))["csrf"] == '"><script>'
        assert '"><script>' not in text

    def test_serves_only_files_of_its_own_folder(self, tmp_path, monkeypatch):
        folder = tmp_path / "page"
        (folder / "sub").mkdir(parents=True)
        for name in ("page/a.js", "page/.hidden.js", "page/a.py", "page/sub/b.js", "outside.js"):
            (tmp_path / name).write_text("x")
        monkeypatch.setattr(warehouse_page, "FILES", folder)
        asked = ["a.js", ".hidden.js", "a.py", "sub/b.js", "../outside.js", "..\\outside.js", "", ".", "c.js"]
        served = [name for name in asked if warehouse_page.static_answer(name)[0] == 200]
        assert served == ["a.js"]

    def test_a_user_may_start_runs_only_of_dags_that_the_user_may_read(self):
        allowed = {("GET", "a"), ("POST", "a"), ("GET", "b"), ("POST", "c")}
        rights = warehouse_page.rights_of(lambda method, dag_id: (method, dag_id) in allowed)
        assert rights(["a", "b", "c"]) == ({"a", "b"}, {"a"})


@dataclass
class Server:
    """An Airflow web server of the project, with a snapshot that has one loaded month, and without a scheduler."""

    url: str
    passwords: dict[str, str]
    status_dir: Path

    def get(self, path: str, session: Any = requests, **options: Any) -> requests.Response:
        return session.get(self.url + path, allow_redirects=False, timeout=60, **options)

    def sign_in(self, name: str) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        login = {"username": name, "password": self.passwords[name]}
        if IS_AIRFLOW_3:
            answer = session.post(f"{self.url}/auth/token", json=login, timeout=60)
            session.cookies.set("_token", answer.json()["access_token"])
        else:
            page = session.get(f"{self.url}/login/", timeout=60).text
            (token,) = re.findall(r'name="csrf_token"[^>]*value="([^"]+)"', page)
            session.post(f"{self.url}/login/", data=login | {"csrf_token": token}, timeout=60)
        return session


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(folder / "plugins"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,viewer:viewer",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": f"{folder}/logs",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__AUTH_BACKENDS": "airflow.api.auth.backend.session",
        "AIRFLOW__API_AUTH__JWT_SECRET": "x" * 64,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__WEBSERVER__WEB_SERVER_HOST": "127.0.0.1",
        "AIRFLOW__WEBSERVER__WEB_SERVER_PORT": str(port),
        "AIRFLOW__WEBSERVER__WORKERS": "1",
        BASE_URL: url,
        "NYC_TAXI_DATA_DIR": str(folder / "data"),
        "NYC_TAXI_FLEETS": "green,yellow",
        "NYC_TAXI_TLC_URL": f"https://reader:{SECRET}@tlc.test",
        "AIRFLOW_CONN_TLC": json.dumps({"conn_type": "http", "login": "reader", "password": SECRET}),
    }
    # A copy of the plugins, with a file of the page that no change of the page can take away.
    shutil.copytree(ROOT / "plugins", folder / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "plugins/warehouse_page").mkdir(exist_ok=True)
    (folder / "plugins/warehouse_page/probe.js").write_text("export const probe = 1;\n")
    (folder / "include").symlink_to(ROOT / "include")
    path = os.pathsep.join([str(ROOT), str(folder / "plugins")])

    def run(*command: str) -> None:
        done = subprocess.run(
            command, env=environment | {"PYTHONPATH": path}, capture_output=True, text=True, check=False, cwd=folder
        )
        assert done.returncode == 0, done.stdout + done.stderr

    airflow = str(Path(sys.executable).with_name("airflow"))
    run(airflow, "db", "migrate")
    run(airflow, "dags", "reserialize")
    run(sys.executable, "-c", PREPARE)
    passwords = dict.fromkeys(USERS, "secret")
    if not IS_AIRFLOW_3:
        run(airflow, "sync-perm")  # creates the roles
        run(sys.executable, "-c", MAKE_ROLE)
        names = ("--username", "--password", "--firstname", "--lastname", "--email", "--role")
        for user, role in USERS.items():
            values = (user, passwords[user], "A", "B", f"{user}@example.test", role)
            run(airflow, "users", "create", *(word for pair in zip(names, values, strict=True) for word in pair))
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [airflow, "api-server" if IS_AIRFLOW_3 else "webserver"],
            env=environment,  # without PYTHONPATH: as in `make standalone`, the server must find the project by itself
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        health = "/api/v2/monitor/health" if IS_AIRFLOW_3 else "/health"
        wait_for(url + health, lambda: process.poll() is None, folder / "server.log")
        if IS_AIRFLOW_3:
            passwords = json.loads((folder / "simple_auth_manager_passwords.json.generated").read_text())
        yield Server(url, passwords, folder / "data/status")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def admin(server: Server) -> requests.Session:
    return server.sign_in("admin")


@pytest.fixture(scope="module")
def viewer(server: Server) -> requests.Session:
    return server.sign_in("viewer")


@pytest.fixture(scope="module")
def greens(server: Server) -> requests.Session:
    return server.sign_in("greens")


def trigger(server: Server, session: requests.Session, month: str) -> str:
    """Start a run of the green months by REST, as the page does; it stays queued. Return its id."""
    day = {"logical_date": f"{month}-01T00:00:00+00:00"} if IS_AIRFLOW_3 else {}
    answer = session.post(
        f"{server.url}/api/{'v2' if IS_AIRFLOW_3 else 'v1'}/dags/taxi_trips_green/dagRuns",
        json=day | {"conf": {"month": month}},
        timeout=60,
    )
    assert answer.ok, answer.text
    return str(answer.json()["dag_run_id"])


def month_of(grid: dict[str, Any], month: str) -> dict[str, Any]:
    (green,) = [fleet for fleet in grid["fleets"] if fleet["name"] == "green"]
    (found,) = [cell for cell in green["months"] if cell["month"] == month]
    return dict(found)


@pytest.mark.slow
class TestServer:
    @pytest.mark.parametrize("path", ROUTES)
    def test_shows_a_stranger_nothing(self, server, path):
        answer = server.get(path)
        assert answer.status_code == (401 if IS_AIRFLOW_3 else 302)
        shown = answer.text.replace(answer.headers.get("Location", " "), "")  # 2.11 repeats the address
        assert not any(word in shown for word in ("green", "probe =", "data-env"))

    def test_lets_a_stranger_with_a_browser_sign_in_and_come_back(self, server):
        answer = server.get(PAGE, headers={"Accept": "text/html"})
        assert answer.status_code in (302, 307)
        assert unquote(answer.headers["Location"]).endswith("/nyc-taxi/warehouse/")

    @pytest.mark.parametrize("path", ROUTES)
    def test_is_never_stored_and_loads_nothing_from_elsewhere(self, server, admin, path):
        answer = server.get(path, admin)
        assert answer.status_code == 200, answer.text
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert not any("http" in sources or "*" in sources for sources in policy.values())

    @pytest.mark.parametrize("path", ROUTES)
    def test_answers_only_get_and_head(self, server, admin, path):
        whole, head = server.get(path, admin), admin.head(server.url + path, timeout=60)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Type"] == whole.headers["Content-Type"]
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert admin.request(method, server.url + path, timeout=60).status_code in (400, 405)

    @pytest.mark.parametrize(
        "path",
        [
            "static/nothing.js",
            "static/..%2fwarehouse_page.py",
            "data/month/purple/2023-01",
            "data/month/green/2023-13",
            "data/month/green/1999-01",
            "data/month/green/x%27%3B--",
            "data/nothing",
            "data/outputs?folder=purple",
            "data/outputs?folder=..",
            "data/outputs?folder=green%2f..",
        ],
    )
    def test_says_that_there_is_no_such_thing(self, server, admin, path):
        assert server.get(PAGE + path, admin).status_code == 404

    @pytest.mark.parametrize("path", [*ROUTES, "/nyc-taxi/warehouse", "/nyc-taxi/warehouse/data", f"{GRID}/"])
    @pytest.mark.parametrize("accepted", ["text/html", "*/*"])
    def test_never_redirects_to_the_host_that_a_request_names(self, server, admin, path, accepted):
        for session in (requests, admin):
            answer = server.get(path, session, headers={"Host": "evil.test", "Accept": accepted})
            assert urlsplit(answer.headers.get("Location", "")).netloc == ""

    def test_is_also_found_without_the_slash(self, server, admin):
        answer = admin.get(server.url + PAGE.rstrip("/"), timeout=60)
        assert answer.status_code == 200
        assert "data-env" in answer.text

    def test_has_the_page_in_the_navigation(self, server, admin):
        if IS_AIRFLOW_3:
            plugins = server.get("/api/v2/plugins", admin).json()["plugins"]
            (plugin,) = [found for found in plugins if found["name"] == "warehouse_page"]
            (app,) = plugin["react_apps"]
            assert (app["name"], app["url_route"]) == ("Taxi warehouse", "taxi-warehouse")
            assert app["bundle_url"] == "/nyc-taxi/warehouse/static/app.js"
        else:
            assert re.search(r'href="/nyc-taxi/warehouse/?"[^>]*>\s*Taxi warehouse', server.get("/home", admin).text)

    def test_still_has_the_pages_of_outputs(self, server, admin):
        assert "Outputs" in server.get("/nyc-taxi/outputs", admin).text

    def test_shows_a_years_outputs_which_lead_to_what_they_name(self, server, admin):
        found = server.get(OUTPUTS, admin).json()
        assert (found["title"], found["page"]) == ("Green taxis", "2023")
        ((shown,),) = [month["outputs"] for month in found["months"]]
        for address in (shown["url"], shown["thumbnail"], *(file["url"] for file in shown["files"])):
            assert server.get(address, admin).status_code == 200
            assert server.get(address).status_code in (302, 401)

    def test_shows_who_has_asked_for_which_report(self, server, admin, viewer):
        request = {
            "fleet": "green",
            "borough": "Queens",
            "start_date": "2023-01-01",
            "end_date": "2023-01-31",
            "name": "queens",
        }
        answer = admin.post(
            f"{server.url}/api/{'v2' if IS_AIRFLOW_3 else 'v1'}/dags/adhoc_request/dagRuns",
            json={"conf": request} | ({"logical_date": None} if IS_AIRFLOW_3 else {}),
            timeout=60,
        )
        assert answer.ok, answer.text
        found = server.get(f"{PAGE}data/outputs?folder=requests", viewer).json()["requests"]
        (shown,) = found["unfinished"]
        assert (shown["name"], shown["state"], shown["by"]) == ("queens", "queued", "admin" if IS_AIRFLOW_3 else None)
        assert shown["request"] == {name: value for name, value in request.items() if name != "name"}
        assert server.get(shown["url"], viewer).status_code == 200
        assert (found["may"], bool(found["why_not"])) == (False, True)

    def test_shows_what_the_snapshot_and_airflow_know(self, server, admin):
        grid = server.get(GRID, admin).json()
        assert [fleet["name"] for fleet in grid["fleets"]] == ["green", "yellow"]
        assert grid["snapshot"]["kind"] == "file"
        january = month_of(grid, "2023-01")
        assert (january["state"], january["rows"], january["run_id"]) == ("loaded", 68_211, "loader")
        assert grid["fleets"][0]["is_paused"] is True
        assert grid["fleets"][0]["may_trigger"] is True

    @pytest.mark.parametrize("damaged", [None, b"", b'{"version":1,"months":{}}', b"\xff\x00"])
    def test_without_a_snapshot_that_it_can_read_says_what_to_run(self, server, admin, damaged):
        path = server.status_dir / "warehouse.json"
        good = path.read_bytes()
        try:
            path.unlink() if damaged is None else path.write_bytes(damaged)
            grid, month, resource = (server.get(address, admin) for address in (GRID, MONTH, RESOURCE))
            assert [answer.status_code for answer in (grid, month, resource)] == [200, 200, 200]
            assert "make status" in grid.json()["hint"]
            assert grid.json()["hint"] == resource.json()["hint"]
            assert month.json()["load"] is None
        finally:
            path.write_bytes(good)
        assert server.get(GRID, admin).json()["hint"] is None

    def test_shows_a_run_from_queued_to_failed(self, server, admin):
        run_id = trigger(server, admin, "2022-03")
        grid = server.get(GRID, admin).json()
        # Its DAG is paused, so that nothing will happen soon.
        assert (month_of(grid, "2022-03")["state"], grid["is_busy"]) == ("queued", False)
        run = f"{server.url}/api/{'v2' if IS_AIRFLOW_3 else 'v1'}/dags/taxi_trips_green/dagRuns/{run_id}"
        assert admin.patch(run, json={"state": "failed"}, timeout=60).ok
        month = server.get(f"{PAGE}data/month/green/2022-03", admin).json()
        (shown,) = month["runs"]
        assert (shown["run_id"], shown["state"]) == (run_id, "failed")
        opened = server.get(shown["url"], admin)
        assert opened.status_code == 200
        assert urlsplit(shown["url"]).netloc == ""

    def test_shows_a_month(self, server, admin):
        month = server.get(MONTH, admin).json()
        assert [(week["monday"], week["trips"]) for week in month["weeks"]] == [("2023-01-09", 9)]
        assert (month["title"], month["state"]) == ("Green taxis, January 2023", "loaded")
        assert month["load"]["source_url"] == "https://tlc.test/green.parquet"
        assert month["commands"]["again"].startswith("airflow ")
        assert month["actions"] == {"may": True, "why_not": None, "is_paused": True}
        assert month["history"] == [{"month": "2023-01", "rows": 68211, "bytes": 1427002, "seconds": {}, "warnings": 0}]

    def test_a_viewer_reads_everything_and_is_told_why_there_are_no_buttons(self, server, viewer):
        for fleet in server.get(GRID, viewer).json()["fleets"]:
            assert fleet["may_trigger"] is False
            assert "not start" in fleet["why_not"]
        actions = server.get(MONTH, viewer).json()["actions"]
        assert actions["may"] is False
        assert server.get(RESOURCE, viewer).status_code == 200

    def test_shows_the_resources_and_every_task_that_uses_them(self, server, admin):
        found = server.get(RESOURCE, admin).json()
        warehouse = found["warehouse"]
        assert warehouse["kind"] == "file"
        assert warehouse["bytes"] > 0
        assert warehouse["open_now"] == []
        assert {"memory_limit", "threads", "writers"} <= {setting["name"] for setting in warehouse["settings"]}
        uses = {(use["dag_id"], use["task_id"]) for use in warehouse["uses"]}
        assert {("taxi_trips_green", "load"), ("trips_by_week_yellow", "aggregate"), ("adhoc_request", "count")} <= uses
        site = {(use["dag_id"], use["task_id"]) for use in found["tlc"]["uses"]}
        assert {("taxi_trips_green", "download"), ("taxi_trips_green", "wait_for_file")} <= site


@pytest.mark.slow
@pytest.mark.skipif(IS_AIRFLOW_3, reason="Airflow 3's simple auth manager has no role for a single DAG")
class TestUserOfOneDag:
    """A user who may read one fleet's months, and nothing else."""

    def test_sees_one_fleet_without_its_weeks(self, server, greens):
        (green,) = server.get(GRID, greens).json()["fleets"]
        assert (green["name"], green["weeks"], green["may_trigger"]) == ("green", [], False)

    def test_opens_the_months_of_that_fleet_only(self, server, greens):
        assert server.get(MONTH, greens).json()["weeks"] == []
        answer = server.get(MONTH.replace("green", "yellow"), greens)
        assert answer.status_code == 404
        assert "dag" not in answer.text.lower()

    def test_sees_the_uses_and_the_tasks_of_that_dag_only(self, server, greens):
        found = server.get(RESOURCE, greens).json()
        uses = [*found["warehouse"]["uses"], *found["tlc"]["uses"], *found["tlc"]["last"]]
        assert {use["dag_id"] for use in uses} == {"taxi_trips_green"}
        everything = server.get(RESOURCE, server.sign_in("admin")).json()
        assert len({use["dag_id"] for use in everything["warehouse"]["uses"]}) > 1


@pytest.mark.slow
class TestSecrets:
    @pytest.mark.parametrize("path", [GRID, MONTH, RESOURCE, PAGE])
    def test_are_in_no_answer(self, server, admin, path):
        """The server's environment has a password in the address of the TLC's site, and in its connection."""
        answer = server.get(path, admin)
        assert answer.status_code == 200
        assert SECRET not in answer.text
        assert SECRET not in "".join(file.read_text() for file in server.status_dir.glob("*.json*"))


def test_env_of_the_page_names_this_line():
    _, _, body = warehouse_page.page_answer("token")
    (env,) = re.findall(r'data-env="([^"]*)"', body.decode())
    assert SimpleNamespace(**json.loads(html.unescape(env))).airflow == (3 if IS_AIRFLOW_3 else 2)
