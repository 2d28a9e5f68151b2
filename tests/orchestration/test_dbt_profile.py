"""dbt's profile: what it takes from the connection `warehouse`, and that no secret is in it."""

import json
from pathlib import Path

import pytest

from include.nyc_taxi import settings
from include.nyc_taxi.errors import SettingError
from include.orchestration.dbt_profile import profile
from warehouse_hook import WarehouseHook

PASSWORD, KEY = "s3cret p@ss'word", "very/secret+key"


def connect(monkeypatch: pytest.MonkeyPatch, conn_id: str, **fields: object) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))


def test_a_file_is_opened_as_tasks_open_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"memory_limit": "3GB", "threads": 2}
    connect(monkeypatch, "warehouse", conn_type="duckdb", host=f"{tmp_path}/taxi.duckdb", extra=extra)
    found, secrets = profile(WarehouseHook(), tmp_path)
    assert (found["path"], found["schema"], secrets) == (f"{tmp_path}/taxi.duckdb", "marts", {})
    assert found["config_options"].items() >= {"memory_limit": "3GB", "threads": "2"}.items()
    assert found["settings"] == {"TimeZone": "America/New_York"}


def test_without_a_connection_it_is_the_default_file(tmp_path: Path) -> None:
    assert profile(WarehouseHook(), tmp_path)[0]["path"] == str(settings.warehouse_path())


def test_a_lakes_secrets_are_in_the_environment_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"data_path": "s3://lake/", "catalog_conn_id": "catalog", "storage_conn_id": "storage"}
    connect(monkeypatch, "warehouse", conn_type="duckdb", host="ducklake:postgres:", extra=extra)
    connect(
        monkeypatch,
        "catalog",
        conn_type="postgres",
        host="127.0.0.1",
        port=5433,
        login="catalog-user",
        password=PASSWORD,
    )
    connect(
        monkeypatch, "storage", conn_type="aws", login="AKIA-login", password=KEY, extra={"region_name": "us-east-1"}
    )
    found, secrets = profile(WarehouseHook(), tmp_path)
    assert {PASSWORD, KEY, "5433"} <= set(secrets.values())
    assert not any(secret in json.dumps(found) for secret in secrets.values())
    assert all(name.startswith("DBT_ENV_SECRET_") for name in secrets)
    assert found["attach"][0]["options"] == {"data_path": "s3://lake/", "meta_secret": "warehouse_postgres"}
    assert [secret["name"] for secret in found["secrets"]] == ["warehouse_postgres", "warehouse_s3"]
    linked = {path.name.partition(".")[0] for path in tmp_path.glob("v*/*/*.duckdb_extension") if path.exists()}
    assert linked == {"ducklake", "postgres_scanner", "httpfs"}


def test_a_password_in_a_lakes_address_is_not_in_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = "ducklake:postgres:dbname=lake password=hidden"
    connect(monkeypatch, "warehouse", conn_type="duckdb", host=address, extra={"data_path": "/srv/lake/"})
    found, secrets = profile(WarehouseHook(), tmp_path)
    assert "hidden" not in json.dumps(found)
    assert list(secrets.values()) == [address]


def test_motherduck_is_refused_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "warehouse", conn_type="duckdb", host="md:taxi")
    with pytest.raises(SettingError, match="expected a DuckDB file or a lake as warehouse, found md:taxi"):
        profile(WarehouseHook(), tmp_path)
