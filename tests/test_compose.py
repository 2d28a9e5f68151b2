"""docker-compose.yaml as the compose tools read it: docker-compose 1.29, and Compose v2. No engine is needed."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.cluster.cluster import NOT_FOR_WORKERS
from tests.conftest import ROOT
from warehouse_hook import WRITERS, WarehouseHook

PLUGINS = [f"{prefix}/docker/cli-plugins" for prefix in ("/usr/local/libexec", "/usr/libexec", "/usr/lib")]
"""Where Compose v2 is, as a plugin of `docker`; it runs by itself too."""

SECRETS = [
    "ADMIN_PASSWORD",
    "POSTGRES_PASSWORD",
    "LAKE_PASSWORD",
    "REDIS_PASSWORD",
    "JWT_SECRET",
    "API_SECRET_KEY",
    "FERNET_KEY",
]
MADE_UP = {name: f"made-up-{name.lower()}-{'x' * 64}" for name in SECRETS}

AIRFLOW = [f"airflow-{name}" for name in ("init", "apiserver", "scheduler", "worker", "dag-processor", "triggerer")]
OURS = [*AIRFLOW, "tlc"]
OTHERS = ["postgres", "redis"]
CODE = [".airflowignore", "dags", "include", "plugins"]

NETWORKS = {
    "postgres": {"records", "lake"},
    "redis": {"queue"},
    "airflow-init": {"records", "lake"},
    "airflow-apiserver": {"web", "execution", "records"},
    "airflow-scheduler": {"records", "queue"},
    "airflow-worker": {"execution", "queue", "lake", "outside"},
    "airflow-dag-processor": {"records", "execution"},
    "airflow-triggerer": {"records", "execution"},
    "tlc": {"outside"},
}
RECORDS = {"POSTGRES_PASSWORD", "JWT_SECRET", "API_SECRET_KEY", "FERNET_KEY"}
"""Secrets of those who read Airflow's own records."""
QUEUE, LAKE = {"REDIS_PASSWORD"}, {"LAKE_PASSWORD"}
HAS = {
    "postgres": {"POSTGRES_PASSWORD"},
    "redis": QUEUE,
    "airflow-init": RECORDS | LAKE | {"ADMIN_PASSWORD"},
    "airflow-apiserver": RECORDS,
    "airflow-scheduler": RECORDS | QUEUE,
    "airflow-worker": QUEUE | LAKE,
    "airflow-dag-processor": RECORDS,
    "airflow-triggerer": RECORDS,
    "tlc": set(),
}
IMAGES = {
    "PYTHON_IMAGE": "python:3.11-slim-bookworm",
    "POSTGRES_IMAGE": "postgres:15-bookworm",
    "REDIS_IMAGE": "redis:7-bookworm",
}


@pytest.fixture(scope="module")
def tools():
    """The compose tools of this machine, by their major version."""
    found = {}
    for place in filter(None, [shutil.which("docker-compose"), *(f"{folder}/docker-compose" for folder in PLUGINS)]):
        if Path(place).exists():
            said = subprocess.run(
                [place, "version", "--short"], capture_output=True, text=True, timeout=120, check=True
            )
            found.setdefault("v1" if said.stdout.startswith("1.") else "v2", place)
    return found


@pytest.fixture(scope="module", params=["v1", "v2"])
def config(request, tools, tmp_path_factory):
    """Run the tool's `config` on the file, with settings from an env file and none from this machine's environment.

    What it says of the same settings is remembered.
    """
    if request.param not in tools:
        missing = f"Compose {request.param} is not installed; docs/how-to/compose.md says where it can be had"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)

    folder = tmp_path_factory.mktemp("compose")
    env_file = folder / "env"
    said = {}

    def run(settings=MADE_UP, *options):
        text = "".join(f"{name}={value}\n" for name, value in settings.items())
        if (text, options) not in said:
            env_file.write_text(text)
            file = ["--file", ROOT / "docker-compose.yaml", "--env-file", env_file]
            said[text, options] = subprocess.run(
                [tools[request.param], *file, *options, "config"],
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
                cwd=folder,
                env={"PATH": os.environ["PATH"], "HOME": str(folder)},
            )
        return said[text, options]

    return run


@pytest.fixture
def services(config):
    """The services by name, those of the profile `simulator` among them, as the tool understands the file."""
    return understood(config(MADE_UP, "--profile", "simulator"))


@pytest.fixture
def networks(config, services):
    """The networks by name."""
    return yaml.safe_load(config(MADE_UP, "--profile", "simulator").stdout)["networks"]


def understood(done):
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "the tool warns"
    return yaml.safe_load(done.stdout)["services"]


# The two tools write the same thing differently.


def environment(service):
    return service.get("environment") or {}


def published(service):
    """(address, port of the machine, port of the container) of each published port."""
    ports = []
    for port in service.get("ports", []):
        if isinstance(port, str):
            address, outside, inside = port.removesuffix("/tcp").rsplit(":", 2)
            ports.append((address, outside, inside))
        else:
            ports.append((port.get("host_ip"), str(port["published"]), str(port["target"])))
    return ports


def mounts(service, kind):
    return [mount for mount in service.get("volumes", []) if mount["type"] == kind]


def tmpfs(service):
    """The folders in memory, with their options."""
    return dict(entry.partition(":")[::2] for entry in service.get("tmpfs", []))


def writable(service):
    """The folders that are not of the read-only root file system."""
    mounted = {mount["target"] for mount in mounts(service, "volume") if not mount.get("read_only")}
    return mounted | tmpfs(service).keys()


def megabytes(size):
    """`2g`, as 1.29 says, or bytes, as v2 does."""
    number, unit = re.fullmatch(r"(\d+)([mg]?)", str(size)).groups()
    return int(number) * {"g": 1024, "m": 1, "": 1 / 2**20}[unit]


class TestServices:
    def test_they_are_all_there(self, services):
        assert sorted(services) == sorted([*OURS, *OTHERS])

    def test_the_simulator_comes_with_its_profile_only(self, config, services):
        assert [name for name, service in services.items() if service.get("profiles")] == ["tlc"]
        assert services["tlc"]["profiles"] == ["simulator"]
        without = understood(config())
        assert [name for name in without if not without[name].get("profiles")] == sorted([*AIRFLOW, *OTHERS])

    def test_ours_are_of_one_image_which_one_service_builds(self, services):
        assert {services[name]["image"] for name in OURS} == {"nyc-taxi-airflow:local"}
        assert [name for name in services if "build" in services[name]] == ["airflow-init"]
        assert services["airflow-init"]["build"]["args"] == {"PYTHON_IMAGE": "python:3.11-slim-bookworm"}

    def test_the_image_is_never_looked_for_in_a_registry(self, services):
        assert all(services[name]["pull_policy"] == "never" for name in OURS if name != "airflow-init")

    def test_workers_may_be_scaled(self, services):
        assert "container_name" not in services["airflow-worker"]
        assert not published(services["airflow-worker"])

    def test_what_runs_on_is_seen_to_be_healthy_and_is_started_again(self, services):
        for name in set(services) - {"airflow-init"}:
            assert services[name]["healthcheck"]["test"], name
            assert services[name]["restart"] == "unless-stopped", name

    def test_all_have_limits(self, services):
        for name, service in services.items():
            most = 5120 if name == "airflow-worker" else 2048
            assert 256 <= megabytes(service["mem_limit"]) <= most, name
            assert 1 <= float(service["cpus"]) <= 2, name
            assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name

    def test_tasks_start_when_the_api_listens(self, services):
        for name in ("airflow-worker", "airflow-scheduler"):
            assert services[name]["depends_on"]["airflow-apiserver"]["condition"] == "service_healthy"
        for name in set(OURS) - {"airflow-init"}:
            assert services[name]["depends_on"]["airflow-init"]["condition"] == "service_completed_successfully"


class TestWhoCanReachWhat:
    def test_one_port_is_published_on_this_machine_only(self, services):
        assert {name: published(service) for name, service in services.items() if published(service)} == {
            "airflow-apiserver": [("127.0.0.1", "8080", "8080")]
        }
        assert all("network_mode" not in service for service in services.values())

    def test_another_port_is_on_this_machine_only_too(self, config):
        services = understood(config(MADE_UP | {"AIRFLOW_PORT": "9999"}))
        assert published(services["airflow-apiserver"]) == [("127.0.0.1", "9999", "8080")]

    def test_ours_run_as_the_images_user_who_is_not_root(self, services):
        users = re.findall(r"^USER (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        assert users == ["50000:50000"]
        assert not [name for name in OURS if "user" in services[name]]
        for name in OTHERS:
            assert services[name]["user"] == f"{name}:{name}"

    def test_every_service_is_held_to_what_it_needs(self, services):
        for name, service in services.items():
            assert service.get("read_only") is True, name
            assert service.get("cap_drop") == ["ALL"], name
            assert service.get("security_opt") == ["no-new-privileges:true"], name
            assert 64 <= service.get("pids_limit", 0) <= 1024, name
            assert not {"privileged", "cap_add", "devices", "pid", "ipc", "network_mode"} & service.keys(), name

    def test_what_is_written_has_a_place(self, services):
        for name, service in services.items():
            assert "/tmp" in writable(service), name
        for name in AIRFLOW:  # airflow.cfg, which is written at the start, by the image's user
            assert {"uid=50000", "gid=50000"} <= set(tmpfs(services[name])["/opt/airflow"].split(",")), name
            assert "/opt/airflow/logs" in writable(services[name]), name
        assert {"/var/lib/postgresql/data", "/run/postgresql"} <= writable(services["postgres"])
        assert "/data" in writable(services["redis"])

    def test_what_a_worker_spills_is_on_its_own_disk(self, services):
        (spill,) = (mount for mount in mounts(services["airflow-worker"], "volume") if mount["target"] == "/tmp")
        assert "source" not in spill  # or workers would share it
        assert "/tmp" not in tmpfs(services["airflow-worker"])

    def test_each_is_in_the_networks_that_it_needs(self, services):
        assert {name: set(service["networks"]) for name, service in services.items()} == NETWORKS

    def test_workers_and_the_simulator_only_have_a_way_out(self, networks):
        assert networks.keys() == set().union(*NETWORKS.values())
        assert {name for name, network in networks.items() if not (network or {}).get("internal")} == {"web", "outside"}
        # The published port needs a network that is not internal.
        assert networks["web"]["driver_opts"] == {"com.docker.network.bridge.enable_ip_masquerade": "false"}

    def test_of_this_machine_only_the_code_is_mounted_and_for_reading(self, services):
        for name, service in services.items():
            for mount in mounts(service, "bind"):
                assert mount["read_only"] is True, (name, mount)
                assert Path(mount["source"]).relative_to(ROOT).as_posix() in CODE, (name, mount)
                assert mount["target"] == f"/opt/nyc-taxi/{Path(mount['source']).name}", (name, mount)
        for name in AIRFLOW:
            assert sorted(Path(mount["source"]).name for mount in mounts(services[name], "bind")) == CODE, name
        assert not [name for name in OTHERS if mounts(services[name], "bind")]

    def test_the_file_of_the_admins_password_is_seen_by_two(self, services):
        seen = {n for n, service in services.items() if "auth" in [m.get("source") for m in mounts(service, "volume")]}
        assert seen == {"airflow-init", "airflow-apiserver"}

    def test_workers_share_the_lakes_files_and_the_logs(self, services):
        volumes = mounts(services["airflow-worker"], "volume")
        shared = {mount["source"]: mount["target"] for mount in volumes if "source" in mount}
        assert shared == {"data": "/opt/nyc-taxi-data", "logs": "/opt/airflow/logs"}


class TestSecrets:
    def test_the_example_has_them_all_and_no_value(self):
        example = (ROOT / ".env.example").read_text()
        secrets = re.findall(r"^(\w+)=(.*)$", example.partition("-- settings")[0], re.MULTILINE)
        assert secrets == [(name, "") for name in SECRETS]

    def test_the_examples_settings_are_the_defaults(self, config):
        example = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
        project = {"COMPOSE_PROJECT_NAME": example["COMPOSE_PROJECT_NAME"]}
        assert understood(config(example | MADE_UP)) == understood(config(project | MADE_UP))

    @pytest.mark.parametrize("name", SECRETS)
    def test_without_one_the_stack_is_refused_by_its_name(self, config, name):
        done = config(MADE_UP | {name: ""})
        assert done.returncode != 0
        assert f"set {name} in .env" in done.stderr
        assert not [value for value in MADE_UP.values() if value in done.stderr]

    def test_without_any_the_stack_is_refused(self, config):
        done = config({})
        assert done.returncode != 0
        assert re.search(r"set [A-Z_]+ in .env", done.stderr)

    def test_they_are_in_environments_only_not_on_command_lines_or_in_the_image(self, services):
        for name, service in services.items():
            rest = yaml.safe_dump({key: value for key, value in service.items() if key != "environment"}, width=10**6)
            assert not [secret for secret, value in MADE_UP.items() if value in rest], name

    def test_each_goes_to_those_who_need_it(self, services):
        has = {
            name: {s for s, value in MADE_UP.items() if value in yaml.safe_dump(environment(service), width=10**6)}
            for name, service in services.items()
        }
        assert has == HAS

    def test_no_worker_knows_how_to_reach_airflows_own_records(self, services):
        worker = environment(services["airflow-worker"])
        assert MADE_UP["POSTGRES_PASSWORD"] not in yaml.safe_dump(services["airflow-worker"], width=10**6)
        assert "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" not in worker
        # Without a setting Airflow takes its own database for the results, of which a worker knows nothing.
        assert worker["AIRFLOW__CELERY__RESULT_BACKEND"].startswith("redis://")
        assert not NOT_FOR_WORKERS & worker.keys()  # as tests/integration/test_cluster.py runs them

    def test_where_two_of_airflow_have_a_setting_it_is_the_same(self, services):
        settings = {}
        for name in AIRFLOW:
            for setting, value in environment(services[name]).items():
                assert settings.setdefault(setting, value) == value, (name, setting)


class TestImages:
    @pytest.mark.parametrize("name", IMAGES)
    def test_each_may_be_said_by_its_digest(self, config, name):
        image = f"{IMAGES[name]}@sha256:{'0' * 64}"
        services = understood(config(MADE_UP | {name: image}))
        named = {service["image"] for service in services.values()}
        named.add(services["airflow-init"]["build"]["args"]["PYTHON_IMAGE"])
        assert named == {"nyc-taxi-airflow:local", image, *IMAGES.values()} - {IMAGES[name]}

    def test_the_dockerfile_builds_on_the_one_it_is_told(self):
        dockerfile = (ROOT / "Dockerfile").read_text()
        assert f"ARG PYTHON_IMAGE={IMAGES['PYTHON_IMAGE']}\nFROM ${{PYTHON_IMAGE}}\n" in dockerfile


class TestWarehouse:
    @pytest.fixture
    def hook(self, config, monkeypatch):
        """The hook, as it is in a worker."""

        def make(settings=MADE_UP):
            for name, value in environment(understood(config(settings))["airflow-worker"]).items():
                if name.startswith("AIRFLOW_CONN_"):
                    monkeypatch.setenv(name, value)
            return WarehouseHook()

        return make

    def test_it_is_a_lake_that_many_write(self, hook):
        hook = hook()
        assert hook.is_lake
        assert hook.writers == WRITERS
        assert hook.place == "ducklake:postgres:warehouse_catalog, files in /opt/nyc-taxi-data/lake/"
        catalog = hook.get_connection("warehouse_catalog")
        assert (catalog.host, catalog.schema, catalog.login) == ("postgres", "lake", "lake")
        assert catalog.password == MADE_UP["LAKE_PASSWORD"]

    def test_it_is_a_file_where_the_settings_say_so_as_the_example_shows(self, hook):
        shown = re.search(r"WAREHOUSE=(duckdb://\S+)", (ROOT / ".env.example").read_text())[1]
        hook = hook(MADE_UP | {"WAREHOUSE": shown})
        assert hook.get_database() == "/opt/nyc-taxi-data/warehouse.duckdb"
        assert hook.writers == 1
