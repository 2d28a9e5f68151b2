"""kubernetes/values.yaml: what can be told without a cluster; with the chart at hand, what Helm makes of it.

The chart comes from no package registry. Where it is at hand, HELM_AIRFLOW_CHART is its .tgz or its folder, and `helm`
is on the PATH: then the last tests render it.
"""

import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections import Counter
from urllib.parse import urlsplit

import pytest
import yaml
from cryptography.fernet import Fernet
from sqlalchemy.engine import make_url

from tests.conftest import ROOT
from warehouse_hook import WRITERS, WarehouseHook

VALUES = ROOT / "kubernetes" / "values.yaml"
PAGE = ROOT / "docs" / "how-to" / "kubernetes.md"

BY_THE_CHART = {
    "AIRFLOW__CORE__EXECUTOR": "executor",
    "AIRFLOW__CORE__FERNET_KEY": "fernetKeySecretName",
    "AIRFLOW__API__SECRET_KEY": "apiSecretKeySecretName",
    "AIRFLOW__API_AUTH__JWT_SECRET": "jwtSecretName",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "data",
    "AIRFLOW__CELERY__BROKER_URL": "data",
}
"""What the chart puts into the environment, and the value that says what."""

ONLY_HERE = {
    "AIRFLOW_CONN_WAREHOUSE_STORAGE": "the lake's files are in S3; in Compose they are in a volume",
    "AIRFLOW__CORE__AUTH_MANAGER": "the chart would set FAB's; without the chart it is this one",
}
ONLY_IN_COMPOSE = {
    "AIRFLOW__CELERY__RESULT_BACKEND": "Airflow derives it from the database's connection, which the chart gives all"
}
OTHERWISE = {
    "AIRFLOW_CONN_WAREHOUSE": "files in S3",
    "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": "the name of the chart's service",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": "copied from a Secret, not from a volume",
}
SECRETS = {
    "nyc-taxi-keys": {"fernet-key", "jwt-secret", "api-secret-key"},
    "nyc-taxi-database": {"connection"},
    "nyc-taxi-broker": {"connection", "password"},
    "nyc-taxi-connections": {"catalog", "storage"},
    "nyc-taxi-admin": {"passwords.json"},
}
CLAIMS = {"nyc-taxi-data", "nyc-taxi-logs"}
PARTS = ("scheduler", "apiServer", "dagProcessor", "triggerer")


class Strict(yaml.SafeLoader):
    """Refuses a key that comes twice: YAML's own loader, and Helm's, take the last one in silence."""

    def construct_mapping(self, node, deep=False):
        keys = Counter(self.construct_object(key) for key, _ in node.value)
        twice = [key for key, times in keys.items() if times > 1]
        assert not twice, f"line {node.start_mark.line + 1}: {twice} twice"
        return super().construct_mapping(node, deep)


@pytest.fixture(scope="module")
def values():
    return yaml.load(VALUES.read_text(), Strict)


@pytest.fixture(scope="module")
def environment(values):
    """The environment that the values say in the clear; airflow.cfg's settings by the names of their variables."""
    found = {entry["name"]: entry["value"] for entry in values["env"]}
    found |= {entry["name"]: entry["value"] for entry in yaml.safe_load(values["extraEnv"])}
    for section, settings in values["config"].items():
        found |= {f"AIRFLOW__{section.upper()}__{key.upper()}": str(value) for key, value in settings.items()}
    return found


@pytest.fixture(scope="module")
def compose():
    text = (ROOT / "docker-compose.yaml").read_text()
    text = re.sub(r"\$\{\w+:?-([^}]*)\}", r"\1", text)  # what a variable is when .env does not say it
    return yaml.safe_load(text)


@pytest.fixture(scope="module")
def dockerfile():
    """The image's environment, its user and its group."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    env = re.findall(r"(\w+)=('[^']*'|\S+)", re.search(r"^ENV (.*)$", text, re.MULTILINE)[1])
    user, group = re.search(r"^USER (\d+):(\d+)$", text, re.MULTILINE).groups()
    return {name: value.strip("'") for name, value in env}, int(user), int(group)


def every(node, key):
    """All values of the key, however deep."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from every(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from every(value, key)


def test_the_environment_is_that_of_compose_or_explained(values, environment, compose):
    parts = ("x-airflow-records", "x-airflow-queue", "x-warehouse")
    theirs = compose["x-airflow-common"]["environment"] | {k: v for part in parts for k, v in compose[part].items()}
    ours = environment.keys() | {entry["envName"] for entry in values["secret"]} | BY_THE_CHART.keys()

    assert ours - theirs.keys() == ONLY_HERE.keys()
    assert theirs.keys() - ours == ONLY_IN_COMPOSE.keys()
    assert all(values[name] for name in BY_THE_CHART.values())
    both = {name: (environment[name], str(theirs[name] or "")) for name in environment.keys() & theirs.keys()}
    assert {name for name, (our, their) in both.items() if our != their} == OTHERWISE.keys()


def test_the_image_is_the_dockerfiles(values, dockerfile):
    env, user, group = dockerfile
    (volume,), (mount,) = values["volumes"], values["volumeMounts"]
    (bundle,) = json.loads(env["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])

    pod = values["securityContexts"]["pod"]
    assert (values["uid"], values["gid"]) == (pod["runAsUser"], pod["runAsGroup"]) == (user, group)
    assert all(pod["runAsNonRoot"] for pod in every(values, "pod"))
    assert mount == {"name": volume["name"], "mountPath": env["NYC_TAXI_DATA_DIR"]}
    assert values["dagProcessor"]["dagBundleConfigList"] == [bundle]
    assert not values["dags"]["gitSync"]["enabled"]
    assert values["airflowVersion"] in (ROOT / "requirements.txt").read_text()
    # What the chart runs unless told otherwise, /entrypoint and /clean-logs, is in the official image only.
    for part in (values["workers"]["celery"], *(values[part] for part in PARTS if part != "apiServer")):
        assert part["livenessProbe"]["command"][0] == "python"
        assert part["logGroomerSidecar"] == {"enabled": False}
    assert values["scheduler"]["startupProbe"]["command"] == values["scheduler"]["livenessProbe"]["command"]


def test_no_secret_is_in_the_file(values, environment):
    named = {*every(values, "secretName"), *values["data"].values(), values["redis"]["passwordSecretName"]}
    named |= {value for key, value in values.items() if key.endswith("SecretName")}

    assert named == SECRETS.keys()
    assert all(entry["secretKey"] in SECRETS[entry["secretName"]] for entry in values["secret"])
    assert not [name for name in every(values, "password") if name]
    assert not re.search(r"://[^/\s'\"]*:[^/\s'\"]*@", VALUES.read_text()), "a URL with a password"
    assert "password" not in environment["AIRFLOW_CONN_WAREHOUSE"]
    assert values["data"].keys() == {"metadataSecretName", "brokerUrlSecretName"}


def test_nothing_is_published_and_nothing_may_ask_kubernetes(values):
    assert set(every(values, "type")) - {"RuntimeDefault"} == {"ClusterIP"}
    assert "ingress" not in values
    assert not values["allowPodLaunching"]
    accounts = list(every(values, "serviceAccount"))
    assert len(accounts) == len(PARTS) + len(["workers", "migrateDatabaseJob", "redis"])
    assert not any(account["automountServiceAccountToken"] for account in accounts)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The Secrets that the page's commands make, run by a shell with a `kubectl` that writes down what it is told."""
    folder = tmp_path_factory.mktemp("kubectl")
    kubectl = folder / "kubectl"
    kubectl.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    kubectl.chmod(0o755)
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (script,) = (block for block in blocks if "create secret generic" in block)
    names = ("POSTGRES_HOST", "AIRFLOW_DB_PASSWORD", "LAKE_PASSWORD", "S3_KEY", "S3_SECRET", "ADMIN_PASSWORD")
    environ = {name: f"made-up-{name}" for name in names} | {"PATH": f"{folder}:{os.environ['PATH']}"}
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True)
    secrets = {}
    for said in map(json.loads, done.stdout.splitlines()):
        assert said[:3] == ["create", "secret", "generic"]
        literals = (literal.removeprefix("--from-literal=") for literal in said[4:])
        secrets[said[3]] = dict(literal.split("=", 1) for literal in literals)
    return secrets


def test_the_page_makes_what_the_values_refer_to(values, made):
    page = PAGE.read_text()
    (applied,) = re.findall(r"<<'EOF'\n(.*?)^EOF$", page, re.MULTILINE | re.DOTALL)
    claims = {claim["metadata"]["name"]: claim for claim in yaml.safe_load_all(applied)}
    (version,) = re.findall(r"Helm chart, version (\d+\.\d+\.\d+):", VALUES.read_text())

    assert {name: set(keys) for name, keys in made.items()} == SECRETS
    assert claims.keys() == CLAIMS
    assert all(claim["spec"]["accessModes"] == ["ReadWriteMany"] for claim in claims.values())
    assert set(every(values, "claimName")) | set(every(values, "existingClaim")) == CLAIMS
    assert set(re.findall(r"--version (\S+)", page)) == {version}


def test_the_secrets_are_what_airflow_takes(made):
    keys, broker = made["nyc-taxi-keys"], urlsplit(made["nyc-taxi-broker"]["connection"])

    Fernet(keys["fernet-key"])
    assert min(len(keys["jwt-secret"]), len(keys["api-secret-key"])) >= 64
    assert make_url(made["nyc-taxi-database"]["connection"]).drivername == "postgresql+psycopg2"
    assert (broker.hostname, broker.password) == ("nyc-taxi-redis", made["nyc-taxi-broker"]["password"])
    assert json.loads(made["nyc-taxi-admin"]["passwords.json"]) == {"admin": "made-up-ADMIN_PASSWORD"}


def test_the_warehouse_is_a_lake_that_many_write(environment, made, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", environment["AIRFLOW_CONN_WAREHOUSE"])
    for key, connection in made["nyc-taxi-connections"].items():
        monkeypatch.setenv(f"AIRFLOW_CONN_WAREHOUSE_{key.upper()}", connection)

    hook = WarehouseHook()

    assert hook.is_lake
    assert hook.writers == WRITERS
    assert hook.place == "ducklake:postgres:warehouse_catalog, files in s3://nyc-taxi/lake/"
    assert "made-up-LAKE_PASSWORD" in str(hook._catalog_secret())
    assert "made-up-S3_SECRET" in str(hook._storage_secret())


def ask(command, **environ):
    """The exit code of a probe, run as the kubelet would."""
    assert command[0] == "python"
    done = subprocess.run([sys.executable, *command[1:]], env=os.environ | environ, timeout=60, check=False)
    return done.returncode


@pytest.fixture
def answers():
    """Starts a web server that answers all with this; returns its URL."""
    servers = []

    def start(body, code=200):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(code)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("part", "key"), [("dagProcessor", "dag_processor"), ("triggerer", "triggerer")])
def test_the_probe_tells_a_late_heartbeat_from_a_silent_api_server(values, answers, part, key):
    command = values[part]["livenessProbe"]["command"]
    cases = [({key: {"status": "healthy"}}, 200, 0), ({key: {"status": "unhealthy"}}, 200, 1), ({}, 503, 0)]

    for body, code, expected in cases:
        url = f"{answers(body, code)}/execution/"
        assert ask(command, AIRFLOW__CORE__EXECUTION_API_SERVER_URL=url) == expected
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert ask(command, AIRFLOW__CORE__EXECUTION_API_SERVER_URL=f"http://127.0.0.1:{port}/execution/") == 0


def test_the_workers_probe_sees_the_connection_to_redis(values):
    command = values["workers"]["celery"]["livenessProbe"]["command"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        broker = f"redis://:made-up@nyc-taxi-redis:{port}/0"

        assert ask(command, AIRFLOW__CELERY__BROKER_URL=broker) == 1
        with socket.create_connection(("127.0.0.1", port)):
            assert ask(command, AIRFLOW__CELERY__BROKER_URL=broker) == 0


def test_a_worker_waits_for_the_api_server(values, answers):
    (container,) = values["workers"]["celery"]["extraInitContainers"]

    assert ask(container["command"], URL=answers({})) == 0
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(
            [sys.executable, *container["command"][1:]],
            env=os.environ | {"URL": answers({}, 503)},
            timeout=4,
            check=False,
            stdout=subprocess.DEVNULL,
        )


# -- with the chart --


@pytest.fixture(scope="module")
def rendered():
    helm, chart = shutil.which("helm"), os.environ.get("HELM_AIRFLOW_CHART")
    if not (helm and chart):
        missing = "helm" if not helm else "HELM_AIRFLOW_CHART, the official chart's .tgz"
        pytest.skip(f"{missing} is not there: the chart comes from no package registry (docs/how-to/kubernetes.md)")
    command = [helm, "template", "nyc-taxi", chart, "--namespace", "nyc-taxi", "--values", str(VALUES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def pods(rendered):
    """The pods' specs by the names of what makes them."""
    kinds = ("Deployment", "StatefulSet", "Job")
    return {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in rendered if one["kind"] in kinds}


def test_rendered_every_pod_runs_our_image_as_its_user(values, rendered):
    found = pods(rendered)
    names = ("api-server", "scheduler", "dag-processor", "triggerer", "worker", "redis", "run-airflow-migrations")
    assert found.keys() == {f"nyc-taxi-{name}" for name in names}

    for name, pod in found.items():
        containers = [*pod.get("initContainers", []), *pod["containers"]]
        assert pod["securityContext"]["runAsNonRoot"], name
        assert all(one["securityContext"]["allowPrivilegeEscalation"] is False for one in containers), name
        assert all(one["resources"]["limits"] for one in containers), name
        if name != "nyc-taxi-redis":
            image = f"{values['defaultAirflowRepository']}:{values['defaultAirflowTag']}"
            assert {one["image"] for one in containers} == {image}, name
            mounts = {one["name"]: one["mountPath"] for one in pod["containers"][0]["volumeMounts"]}
            assert mounts["nyc-taxi-data"] == "/opt/nyc-taxi-data", name
            assert {volume["name"] for volume in pod["volumes"]} >= mounts.keys(), name
    assert "/entrypoint" not in json.dumps(rendered)
    assert "/clean-logs" not in json.dumps(rendered)


def test_rendered_secrets_are_referred_to(rendered):
    assert not [one for one in rendered if one["kind"] == "Secret" and (one.get("data") or one.get("stringData"))]
    for name, pod in pods(rendered).items():
        references = {(one["name"], one["key"]) for one in every(pod, "secretKeyRef")}
        assert all(key in SECRETS[secret] for secret, key in references), name
        env = {one["name"] for one in pod["containers"][0]["env"]}
        assert len(env) == len(pod["containers"][0]["env"]), f"{name}: a variable twice"
        if name == "nyc-taxi-redis":
            continue
        assert env >= {"AIRFLOW_CONN_WAREHOUSE", "AIRFLOW_CONN_WAREHOUSE_CATALOG", "AIRFLOW_CONN_WAREHOUSE_STORAGE"}, (
            name
        )
        assert env >= {"AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"}, name
        assert "AIRFLOW_CONN_AIRFLOW_DB" not in env, name


def test_rendered_settings_and_workers(values, environment, rendered):
    (cfg,) = (one["data"]["airflow.cfg"] for one in rendered if "airflow.cfg" in (one.get("data") or {}))
    for name, value in environment.items():
        if found := re.fullmatch(r"AIRFLOW__(\w+?)__(\w+)", name):
            shown = f"{found[2].lower()} = {value}"
            assert shown in cfg or "{{" in value, shown
    assert "execution_api_server_url = http://nyc-taxi-api-server:8080/execution/" in cfg
    (worker,) = (one for one in rendered if one["metadata"]["name"] == "nyc-taxi-worker" and "replicas" in one["spec"])
    assert (worker["kind"], worker["spec"]["replicas"]) == ("Deployment", values["workers"]["celery"]["replicas"])
    assert "http://nyc-taxi-api-server:8080/execution/" in json.dumps(worker)
    spec = worker["spec"]["template"]["spec"]
    assert spec["containers"][0]["args"] == values["workers"]["celery"]["args"]
    assert [one["name"] for one in spec["initContainers"]][-1] == "wait-for-api-server"
    assert {one["spec"]["type"] for one in rendered if one["kind"] == "Service" and "type" in one["spec"]} <= {
        "ClusterIP"
    }
    assert not [one for one in rendered if one["kind"] in ("Ingress", "HTTPRoute")]
