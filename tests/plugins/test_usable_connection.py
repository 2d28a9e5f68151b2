"""A connection that is set but invalid is an error that names it; Airflow would go on with the default."""

import json

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from include.local.__main__ import main
from include.nyc_taxi.errors import SettingError
from include.orchestration import pool
from include.orchestration.alerts import alert_on_failure
from tlc_hook import TlcHook
from usable_connection import usable
from warehouse_hook import WarehouseHook

UNUSABLE = {
    "JSON that breaks off": '{"conn_type": "duckdb", "host": "/srv/ses4ame.duckdb"',
    "JSON without a type": '{"host": "/srv/ses4ame.duckdb"}',
    "JSON with a key that there is not": '{"conn_type": "duckdb", "hots": "/srv/ses4ame.duckdb"}',
    "a path": "/srv/ses4ame.duckdb",
    "a name": "ses4ame.duckdb",
    "of Python": "{'conn_type': 'duckdb', 'host': '/srv/ses4ame.duckdb'}",
    "a list": '["ses4ame"]',
    "a URI with a port that is none": "duckdb://ses4ame:port/x",
    "blank": "  ",
}


@pytest.mark.parametrize("value", UNUSABLE.values(), ids=UNUSABLE)
class TestUnusable:
    def test_warehouse(self, monkeypatch, value, tmp_path, capsys):
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", value)
        for use in (lambda: WarehouseHook().get_conn(), lambda: WarehouseHook().exists(), pool.set_up):
            with pytest.raises(SettingError, match="AIRFLOW_CONN_WAREHOUSE") as error:
                use()
            assert "ses4ame" not in str(error.value)
            assert error.value.__cause__ is None
        assert not (tmp_path / "data").exists()
        for command in (["status"], ["compact"], ["pool"], ["quality", "--fleet", "green", "--month", "2023-01"]):
            assert main(command) in (1, 2)
            assert "AIRFLOW_CONN_WAREHOUSE" in capsys.readouterr().err

    @pytest.mark.parametrize(("key", "name"), [("catalog_conn_id", "CAT"), ("storage_conn_id", "STORE")])
    def test_what_a_lake_needs(self, monkeypatch, value, tmp_path, key, name):
        lake = {"data_path": f"{tmp_path}/lake/", key: name.lower()}
        monkeypatch.setenv(
            "AIRFLOW_CONN_WAREHOUSE",
            json.dumps({"conn_type": "duckdb", "host": f"ducklake:{tmp_path}/c.ducklake", "extra": lake}),
        )
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", value)
        with pytest.raises(SettingError, match=f"AIRFLOW_CONN_{name}"):
            WarehouseHook().get_conn()
        assert not (tmp_path / "lake").exists()

    def test_tlc(self, monkeypatch, value):
        monkeypatch.setenv("AIRFLOW_CONN_TLC", value)
        with pytest.raises(SettingError, match="AIRFLOW_CONN_TLC"):
            TlcHook().url("/x")

    @pytest.mark.parametrize("name", ["ALERT_SMTP", "ALERT_WEBHOOK"])
    def test_alert(self, monkeypatch, value, name, logged):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", value)
        from types import SimpleNamespace

        alert_on_failure({"ti": SimpleNamespace(dag_id="d", task_id="t", try_number=1)})
        assert f"AIRFLOW_CONN_{name}" in logged()


def test_an_empty_variable_defines_no_connection(monkeypatch, data_dir):
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "")
    monkeypatch.setenv("AIRFLOW_CONN_TLC", "")
    assert WarehouseHook().get_database() == str(data_dir / "warehouse.duckdb")
    assert TlcHook().url("/x") == "https://d37ci6vzurychx.cloudfront.net/x"
    with pytest.raises(AirflowNotFoundException):
        usable(BaseHook.get_connection, "nothing", "http")


@pytest.mark.parametrize("kind", ["postgres", "sqlite", "http"])
def test_a_connection_of_another_type_is_refused(monkeypatch, kind):
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": kind, "host": "/srv/w.duckdb"}))
    with pytest.raises(SettingError, match=f"AIRFLOW_CONN_WAREHOUSE: expected the type duckdb, found {kind}"):
        WarehouseHook().get_database()


def test_a_likely_misspelling_of_the_name_is_logged(monkeypatch, caplog):
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOSE", "duckdb:////srv/w.duckdb")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_LAKE", "duckdb:////srv/w.duckdb")
    with pytest.raises(AirflowNotFoundException):
        usable(BaseHook.get_connection, "warehouse", "duckdb")
    assert "AIRFLOW_CONN_WAREHOUSE is not set, but AIRFLOW_CONN_WAREHOSE is" in caplog.text
    assert "LAKE" not in caplog.text


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"lock_timeout": "soon"}, "key 'lock_timeout' in its extra: expected a number of at least 0, found 'soon'"),
        ({"lock_timeout": -1}, "'lock_timeout' in its extra: expected a number of"),
        ({"writers": 0}, "'writers' in its extra: expected a whole number of at least 1, found 0"),
        ({"writers": 2.5}, "'writers' in its extra: expected a whole number"),
        ({"writers": True}, "'writers' in its extra: expected a whole number"),
        ({"threads": "many"}, "'threads' in its extra: expected a whole number"),
        ({"memory_limit": "lots"}, "'memory_limit' in its extra: expected a size such as 2GB, found 'lots'"),
        ({"read_only": "false"}, "'read_only' in its extra: expected true or false"),
        ({"memory_limits": "1GB"}, "extra: unknown key 'memory_limits'; did you mean memory_limit\\?"),
        ({"nothing_of_ours": 1}, "extra: unknown key 'nothing_of_ours'; known keys are lock_timeout"),
    ],
)
def test_an_invalid_extra_is_named(monkeypatch, tmp_path, extra, said):
    monkeypatch.setenv(
        "AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": f"{tmp_path}/w.duckdb", "extra": extra})
    )
    with pytest.raises(SettingError, match=said):
        WarehouseHook().get_conn()
    assert not (tmp_path / "w.duckdb").exists()


def test_extras_in_a_uri_may_be_strings(monkeypatch, tmp_path):
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", f"duckdb://{tmp_path}/w.duckdb?lock_timeout=2.5&writers=3&threads=1")
    hook = WarehouseHook()
    assert (hook.lock_timeout, hook.writers) == (2.5, 1)
    hook.get_conn().close()


@pytest.mark.parametrize(
    "value",
    [
        '{"conn_type": "duckdb", "host": "w.duckdb"}',
        "duckdb://w.duckdb",
        "duckdb://srv/w.duckdb",
        '{"conn_type": "duckdb", "extra": {"database": "w.duckdb"}}',
        '{"conn_type": "duckdb", "host": "ducklake:w.ducklake", "extra": {"data_path": "/srv/lake/"}}',
    ],
)
def test_a_relative_path_is_refused(monkeypatch, tmp_path, value):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", value)
    with pytest.raises(SettingError, match="the connection 'warehouse': expected an absolute path"):
        WarehouseHook().get_conn()
    assert [path.name for path in tmp_path.iterdir()] == []
