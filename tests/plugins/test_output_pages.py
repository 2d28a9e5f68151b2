"""The link to a task's output and the pages that it opens, on a real Airflow server of this line."""

import contextlib
import html
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

import pytest
import requests
from airflow import plugins_manager
from airflow.providers.common.compat.sdk import DAG

import output_pages
from include.nyc_taxi import settings
from include.orchestration.compat import IS_AIRFLOW_3
from output_pages import OutputLink, OutputOperator
from tests.cluster.services import free_port
from tests.conftest import ROOT

if IS_AIRFLOW_3:
    from airflow.serialization.serialized_objects import DagSerialization as SerializedDAG
else:
    from airflow.serialization.serialized_objects import SerializedDAG

BASE_URL = "AIRFLOW__API__BASE_URL" if IS_AIRFLOW_3 else "AIRFLOW__WEBSERVER__BASE_URL"
START_SECONDS = 180
PICTURE, FIGURES = b"\x89PNG\r\n\x1a\n of Manhattan", b'{"features": []}'
DAG_FILE = """
from datetime import datetime
from airflow.providers.common.compat.sdk import DAG
from output_pages import OutputOperator


def draw(name):
    from include.nyc_taxi.settings import outputs_dir

    file = outputs_dir("green") / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes({picture!r})
    return str(file)


with DAG("outputs", schedule=None, start_date=datetime(2023, 1, 1)):
    OutputOperator(task_id="map", python_callable=draw, op_args=["manhattan_map_2023-02.png"])
    OutputOperator(task_id="nothing", python_callable=lambda: None)
    OutputOperator.partial(task_id="many", python_callable=draw).expand(op_args=[["map 1.png"], ["map 2.png"]])
"""
RUN_IT = """
import sys
from datetime import datetime, timezone
from airflow import __version__
if __version__.startswith("2."):
    from airflow.models.dagbag import DagBag
    import airflow.providers.fab.auth_manager.models
else:
    from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
date = datetime(2023, 2, 1, tzinfo=timezone.utc)
run = bag.dags["outputs"].test(**{"execution_date" if __version__.startswith("2.") else "logical_date": date})
print("RUN", run.state, run.run_id)
"""


@pytest.fixture
def task():
    with DAG("outputs", schedule=None):
        return OutputOperator(task_id="map", python_callable=lambda: settings.outputs_dir("green") / "map.png")


class TestOperator:
    def test_returns_the_path_relative_to_the_outputs_folder(self, task):
        assert task.execute({}) == "green/map.png"

    def test_returns_nothing_if_its_callable_makes_nothing(self, task):
        task.python_callable = lambda: None
        assert task.execute({}) is None

    def test_fails_and_names_the_outputs_folder_if_its_callable_writes_elsewhere(self, task):
        task.python_callable = lambda: settings.raw_dir() / "trips.parquet"
        with pytest.raises(ValueError, match=r"trips\.parquet is not in the outputs folder .*/data/outputs"):
            task.execute({})


class TestLink:
    @pytest.fixture
    def link(self, monkeypatch):
        """The link of a task that has returned `path`."""

        def link_to(path, run_id="r", map_index=-1):
            monkeypatch.setattr(output_pages, "XCom", SimpleNamespace(get_value=lambda ti_key, key: path))
            key = SimpleNamespace(dag_id="d", run_id=run_id, task_id="t", map_index=map_index)
            return OutputLink().get_link(None, ti_key=key)

        return link_to

    def test_is_a_path_on_the_web_server_whose_port_and_name_may_change(self, link, monkeypatch):
        assert link("green/map.png") == "/nyc-taxi/outputs/green/map.png?dag_id=d&run_id=r&task_id=t"
        for url in ("http://localhost:8080", "http://localhost:18080/", "https://airflow.test"):
            monkeypatch.setenv(BASE_URL, url)
            assert urlsplit(link("green/map.png"))[:3] == ("", "", "/nyc-taxi/outputs/green/map.png")

    def test_is_below_the_base_urls_path(self, link, monkeypatch):
        for url in ("http://proxy.test/teams/airflow", "http://proxy.test/teams/airflow/"):
            monkeypatch.setenv(BASE_URL, url)
            assert urlsplit(link("green/map.png")).path == "/teams/airflow/nyc-taxi/outputs/green/map.png"

    def test_is_quoted(self, link):
        made = urlsplit(link("requests/50 % of #7?.csv", run_id="backfill__2023-01-31T23:59:59+00:00", map_index=0))
        assert made.path == "/nyc-taxi/outputs/requests/50%20%25%20of%20%237%3F.csv"
        assert dict(parse_qsl(made.query)) == {
            "dag_id": "d",
            "run_id": "backfill__2023-01-31T23:59:59+00:00",
            "task_id": "t",
            "map_index": "0",
        }

    def test_is_empty_if_nothing_was_made(self, link):
        assert link(None) == ""

    def test_survives_serialization_as_the_web_server_restores_it(self, task, monkeypatch):
        # The web server restores links; `dag.test` does not, and leaves that setting behind in this process.
        monkeypatch.setattr(SerializedDAG, "_load_operator_extra_links", True)
        encoded = json.loads(json.dumps(SerializedDAG.to_dict(task.dag)))
        restored = SerializedDAG.from_dict(encoded).get_task("map")
        assert restored.extra_links == ["Open output"]
        (link,) = restored.operator_extra_links
        if IS_AIRFLOW_3:
            assert link.xcom_key == "_link_OutputLink"
        else:
            assert type(link).__name__ == "OutputLink"


class TestCopiedPlugin:
    """The plugin's file in the plugins folder of an Airflow whose web server has no DAG bundle on its path."""

    @pytest.fixture
    def find_pages(self, tmp_path):
        (tmp_path / "plugins").mkdir()
        shutil.copy(ROOT / "plugins/output_pages.py", tmp_path / "plugins")

        def find(*path: Path) -> str:
            """The file in which `pages` finds its module with these folders on PYTHONPATH, or its error."""
            code = "import include" if path else "pass"
            code += "\nfrom output_pages import pages\npages()\nprint(pages().__file__)"
            done = subprocess.run(
                [sys.executable, "-P", "-c", code],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [tmp_path / "plugins", *path]))},
                capture_output=True,
                text=True,
                check=False,
                cwd=tmp_path,
            )
            return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().splitlines()[-1]

        return find

    @pytest.fixture
    def theirs(self, tmp_path):
        """A folder with another project's `include`, which has no `__init__.py`."""
        (tmp_path / "theirs/include").mkdir(parents=True)
        return tmp_path / "theirs"

    def test_finds_the_code_beside_its_folder(self, find_pages, tmp_path):
        shutil.copytree(ROOT / "include/nyc_taxi", tmp_path / "include/nyc_taxi")
        assert find_pages() == str(tmp_path / "include/nyc_taxi/web/pages.py")

    def test_finds_it_even_if_another_include_has_been_imported(self, find_pages, theirs, tmp_path):
        shutil.copytree(ROOT / "include/nyc_taxi", tmp_path / "include/nyc_taxi")
        assert find_pages(theirs) == str(tmp_path / "include/nyc_taxi/web/pages.py")

    def test_prefers_the_code_on_the_path(self, find_pages, tmp_path):
        shutil.copytree(ROOT / "include/nyc_taxi", tmp_path / "include/nyc_taxi")
        assert find_pages(ROOT) == str(ROOT / "include/nyc_taxi/web/pages.py")

    def test_without_the_code_says_where_it_was_expected(self, find_pages, tmp_path):
        error = find_pages()
        assert error.startswith("ModuleNotFoundError: The pages of outputs need include/nyc_taxi")
        assert f"expected it in {tmp_path} or on PYTHONPATH, found it in neither" in error

    def test_names_the_include_that_hides_the_projects(self, find_pages, theirs, tmp_path):
        shutil.copytree(ROOT / "include", tmp_path / "include")
        (theirs / "include/__init__.py").touch()
        assert f"found another package `include`, {theirs / 'include'}. Copy it" in find_pages(theirs)


RUN = "backfill__2023-01-31T23:59:59+00:00"


class TestTheWayBack:
    @pytest.fixture(autouse=True)
    def run_of_airflow_2(self, monkeypatch):
        monkeypatch.setattr(output_pages, "_date_of", lambda dag_id, run_id: "2023-01-01T00:00:00+00:00")

    def test_leads_to_the_task_in_its_run(self):
        name, href = output_pages.task_page("taxi_trips_green", RUN, "map", "")
        assert name == "taxi_trips_green.map"
        if IS_AIRFLOW_3:
            run = "backfill__2023-01-31T23%3A59%3A59%2B00%3A00"
            assert href == f"/dags/taxi_trips_green/runs/{run}/tasks/map"
        else:
            where = urlsplit(href)
            assert where.path == "/dags/taxi_trips_green/grid"
            assert dict(parse_qsl(where.query)) == {
                "dag_run_id": RUN,
                "task_id": "map",
                "tab": "details",
                "base_date": "2023-01-01T00:00:00+00:00",
            }

    def test_leads_to_the_mapped_task_that_made_the_file(self):
        name, href = output_pages.task_page("d", RUN, "many", "7")
        assert name == "d.many [7]"
        assert href.endswith("/tasks/many/mapped/7") if IS_AIRFLOW_3 else "map_index=7" in href

    def test_is_below_the_base_urls_path(self, monkeypatch):
        monkeypatch.setenv(BASE_URL, "https://proxy.test/teams/airflow")
        assert output_pages.task_page("d", RUN, "t", "")[1].startswith("/teams/airflow/dags/d/")

    @pytest.mark.parametrize(
        ("dag_id", "run_id", "task_id", "map_index"),
        [
            ("", RUN, "t", ""),
            ("d", "", "t", ""),
            ("d", RUN, "", ""),
            ("//evil.test", RUN, "t", ""),
            ("..", RUN, "t", ""),
            ("d", "..", "t", ""),
            ("d", "../../../evil", "t", ""),
            ("d", "a\\b", "t", ""),
            ("d", "a\nb", "t", ""),
            ("d", RUN, "t/../..", ""),
            ("d", RUN, "t\n", ""),
            ("d", RUN, "<b>", ""),
            ("javascript:alert(1)", RUN, "t", ""),
            ("d", RUN, "t", "-1"),
            ("d", RUN, "t", "1/../2"),
            ("d", RUN, "t", "\u0661"),
            ("d" * 251, RUN, "t", ""),
            ("d", "r" * 251, "t", ""),
        ],
    )
    def test_is_none_if_the_address_does_not_name_a_task(self, dag_id, run_id, task_id, map_index):
        assert output_pages.task_page(dag_id, run_id, task_id, map_index) is None

    @pytest.mark.parametrize("run_id", ['"><script>x', "https:evil.test", "?next=evil", "#x", "%2e%2e", "ü &"])
    def test_stays_on_this_web_server_and_in_its_attribute_whatever_a_run_is_called(self, run_id):
        href = urlsplit(output_pages.task_page("d", run_id, "t", "")[1])
        assert (href.scheme, href.netloc, href.fragment) == ("", "", "")
        assert href.path.startswith("/dags/d/")
        assert not set(href.geturl()) & set("\"'<> ")


class TestPlugin:
    def test_is_registered_with_the_link(self):
        plugins = plugins_manager._get_plugins()[0] if IS_AIRFLOW_3 else plugins_of_airflow_2()
        (plugin,) = [plugin for plugin in plugins if plugin.name == "output_pages"]
        assert [link.name for link in plugin.operator_extra_links] == ["Open output"]

    def test_has_pages_for_one_line_only(self):
        plugin = output_pages.OutputPagesPlugin()
        assert bool(plugin.external_views) is IS_AIRFLOW_3
        if IS_AIRFLOW_3:
            assert plugin.appbuilder_views == []
        else:
            assert plugin.fastapi_apps == []

    def test_makes_no_other_process_import_a_web_framework(self, start_python):
        process = start_python(
            "import sys\n"
            "import output_pages\n"
            "plugin = output_pages.OutputPagesPlugin()\n"
            "print([name for name in ('fastapi', 'flask_appbuilder', 'include') if name in sys.modules])\n"
        )
        assert process.communicate()[0].splitlines()[-1] == "[]"

    def test_finds_the_project_in_a_process_that_has_only_the_plugins_folder_on_its_path(self, start_python, tmp_path):
        process = start_python(
            "import os, sys\n"
            "os.chdir(sys.argv[1])\n"
            "sys.path[:] = [path for path in sys.path if path not in ('', sys.argv[2])]\n"
            "import output_pages\n"
            "print(output_pages.pages().__file__)\n",
            tmp_path,
            ROOT,
        )
        assert process.communicate()[0].splitlines()[-1] == str(ROOT / "include/nyc_taxi/web/pages.py")


def plugins_of_airflow_2():
    plugins_manager.ensure_plugins_loaded()
    return plugins_manager.plugins


@dataclass
class Server:
    """An Airflow web server of the project, with the outputs of a run of DAG_FILE."""

    url: str
    password: str
    data_dir: Path
    run_id: str

    def get(self, path: str, session: Any = requests, **options: Any) -> requests.Response:
        return session.get(self.url + path, allow_redirects=False, timeout=60, **options)

    def sign_in(self) -> requests.Session:
        """A session with the cookie that the UI's login gives."""
        session = requests.Session()
        session.trust_env = False
        if IS_AIRFLOW_3:
            login = {"username": "admin", "password": self.password}
            answer = session.post(f"{self.url}/auth/token", json=login, timeout=60)
            session.cookies.set("_token", answer.json()["access_token"])
        else:
            page = session.get(f"{self.url}/login/", timeout=60).text
            (token,) = re.findall(r'name="csrf_token"[^>]*value="([^"]+)"', page)
            login = {"username": "admin", "password": self.password, "csrf_token": token}
            session.post(f"{self.url}/login/", data=login, timeout=60)
        return session

    def links(self, session: requests.Session, task_id: str, map_index: int = -1) -> dict[str, str | None]:
        """A task's links as the UI gets them."""
        if IS_AIRFLOW_3:
            path = f"/api/v2/dags/outputs/dagRuns/{self.run_id}/taskInstances/{task_id}/links"
            return self.get(path, session, params={"map_index": map_index}).json()["extra_links"]
        asked = {"dag_id": "outputs", "task_id": task_id, "map_index": map_index, "link_name": "Open output"}
        answer = self.get("/extra_links", session, params=asked | {"execution_date": "2023-02-01T00:00:00+00:00"})
        return {"Open output": answer.json()["url"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A new server with a new home, a new metadata database and one run, started as a user starts it."""
    folder = tmp_path_factory.mktemp("server")
    data_dir, dags, port = folder / "data", folder / "dags", free_port()
    dags.mkdir()
    (dags / "outputs.py").write_text(DAG_FILE.format(picture=PICTURE))
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": f"{folder}/logs",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": "x" * 64,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__WEBSERVER__WEB_SERVER_HOST": "127.0.0.1",
        "AIRFLOW__WEBSERVER__WEB_SERVER_PORT": str(port),
        "AIRFLOW__WEBSERVER__WORKERS": "1",
        BASE_URL: url,
        "NYC_TAXI_DATA_DIR": str(data_dir),
    }
    # The server has no PYTHONPATH: as in `make standalone`, it must find the project by itself.
    path = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])

    def run(*command: str) -> str:
        done = subprocess.run(
            command, env=environment | {"PYTHONPATH": path}, capture_output=True, text=True, check=False, cwd=folder
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    airflow = str(Path(sys.executable).with_name("airflow"))
    run(airflow, "db", "migrate")
    run(airflow, "dags", "reserialize")
    found = re.search(r"^RUN (.*) (\S+)$", run(sys.executable, "-c", RUN_IT, str(dags)), re.MULTILINE)
    assert found, "the run did not end"
    assert found[1].endswith("success")
    if not IS_AIRFLOW_3:
        names = ("--username", "--password", "--firstname", "--lastname", "--email", "--role")
        values = ("admin", "secret", "A", "B", "admin@example.test", "Admin")
        run(airflow, "users", "create", *(word for pair in zip(names, values, strict=True) for word in pair))

    (data_dir / "outputs/green/manhattan_stats_2023-02.geojson").write_bytes(FIGURES)
    (data_dir / "secret.png").write_bytes(b"secret")
    (data_dir / "dbt").mkdir()
    (data_dir / "dbt/index.html").write_bytes(TABLES)
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [airflow, "api-server" if IS_AIRFLOW_3 else "webserver"],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        health = "/api/v2/monitor/health" if IS_AIRFLOW_3 else "/health"
        wait_for(url + health, lambda: process.poll() is None, folder / "server.log")
        passwords = folder / "simple_auth_manager_passwords.json.generated"
        password = json.loads(passwords.read_text())["admin"] if IS_AIRFLOW_3 else "secret"
        yield Server(url, password, data_dir, found[2])
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(url: str, is_running: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while is_running() and time.monotonic() < deadline:
        with contextlib.suppress(requests.RequestException):
            if requests.get(url, timeout=5).ok:
                return
        time.sleep(0.5)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def signed_in(server: Server) -> requests.Session:
    return server.sign_in()


def raw_get(server: Server, path: str, session: requests.Session) -> tuple[http.client.HTTPResponse, bytes]:
    """Send a path unchanged; `requests` would normalize it first."""
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in session.cookies)
    with contextlib.closing(http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)) as connection:
        connection.request("GET", path, headers={"Cookie": cookies})
        answer = connection.getresponse()
        return answer, answer.read()


INDEX, PAGE = "/nyc-taxi/outputs", "/nyc-taxi/outputs/green/manhattan_map_2023-02.png"
DBT_DOCS, TABLES = "/nyc-taxi/dbt", b"<script>all tables</script>"
FILE, DATA = "/nyc-taxi/files/green/manhattan_map_2023-02.png", "/nyc-taxi/files/green/manhattan_stats_2023-02.geojson"
TRAVERSALS = [
    "/nyc-taxi/files/../secret.png",
    "/nyc-taxi/files/green/../../secret.png",
    "/nyc-taxi/files/%2e%2e/secret.png",
    "/nyc-taxi/files/..%2fsecret.png",
    "/nyc-taxi/files/..%5csecret.png",
    "/nyc-taxi/files/%252e%252e/secret.png",
    "/nyc-taxi/files/green/%2e%2e/%2e%2e/secret.png",
    "/nyc-taxi/files/%2fetc/passwd.png",
    "/nyc-taxi/outputs/../secret.png",
    "/nyc-taxi/outputs/..%2fsecret.png",
]


@pytest.mark.slow
class TestServer:
    @pytest.mark.parametrize("path", [INDEX, PAGE, FILE, DATA, DBT_DOCS, "/nyc-taxi/files/green/missing.png"])
    def test_shows_a_stranger_nothing(self, server, path):
        answer = server.get(path)
        if IS_AIRFLOW_3:
            assert answer.status_code == 401
            assert answer.json() == {"detail": "Not authenticated"}
        else:
            assert answer.status_code == 302
            assert "/login/?next=" in answer.headers["Location"]
            assert b"manhattan" not in answer.content.replace(answer.headers["Location"].encode(), b"")
        assert PICTURE not in answer.content
        assert TABLES not in answer.content

    @pytest.mark.parametrize("path", ["/nyc-taxi/docs", "/nyc-taxi/redoc", "/nyc-taxi/openapi.json", "/nyc-taxi/"])
    def test_has_no_other_pages_below_that_path(self, server, signed_in, path):
        assert server.get(path).status_code == 404
        assert server.get(path, signed_in).status_code == 404

    @pytest.mark.skipif(not IS_AIRFLOW_3, reason="2.11 redirects every stranger")
    @pytest.mark.parametrize("cookie", [None, "nonsense"])
    def test_sends_a_strangers_browser_to_the_login_and_back(self, server, cookie):
        cookies = {"_token": cookie} if cookie else None
        answer = server.get(PAGE, headers={"Accept": "text/html,*/*"}, cookies=cookies)
        assert answer.status_code == 307
        assert answer.headers["Location"] == (
            "/api/v2/auth/login?next=%2Fnyc-taxi%2Foutputs%2Fgreen%2Fmanhattan_map_2023-02.png"
        )
        with_task = server.get(f"{PAGE}?dag_id=d&run_id=a%2Bb", headers={"Accept": "text/html"}, cookies=cookies)
        (back,) = parse_qs(urlsplit(with_task.headers["Location"]).query)["next"]
        assert back == f"{PAGE}?dag_id=d&run_id=a%2Bb"
        login = server.get(answer.headers["Location"])
        assert login.status_code == 307
        assert login.headers["Location"].endswith(
            "/auth/login?next=%2Fnyc-taxi%2Foutputs%2Fgreen%2Fmanhattan_map_2023-02.png"
        )

    @pytest.mark.skipif(not IS_AIRFLOW_3, reason="2.11 has sessions, no tokens")
    def test_accepts_a_token_as_the_api_does(self, server, signed_in):
        token = signed_in.cookies["_token"]
        assert server.get(FILE, headers={"Authorization": f"Bearer {token}"}).content == PICTURE
        assert server.get(FILE, headers={"Authorization": f"Bearer {token}x"}).status_code in (401, 403)

    def test_shows_a_signed_in_user_the_list_the_page_and_the_files(self, server, signed_in):
        index = server.get(INDEX, signed_in)
        assert index.status_code == 200
        assert f'<a href="{PAGE}">Manhattan map, February 2023</a>' in index.text

        page = server.get(PAGE, signed_in)
        assert page.status_code == 200
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; img-src 'self'")
        assert f'<img src="{FILE}"' in page.text
        assert f'href="{DATA}"' in page.text

        picture = server.get(FILE, signed_in)
        assert (picture.status_code, picture.content) == (200, PICTURE)
        assert picture.headers["Content-Type"] == "image/png"
        assert picture.headers["X-Content-Type-Options"] == "nosniff"

        figures = server.get(DATA, signed_in)
        assert (figures.status_code, figures.content) == (200, FIGURES)
        assert figures.headers["Content-Disposition"].startswith("attachment")

    @pytest.mark.parametrize("path", [INDEX, PAGE, FILE, DATA, DBT_DOCS, "/nyc-taxi/files/green/missing.png"])
    def test_answers_head_like_get_but_without_a_body(self, server, signed_in, path):
        identity = {"Accept-Encoding": "identity"}
        whole = server.get(path, signed_in, headers=identity)
        head = signed_in.head(server.url + path, headers=identity, timeout=60)
        assert (head.status_code, head.content) == (whole.status_code, b"")
        for name in ("Content-Type", "Content-Length", "ETag", "Last-Modified", "Content-Security-Policy"):
            assert head.headers.get(name) == whole.headers.get(name), name
        assert signed_in.post(server.url + path, timeout=60).status_code in (400, 405)
        assert requests.head(server.url + path, timeout=60, allow_redirects=False).status_code in (302, 401)

    def test_sends_ranges_of_a_file_and_nothing_that_the_browser_has_cached(self, server, signed_in):
        whole = server.get(DATA, signed_in)  # asks for compression, too: no part of what is compressed has its ETag
        etag = whole.headers["ETag"]
        assert whole.content == FIGURES
        assert whole.headers["Content-Length"] == str(len(FIGURES))
        part = server.get(DATA, signed_in, headers={"Range": "bytes=2-5", "If-Range": etag})
        assert (part.status_code, part.content) == (206, FIGURES[2:6])
        assert part.headers["Content-Range"] == f"bytes 2-5/{len(FIGURES)}"
        assert server.get(DATA, signed_in, headers={"Range": "bytes=2-5", "If-Range": '"x"'}).status_code == 200
        beyond = server.get(DATA, signed_in, headers={"Range": "bytes=99999-"})
        assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{len(FIGURES)}")
        known = server.get(DATA, signed_in, headers={"If-None-Match": etag})
        assert (known.status_code, known.content, known.headers["ETag"]) == (304, b"", etag)

    def test_sends_a_file_larger_than_one_chunk_unchanged(self, server, signed_in):
        content = os.urandom(700_000)
        (server.data_dir / "outputs/large.csv").write_bytes(content)
        assert server.get("/nyc-taxi/files/large.csv", signed_in).content == content

    def test_shows_a_signed_in_user_dbts_documentation_in_a_sandbox(self, server, signed_in):
        assert f'<a href="{DBT_DOCS}">' in server.get(INDEX, signed_in).text
        answer = server.get(DBT_DOCS, signed_in)
        assert (answer.status_code, answer.content) == (200, TABLES)
        assert answer.headers["Content-Security-Policy"].endswith("; sandbox allow-scripts")
        assert answer.headers["Cache-Control"] == "private, no-cache"

    @pytest.mark.parametrize(
        "path", [INDEX, f"{INDEX}/", FILE, DBT_DOCS, f"{DBT_DOCS}/", "/nyc-taxi", "/nyc-taxi/", "/nyc-taxi/files"]
    )
    @pytest.mark.parametrize("accepted", ["text/html", "*/*"])
    def test_never_redirects_to_the_host_that_a_request_names(self, server, signed_in, path, accepted):
        for session in (requests, signed_in):
            answer = server.get(path, session, headers={"Host": "evil.test", "Accept": accepted})
            assert urlsplit(answer.headers.get("Location", "")).netloc == ""

    @pytest.mark.parametrize("path", TRAVERSALS)
    def test_shows_nothing_outside_the_outputs_folder(self, server, signed_in, path):
        answer, content = raw_get(server, path, signed_in)
        if answer.status == 308:  # 2.11 first makes two slashes one
            answer, content = raw_get(server, urlsplit(answer.headers["Location"]).path, signed_in)
        assert answer.status == 404
        assert b"secret" not in content.replace(b"secret.png", b"")

    def test_says_that_there_is_no_such_output(self, server, signed_in):
        answer = server.get("/nyc-taxi/outputs/green/manhattan_map_1999-01.png", signed_in)
        assert answer.status_code == 404
        assert "No such output" in answer.text

    def test_stores_the_link_of_a_task_that_has_made_something(self, server, signed_in):
        for task, map_index, path in (("map", -1, PAGE), ("many", 1, "/nyc-taxi/outputs/green/map%202.png")):
            (link,) = server.links(signed_in, task, map_index).values()
            assert urlsplit(link).path == path
            page = server.get(link, signed_in)
            assert page.status_code == 200
            (back,) = re.findall(r'<a class="task" href="([^"]+)">', page.text)
            assert server.get(html.unescape(back), signed_in).status_code == 200
            where = urlsplit(html.unescape(back))
            if IS_AIRFLOW_3:
                tail = f"tasks/{task}" + (f"/mapped/{map_index}" if map_index >= 0 else "")
                assert unquote(where.path) == f"/dags/outputs/runs/{server.run_id}/{tail}"
            else:
                query = dict(parse_qsl(where.query))
                assert (where.path, query["dag_run_id"], query["task_id"]) == (
                    "/dags/outputs/grid",
                    server.run_id,
                    task,
                )
                assert query["base_date"] == "2023-02-01T00:00:00+00:00"
                assert query.get("map_index") == (str(map_index) if map_index >= 0 else None)

    @pytest.mark.parametrize("query", ["", "?dag_id=outputs", "?dag_id=//evil.test&run_id=r&task_id=t", "?map_index=x"])
    def test_shows_no_way_back_if_the_address_names_no_task(self, server, signed_in, query):
        page = server.get(PAGE + query, signed_in)
        assert page.status_code == 200
        assert 'class="task"' not in page.text
        assert "evil" not in page.text

    def test_stores_no_link_of_a_task_that_has_made_nothing(self, server, signed_in):
        assert server.links(signed_in, "nothing") == {"Open output": None}

    def test_has_the_list_in_its_navigation(self, server, signed_in):
        if IS_AIRFLOW_3:
            plugins = server.get("/api/v2/plugins", signed_in).json()["plugins"]
            (plugin,) = [found for found in plugins if found["name"] == "output_pages"]
            assert [view["href"] for view in plugin["external_views"]] == [INDEX]
        else:
            home = server.get("/home", signed_in).text
            assert re.search(r'href="/nyc-taxi/outputs"[^>]*>\s*Taxi outputs', home)
