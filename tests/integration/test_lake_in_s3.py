"""A lake whose files are objects in S3 and whose catalog is in a real Postgres, through the hook."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import boto3
import duckdb
import pytest
from moto.server import ThreadedMotoServer

from include.nyc_taxi.months import Month
from include.nyc_taxi.reports.by_zone import aggregate_month
from include.nyc_taxi.trips import zones
from include.nyc_taxi.trips.load import load_month
from include.nyc_taxi.warehouse import lake
from include.tlc_simulator import city
from include.tlc_simulator.trips import write_month
from tests.cluster.services import Postgres
from tests.integration.real_services import require
from warehouse_hook import WarehouseHook

CATALOG_PASSWORD, STORAGE_PASSWORD = "sesame-of-the-catalog", "sesame-of-the-storage"
Objects = Callable[[], set[str]]


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Postgres]:
    """A Postgres with an empty database, as the connection `catalog`."""
    require("Postgres")
    with Postgres(tmp_path / "logs" / "postgres.log") as postgres:
        postgres.create_role("lake", CATALOG_PASSWORD)
        postgres.create_database("lake", owner="lake")
        where = {"conn_type": "postgres", "host": "127.0.0.1", "port": postgres.port, "schema": "lake"}
        monkeypatch.setenv("AIRFLOW_CONN_CATALOG", json.dumps(where | {"login": "lake", "password": CATALOG_PASSWORD}))
        yield postgres


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    """An S3 with an empty bucket, as the connection `storage`; called, it says which objects are in the bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    extra = {"endpoint_url": f"http://{host}:{port}", "region_name": "us-east-1"}
    s3 = boto3.client("s3", aws_access_key_id="lake", aws_secret_access_key=STORAGE_PASSWORD, **extra)
    s3.create_bucket(Bucket="trips")
    connection = {"conn_type": "aws", "login": "lake", "password": STORAGE_PASSWORD, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_STORAGE", json.dumps(connection))
    yield lambda: {found["Key"] for found in s3.list_objects_v2(Bucket="trips").get("Contents", [])}
    server.stop()


@pytest.fixture
def hook(catalog: Postgres, objects: Objects, monkeypatch: pytest.MonkeyPatch) -> WarehouseHook:
    """For a new lake in the bucket."""
    extra = {"data_path": "s3://trips/lake/", "catalog_conn_id": "catalog", "storage_conn_id": "storage"}
    connection = {"conn_type": "duckdb", "host": "ducklake:postgres:", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(connection))
    return WarehouseHook()


def months(hook: WarehouseHook) -> list[tuple[str, int]]:
    with hook.transaction() as con:
        return con.execute(
            "SELECT strftime(partition_month, '%Y-%m'), count(*) FROM green_trips GROUP BY ALL ORDER BY ALL"
        ).fetchall()


def live(con: duckdb.DuckDBPyConnection) -> set[str]:
    """The objects with trips that the lake's latest state has."""
    found = con.execute("SELECT data_file FROM ducklake_list_files('warehouse', 'green_trips')").fetchall()
    return {file.removeprefix("s3://trips/") for (file,) in found}


def test_months_are_loaded_replaced_read_and_tidied_and_no_log_has_a_password(
    hook: WarehouseHook, objects: Objects, catalog: Postgres, tmp_path: Path, logged: Callable[[], str]
) -> None:
    lookup, shapes = tmp_path / "lookup.csv", tmp_path / "shapes.zip"
    city.write_lookup(lookup)
    city.write_shapes(shapes)
    path = tmp_path / "green.parquet"

    def load(month: str, rows: int) -> None:
        write_month(path, "green", month, rows=rows)
        with hook.opened() as con:
            load_month(con, "green", Month(month), path, "run")
            aggregate_month(con, "green", Month(month), tmp_path / "outputs")

    with hook.opened() as con:
        zones.load_zones(con, zones.read_zones(lookup, shapes))
    for month in ("2023-01", "2023-02"):
        load(month, 500)
    assert months(hook) == [("2023-01", 500), ("2023-02", 500)]
    load("2023-02", 400)
    assert months(hook) == [("2023-01", 500), ("2023-02", 400)]

    def trips() -> set[str]:
        return {key for key in objects() if "/green_trips/" in key}

    with hook.opened() as con:
        before, kept = trips(), live(con)
        assert len(before) == 3
        assert len(kept) == 2
        # What a load that was killed would have left.
        con.execute("COPY (SELECT 1) TO 's3://trips/lake/main/green_trips/partition_month=2023-01-01/x.parquet'")
        for _ in range(2):  # what was merged goes the second time
            lake.maintain(con, keep=timedelta(0), abandoned_after=timedelta(0))
        assert trips() == live(con) == kept
    assert months(hook) == [("2023-01", 500), ("2023-02", 400)]

    said = logged() + catalog.log.read_text()
    assert "Opening the lake ducklake:postgres:catalog, files in s3://trips/lake/" in said
    assert CATALOG_PASSWORD not in said
    assert STORAGE_PASSWORD not in said


def test_what_is_wrong_with_the_storage_is_said_without_its_password(
    hook: WarehouseHook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, logged: Callable[[], str]
) -> None:
    with hook.opened():
        pass  # the lake is made
    nowhere = {"conn_type": "aws", "login": "lake", "password": STORAGE_PASSWORD}
    extra = {"endpoint_url": "http://127.0.0.1:9", "region_name": "us-east-1"}
    monkeypatch.setenv("AIRFLOW_CONN_STORAGE", json.dumps({**nowhere, "extra": extra}))
    path = tmp_path / "green.parquet"
    write_month(path, "green", "2023-01", rows=10)
    with pytest.raises(Exception, match="green") as error, WarehouseHook().opened() as con:
        load_month(con, "green", Month("2023-01"), path, "run")
    assert STORAGE_PASSWORD not in str(error.value) + logged()
