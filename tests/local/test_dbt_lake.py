"""The marts in a lake whose catalog is in a real Postgres, with a password that must appear nowhere."""

import json
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from include.local import compact, dbt, dbt_docs, migrate
from include.nyc_taxi import settings
from include.orchestration.compat import IS_AIRFLOW_3
from tests.cluster.services import Postgres
from tests.conftest import AIRFLOW_HOME
from tests.integration.real_services import require
from tests.local.marts import load_files, results, simulated
from tests.with_dbt import needs_dbt
from warehouse_hook import WarehouseHook

pytestmark = [
    pytest.mark.slow,
    needs_dbt,
    pytest.mark.xdist_group("dbt"),  # one warehouse for all tests
    pytest.mark.skipif(not IS_AIRFLOW_3, reason="dbt is the same program on both lines"),
]

COUNTS = "SELECT fleet, partition_month, sum(num_trips)::BIGINT FROM marts.{mart} GROUP BY ALL ORDER BY ALL"
RECORDS = "SELECT * FROM marts.built_months ORDER BY ALL"


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    require("Postgres")
    with Postgres(tmp_path_factory.mktemp("postgres") / "log") as postgres:
        postgres.create_role("lake", postgres.password)
        postgres.create_database("lake", owner="lake")
        yield postgres


def rows(sql: str) -> list[tuple[object, ...]]:
    """A query on the connection `warehouse`."""
    with WarehouseHook().opened() as con:
        return con.execute(sql).fetchall()


def files_with(text: str, folder: Path) -> list[str]:
    """The files that contain a text, of whatever kind, such as dbt's partial_parse.msgpack."""
    return [str(file) for file in folder.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]


def test_marts_move_into_a_lake_in_postgres_and_go_on_there(
    postgres: Postgres,
    built: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    catalog = {
        "conn_type": "postgres",
        "host": "127.0.0.1",
        "port": postgres.port,
        "schema": "lake",
        "login": "lake",
        "password": postgres.password,
    }
    extra = {"catalog_conn_id": "lake_catalog", "data_path": f"{tmp_path}/lake/"}
    connection = {"conn_type": "duckdb", "host": "ducklake:postgres:", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_LAKE_CATALOG", json.dumps(catalog))
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps(connection))

    with duckdb.connect(str(built)) as con:
        in_file = [con.execute(sql).fetchall() for sql in (COUNTS.format(mart="daily_trips"), RECORDS)]
    assert migrate.run("lake") == 0
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(connection))
    assert [rows(COUNTS.format(mart="daily_trips")), rows(RECORDS)] == in_file

    # In the lake, what was built in the file need not be built again.
    with WarehouseHook().opened() as con:
        load_files(con, simulated(tmp_path, [("green", "2023-03")], rows=500))
    assert dbt.run(["build", "--select", "path:models", "--exclude-resource-type", "unit_test"]) == 0
    assert set(results().values()) <= {"success", "pass", "no-op"}
    assert "daily_trips: built 1 month: green 2023-03" in capfd.readouterr().out
    loaded = "SELECT fleet, partition_month, rows_loaded FROM latest_loads ORDER BY ALL"
    for mart in ("daily_trips", "zone_hourly_demand", "zone_to_zone_flows", "payment_and_tips"):
        assert rows(COUNTS.format(mart=mart)) == rows(loaded), mart
    before = rows("SELECT * FROM marts.zone_to_zone_flows ORDER BY ALL")

    assert compact.run() == 0
    assert dbt_docs.run() == 0
    assert rows("SELECT * FROM marts.zone_to_zone_flows ORDER BY ALL") == before

    said = capfd.readouterr()
    assert postgres.password not in said.out + said.err
    assert (AIRFLOW_HOME / "dbt" / "target" / "partial_parse.msgpack").exists()
    assert files_with(postgres.password, AIRFLOW_HOME / "dbt") == []
    assert files_with(postgres.password, settings.data_dir()) == []
    assert files_with("127.0.0.1", settings.data_dir() / "dbt") == []
