"""A warehouse and small trip files for the tests of include/nyc_taxi."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest
import requests

from include.nyc_taxi import catalogue, warehouse
from include.nyc_taxi.trips.zones import Zone, read_zones
from include.tlc_simulator.server import TlcSimulator

WriteTrips = Callable[..., Path]


@pytest.fixture(scope="session")
def new_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse file that has all tables, to be copied."""
    path = tmp_path_factory.mktemp("new") / "warehouse.duckdb"
    with duckdb.connect(str(path)) as connection:
        warehouse.ensure_tables(connection)
    return path


@pytest.fixture
def con(new_warehouse: Path, tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to a new warehouse file that has all tables."""
    with duckdb.connect(str(shutil.copy(new_warehouse, tmp_path))) as connection:
        yield connection


@pytest.fixture
def opening() -> str:
    """Python for another process: defines `connect(folder)`, which opens the warehouse that `con` has in `tmp_path`."""
    return "import duckdb\ndef connect(folder):\n    return duckdb.connect(f'{folder}/warehouse.duckdb')\n"


@pytest.fixture
def write_trips(tmp_path: Path) -> WriteTrips:
    """Write a small trip file in the layout that the catalogue gives for a month, and return its path.

    `columns` replaces a column by an SQL expression over the row number `i`, adds one the layout lacks, or with None
    leaves one out.
    """

    def write(fleet: str, month: str, rows: int = 3, columns: dict[str, str | None] | None = None) -> Path:
        replaced = dict(columns or {})
        expressions = {
            name: replaced.pop(name, _value(name, kind, month))
            for name, kind in catalogue.fleet(fleet).layout(month).columns
        }
        selected = [f'{sql} AS "{name}"' for name, sql in (expressions | replaced).items() if sql is not None]
        path = tmp_path / catalogue.file_name(fleet, month)
        duckdb.execute(f"COPY (SELECT {', '.join(selected)} FROM range({rows}) AS r(i)) TO '{path}' (FORMAT parquet)")
        return path

    return write


def _value(name: str, kind: str, month: str) -> str:
    if name.casefold().endswith("dropoff_datetime"):
        return f"CAST(TIMESTAMP '{month}-01 00:10:00' + i * INTERVAL 1 MINUTE AS {kind})"
    if name.casefold().endswith("datetime"):
        return f"CAST(TIMESTAMP '{month}-01 00:00:00' + i * INTERVAL 1 MINUTE AS {kind})"
    if name.casefold().endswith("locationid"):
        return f"CAST(1 + i % 263 AS {kind})"
    return f"CAST({1 if kind != 'VARCHAR' else repr('N')} AS {kind})"


@pytest.fixture
def zones(con: duckdb.DuckDBPyConnection) -> dict[int, str]:
    """Six small zones in the warehouse, and their boroughs by id: three of Manhattan, one of them without a shape."""
    boroughs = {4: "Manhattan", 7: "Queens", 12: "Manhattan", 17: "Brooklyn", 103: "Manhattan", 264: "Unknown"}
    for zone_id, borough in boroughs.items():
        west, south = -74 + zone_id / 1000, 40.7
        square = f"POLYGON (({west} {south}, {west + 0.001} {south}, {west + 0.001} {south + 0.01}, {west} {south}))"
        shape = square if zone_id not in (103, 264) else None
        con.execute(
            "INSERT INTO zones VALUES (?, ?, ?, 'Yellow Zone', ?)", [zone_id, f"Zone {zone_id}", borough, shape]
        )
    return boroughs


@pytest.fixture
def contents(con: duckdb.DuckDBPyConnection) -> Callable[..., dict[str, tuple[int, int]]]:
    """Number of rows and a checksum of every table: equal before and after means that not one value has changed."""

    def summary(where: str = "TRUE", connection: duckdb.DuckDBPyConnection = con) -> dict[str, tuple[int, int]]:
        tables = [fleet.table for fleet in catalogue.FLEETS.values()] + ["trips_by_zone", "loads"]
        select = "SELECT count(*), sum(hash(t)::HUGEINT) FROM {} AS t WHERE {}"
        return {table: connection.execute(select.format(table, where)).fetchone() for table in tables}

    return summary


@pytest.fixture(scope="session")
def real_zones(real_data: Path) -> list[Zone]:
    """The TLC's real zones, as `read_zones` gives them."""
    return read_zones(
        real_data / "tlc" / "misc" / "taxi_zone_lookup.csv", real_data / "tlc" / "misc" / "taxi_zones.zip"
    )


@dataclass(frozen=True)
class PlainSite:
    """A site asked with `requests` alone: what `download` does is tested without Airflow's hook."""

    address: str
    timeout: tuple[float, float] = (5, 30)

    def fetch(self, path: str, headers: Mapping[str, str]) -> requests.Response:
        return requests.get(self.url(path), headers=headers, stream=True, timeout=self.timeout)

    def url(self, path: str) -> str:
        return self.address + path


@pytest.fixture
def site(tlc_site: TlcSimulator) -> PlainSite:
    """What `download` asks."""
    return PlainSite(tlc_site.url)
