"""The bare script: what an analyst would write to get the same tables, GeoJSON files and maps, without any scheduler.

`python tests/bench/peers/bare.py <site's URL> <folder> <first month> <last month> [DuckDB's settings as JSON]`

It has no retries, no record of what is done, and no checks; a file that was half downloaded stays, and a script that
is started again loads everything twice. It prints a line of JSON for each month. The assets of `dagster_project` call
the same functions.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import duckdb

TRIPS, LOOKUP, SHAPES = "/trip-data/yellow_tripdata_{}.parquet", "/misc/taxi_zone_lookup.csv", "/misc/taxi_zones.zip"
SCHEMA = "CREATE TABLE trips_by_zone (month DATE, zone_id INTEGER, num_trips BIGINT)"
MANHATTAN = """
SELECT zones.zone_id, zone, borough, coalesce(sum(num_trips), 0)::BIGINT AS num_trips, geometry
FROM zones LEFT JOIN trips_by_zone
    ON zones.zone_id = trips_by_zone.zone_id AND ($month IS NULL OR trips_by_zone.month = $month::DATE)
WHERE borough = 'Manhattan' AND geometry IS NOT NULL
GROUP BY ALL
ORDER BY zones.zone_id
"""


def download(url: str, path: Path) -> Path:
    """Fetch a file."""
    import requests

    path.parent.mkdir(parents=True, exist_ok=True)
    with requests.get(url, stream=True, timeout=60) as response, path.open("wb") as file:
        response.raise_for_status()
        for chunk in response.iter_content(1 << 20):
            file.write(chunk)
    return path


def load_zones(con: duckdb.DuckDBPyConnection, site: str, folder: Path) -> None:
    """Fetch the zones, and make a table of them."""
    import geopandas
    import pandas

    lookup = pandas.read_csv(download(site + LOOKUP, folder / "raw" / "taxi_zone_lookup.csv"), keep_default_na=False)
    archive = download(site + SHAPES, folder / "raw" / "taxi_zones.zip")
    shapes = geopandas.read_file(f"zip://{archive}!taxi_zones/taxi_zones.shp").to_crs("EPSG:4326")
    shapes = shapes.dissolve("LocationID").geometry.to_wkt().rename("geometry")
    zones = lookup.join(shapes, on="LocationID").where(lambda table: table.notna(), None)
    con.execute("CREATE TABLE zones (zone_id INTEGER, zone VARCHAR, borough VARCHAR, geometry VARCHAR)")
    columns = ["LocationID", "Zone", "Borough", "geometry"]
    con.executemany("INSERT INTO zones VALUES (?, ?, ?, ?)", zones[columns].to_numpy().tolist())
    con.execute(SCHEMA)


def insert(con: duckdb.DuckDBPyConnection, file: Path, month: str) -> None:
    """Insert all columns of a month's file."""
    query, values = "SELECT *, $day::DATE AS month FROM read_parquet($file)", {"day": day(month), "file": str(file)}
    con.execute(f"CREATE TABLE IF NOT EXISTS yellow_trips AS {query} LIMIT 0", values)
    con.execute(f"INSERT INTO yellow_trips BY NAME {query}", values)


def count(con: duckdb.DuckDBPyConnection, month: str) -> None:
    """Count a month's trips by zone."""
    con.execute(
        "INSERT INTO trips_by_zone "
        "SELECT month, PULocationID, count(*) FROM yellow_trips WHERE month = ?::DATE GROUP BY ALL",
        [day(month)],
    )


def write_stats(con: duckdb.DuckDBPyConnection, month: str | None, path: Path) -> None:
    """Write the trips by zone of Manhattan in a month, or in all, as GeoJSON."""
    import geopandas

    stats = con.execute(MANHATTAN, {"month": month and day(month)}).df()
    stats["geometry"] = geopandas.GeoSeries.from_wkt(stats["geometry"])
    path.parent.mkdir(parents=True, exist_ok=True)
    geopandas.GeoDataFrame(stats, crs="EPSG:4326").to_file(path, driver="GeoJSON")


def draw(stats: Path, picture: Path, title: str) -> None:
    """Draw a map of a GeoJSON file, 1000 by 1300 pixels."""
    import geopandas
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 13), dpi=100)
    axes = figure.add_subplot()
    geopandas.read_file(stats).plot("num_trips", ax=axes, cmap="viridis", edgecolor="white", legend=True)
    axes.set_title(f"Trips by pickup zone, {title}")
    axes.set_axis_off()
    figure.savefig(picture)


def day(month: str) -> str:
    """A month's first day."""
    return f"{month}-01"


def months_between(first: str, last: str) -> list[str]:
    """All months from `first` to `last`, written YYYY-MM."""
    numbers = [12 * int(month[:4]) + int(month[5:]) - 1 for month in (first, last)]
    return [f"{number // 12}-{number % 12 + 1:02}" for number in range(numbers[0], numbers[1] + 1)]


def main(site: str, folder: Path, first: str, last: str, config: dict[str, Any]) -> None:
    """Make everything, month after month, with one connection."""
    outputs = folder / "outputs"
    with duckdb.connect(str(folder / "warehouse.duckdb"), config=config) as con:
        load_zones(con, site, folder)
        for month in months_between(first, last):
            started = time.time()
            name = TRIPS.format(month)
            insert(con, download(site + name, folder / "raw" / name.rpartition("/")[2]), month)
            count(con, month)
            write_stats(con, month, outputs / f"manhattan_stats_{month}.geojson")
            draw(outputs / f"manhattan_stats_{month}.geojson", outputs / f"manhattan_map_{month}.png", month)
            print(json.dumps({"month": month, "started": started, "ended": time.time()}), flush=True)
        write_stats(con, None, outputs / "manhattan_stats.geojson")
    draw(outputs / "manhattan_stats.geojson", outputs / "manhattan_map.png", f"{first} to {last}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:5], config=json.loads(sys.argv[5]) if sys.argv[5:] else {})
