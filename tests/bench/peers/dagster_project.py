"""The same months as assets of Dagster. Only Dagster's own Python imports this; see `run.dagster`.

Four assets, partitioned by month, a process for each as is Dagster's default; those that open the warehouse are in a
pool of one slot, since a DuckDB file has one writer. What they do are the functions of the bare script, except that a
month which is there already is replaced.
"""

import json
import os
from pathlib import Path

import dagster as dg
from dagster_duckdb import DuckDBResource

from tests.bench.peers import bare

SETTINGS = json.loads(os.environ["PEERS_SETTINGS"])
SITE, FOLDER = SETTINGS["site"], Path(SETTINGS["folder"])
MONTHS = dg.MonthlyPartitionsDefinition(
    start_date=SETTINGS["first"], end_date=SETTINGS["end"], timezone="UTC", fmt="%Y-%m"
)
WAREHOUSE_POOL = "warehouse"


def raw_path(month: str) -> Path:
    return FOLDER / "raw" / f"yellow_tripdata_{month}.parquet"


def stats_path(month: str) -> Path:
    return FOLDER / "outputs" / f"manhattan_stats_{month}.geojson"


@dg.asset(partitions_def=MONTHS)
def taxi_trips_file(context: dg.AssetExecutionContext) -> None:
    """The month's Parquet file."""
    bare.download(SITE + bare.TRIPS.format(context.partition_key), raw_path(context.partition_key))


@dg.asset(partitions_def=MONTHS, deps=[taxi_trips_file], pool=WAREHOUSE_POOL)
def taxi_trips(context: dg.AssetExecutionContext, duckdb: DuckDBResource) -> None:
    """The month's trips in the warehouse; the zones, if they are missing, as our task `load` does."""
    month = context.partition_key
    with duckdb.get_connection() as con:
        if not con.execute("FROM duckdb_tables() WHERE table_name = 'zones'").fetchall():
            bare.load_zones(con, SITE, FOLDER)
        if con.execute("FROM duckdb_tables() WHERE table_name = 'yellow_trips'").fetchall():
            con.execute("DELETE FROM yellow_trips WHERE month = ?::DATE", [bare.day(month)])
        bare.insert(con, raw_path(month), month)


@dg.asset(partitions_def=MONTHS, deps=[taxi_trips], pool=WAREHOUSE_POOL)
def manhattan_stats(context: dg.AssetExecutionContext, duckdb: DuckDBResource) -> None:
    """The month's trips by zone, as GeoJSON."""
    month = context.partition_key
    with duckdb.get_connection() as con:
        con.execute("DELETE FROM trips_by_zone WHERE month = ?::DATE", [bare.day(month)])
        bare.count(con, month)
        bare.write_stats(con, month, stats_path(month))


@dg.asset(partitions_def=MONTHS, deps=[manhattan_stats])
def manhattan_map(context: dg.AssetExecutionContext) -> None:
    """The month's map."""
    month = context.partition_key
    bare.draw(stats_path(month), FOLDER / "outputs" / f"manhattan_map_{month}.png", month)


defs = dg.Definitions(
    assets=[taxi_trips_file, taxi_trips, manhattan_stats, manhattan_map],
    jobs=[dg.define_asset_job("taxi_trips_by_month", partitions_def=MONTHS)],
    resources={
        "duckdb": DuckDBResource(database=str(FOLDER / "warehouse.duckdb"), connection_config=SETTINGS["duckdb"])
    },
    executor=dg.multiprocess_executor.configured({"max_concurrent": SETTINGS["processes"]}),
)
