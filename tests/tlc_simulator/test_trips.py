"""The trips: the catalogue's layouts, the same every time, and the real data's quirks."""

from pathlib import Path

import duckdb
import pytest

from include.nyc_taxi import tlc
from include.nyc_taxi.errors import FleetError, MonthError
from include.tlc_simulator import trips
from include.tlc_simulator.trips import write_month

LAYOUTS = [(fleet.name, layout.first_month) for fleet in tlc.FLEETS.values() for layout in fleet.layouts]


def rows_of(query: str) -> list[tuple]:
    with duckdb.connect() as connection:
        return connection.execute(query).fetchall()


def one(query: str) -> tuple:
    (row,) = rows_of(query)
    return row


def layout_of(path: Path) -> tuple[tuple[str, str], ...]:
    return tuple((name, kind) for name, kind, *_ in rows_of(f"DESCRIBE SELECT * FROM '{path}'"))


@pytest.fixture(scope="module")
def yellow(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A yellow month of 60,000 rows, as an SQL literal."""
    path = tmp_path_factory.mktemp("trips") / "yellow.parquet"
    write_month(path, "yellow", "2024-03", rows=60_000)
    return f"'{path}'"


@pytest.fixture(scope="module")
def green(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("trips") / "green.parquet"
    write_month(path, "green", "2024-03", rows=20_000)
    return f"'{path}'"


@pytest.mark.parametrize(("fleet", "month"), LAYOUTS)
def test_a_file_has_exactly_the_layout_of_the_catalogue(fleet: str, month: str, tmp_path: Path) -> None:
    write_month(tmp_path / "month.parquet", fleet, month, rows=1000)
    assert layout_of(tmp_path / "month.parquet") == tlc.fleet(fleet).layout(month).columns
    assert one(f"SELECT count(*) FROM '{tmp_path}/month.parquet'") == (1000,)


@pytest.mark.parametrize(("fleet", "month"), [("yellow", "2023-01"), ("green", "2023-03"), ("yellow", "2010-02")])
def test_layouts_are_those_of_real_files(fleet: str, month: str, tmp_path: Path, real_data: Path) -> None:
    published = f"FROM '{real_data}/reference/tlc_files.csv' WHERE fleet = '{fleet}' AND month = '{month}'"
    write_month(tmp_path / "month.parquet", fleet, month, rows=10)
    made = ",".join(name for name, _ in layout_of(tmp_path / "month.parquet"))
    assert one(f"SELECT column_names {published}") == (made,)


def test_a_fleet_added_to_the_catalogue_is_made_without_a_change_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = (
        ("hvfhs_license_num", "VARCHAR"),
        ("pickup_datetime", "TIMESTAMP"),
        ("PULocationID", "INTEGER"),
        ("trip_miles", "DOUBLE"),
        ("trip_time", "BIGINT"),
        ("tips", "DOUBLE"),
    )
    fleet = tlc.Fleet("fhvhv", "High volume", (tlc.Layout("2019-02", None, columns),), ())
    monkeypatch.setitem(tlc.FLEETS, "fhvhv", fleet)
    write_month(tmp_path / "month.parquet", "fhvhv", "2024-01", rows=100)
    assert layout_of(tmp_path / "month.parquet") == columns


def test_a_column_without_values_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = tlc.Fleet("hover", "Hovercrafts", (tlc.Layout("2019-02", None, (("eels", "INTEGER"),)),), ())
    monkeypatch.setitem(tlc.FLEETS, "hover", fleet)
    with pytest.raises(NotImplementedError, match="eels"):
        write_month(tmp_path / "month.parquet", "hover", "2024-01", rows=100)
    assert list(tmp_path.iterdir()) == []


def test_the_same_arguments_give_the_same_bytes_with_any_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = duckdb.connect
    for threads in (1, 4):
        monkeypatch.setattr(duckdb, "connect", lambda threads=threads, **_: connect(config={"threads": threads}))
        write_month(tmp_path / f"{threads}.parquet", "yellow", "2023-01", rows=150_000)
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "4.parquet").read_bytes()


def test_months_fleets_and_seeds_differ(tmp_path: Path) -> None:
    files = {}
    for fleet, month, seed in [("yellow", "2023-02", 1), ("yellow", "2023-03", 1), ("yellow", "2023-02", 2)]:
        path = tmp_path / "month.parquet"
        write_month(path, fleet, month, rows=500, seed=seed)
        files[fleet, month, seed] = one(f"SELECT sum(trip_distance), avg(PULocationID) FROM '{path}'")
    assert len(set(files.values())) == 3
    assert trips.default_rows("yellow", "2023-01") != trips.default_rows("yellow", "2023-02")
    assert trips.default_rows("yellow", "2023-01") > trips.default_rows("green", "2023-01")


def test_a_later_edition_changes_a_few_trips_and_adds_some(tmp_path: Path) -> None:
    first, second = tmp_path / "1.parquet", tmp_path / "2.parquet"
    write_month(first, "green", "2023-02", rows=2000)
    write_month(second, "green", "2023-02", rows=2000, edition=2)
    assert one(f"SELECT count(*) FROM '{second}'") == (2004,)
    (changed,) = one(f"SELECT count(*) FROM (FROM '{second}' EXCEPT ALL FROM '{first}')")
    assert 4 < changed < 60


def test_few_pickups_lie_outside_the_month_one_of_them_in_2009(yellow: str) -> None:
    outside = "date_trunc('month', tpep_pickup_datetime) != DATE '2024-03-01'"
    strays, oldest = one(f"SELECT count(*), min(tpep_pickup_datetime) FROM {yellow} WHERE {outside}")
    assert 1 <= strays <= 30
    assert oldest.year == 2009


def test_a_small_month_has_strays_too(tmp_path: Path) -> None:
    write_month(tmp_path / "month.parquet", "green", "2023-01", rows=1000)
    column = "lpep_pickup_datetime"
    assert one(f"SELECT count(*) FROM '{tmp_path}/month.parquet' WHERE {column} < '2023-01-01'") == (1,)


def test_details_are_missing_together_in_a_few_per_cent(yellow: str) -> None:
    columns = ["passenger_count", "RatecodeID", "store_and_fwd_flag", "congestion_surcharge", "Airport_fee"]
    together = " AND ".join(f"{name} IS NULL" for name in columns)
    anywhere = " OR ".join(f"{name} IS NULL" for name in columns)
    both, either = one(f"SELECT avg(({together})::INT), avg(({anywhere})::INT) FROM {yellow}")
    assert both == either
    assert 0.03 < both < 0.06
    assert one(f"SELECT DISTINCT payment_type FROM {yellow} WHERE passenger_count IS NULL") == (0,)


def test_a_total_is_the_sum_of_its_parts(yellow: str, green: str) -> None:
    parts = [
        "fare_amount",
        "extra",
        "mta_tax",
        "tip_amount",
        "tolls_amount",
        "improvement_surcharge",
        "congestion_surcharge",
    ]
    for file, more in ((yellow, ["Airport_fee"]), (green, [])):
        total = " + ".join(f"coalesce({name}, 0)" for name in parts + more)
        assert one(f"SELECT count(*) FROM {file} WHERE abs(total_amount - ({total})) > 0.006") == (0,)


def test_some_fares_are_negative_with_their_totals(yellow: str) -> None:
    share, wrong = one(
        f"SELECT avg((fare_amount < 0)::INT), count(*) FILTER (fare_amount < 0 AND total_amount >= 0) FROM {yellow}"
    )
    assert 0.001 < share < 0.006
    assert wrong == 0


def test_a_few_distances_are_absurd_and_the_others_fit_time_and_fare(yellow: str) -> None:
    (absurd,) = one(f"SELECT count(*) FROM {yellow} WHERE trip_distance > 1000")
    assert 1 <= absurd <= 30
    longest, distance_and_fare, slowest, fastest = one(f"""
        SELECT max(trip_distance), corr(trip_distance, fare_amount), min(mph), quantile_cont(mph, 0.99) FROM (
            SELECT *, trip_distance * 3600 / epoch(tpep_dropoff_datetime - tpep_pickup_datetime) AS mph
            FROM {yellow} WHERE trip_distance < 1000 AND fare_amount > 0 AND RatecodeID = 1)""")
    assert longest < 60
    assert distance_and_fare > 0.95
    assert slowest > 1
    assert fastest < 30


def test_zones_are_1_to_265_with_unknown_ones_among_them(yellow: str, green: str) -> None:
    for file in (yellow, green):
        least, most, unknown, outside = one(f"""
            SELECT min(least(PULocationID, DOLocationID)), max(greatest(PULocationID, DOLocationID)),
                count(*) FILTER (PULocationID = 264), count(*) FILTER (PULocationID = 265) FROM {file}""")
        assert (least >= 1, most) == (True, 265)
        assert unknown > 0
        assert outside > 0


def test_yellow_taxis_work_in_manhattan_and_at_airports_green_ones_elsewhere(yellow: str, green: str) -> None:
    core = ", ".join(str(zone.id) for zone in trips.ZONES.values() if zone.service_zone == "Yellow Zone")
    share = "SELECT avg((PULocationID IN ({}))::INT) FROM {}"
    assert one(share.format(core, yellow))[0] > 0.75
    assert one(share.format("132, 138", yellow))[0] > 0.04
    assert one(share.format(core, green))[0] < 0.1


def test_a_day_has_its_rhythm(yellow: str) -> None:
    hours = dict(rows_of(f"SELECT hour(tpep_pickup_datetime), count(*) FROM {yellow} GROUP BY 1"))
    assert max(hours, key=hours.__getitem__) in (17, 18, 19)
    assert hours[4] < hours[18] / 5


def test_tips_are_for_cards(yellow: str) -> None:
    assert one(f"SELECT count(*) FROM {yellow} WHERE tip_amount > 0 AND payment_type NOT IN (0, 1)") == (0,)
    assert one(f"SELECT avg((tip_amount > 0)::INT) > 0.9 FROM {yellow} WHERE payment_type = 1") == (True,)
    assert one(f"SELECT count(*) > 0 FROM {yellow} WHERE passenger_count = 0") == (True,)


def test_coordinates_of_2010_lie_in_the_city_or_are_zero(tmp_path: Path) -> None:
    path = tmp_path / "month.parquet"
    write_month(path, "yellow", "2010-02", rows=5000)
    west, east = one(f"SELECT min(pickup_longitude), max(pickup_longitude) FROM '{path}' WHERE pickup_longitude != 0")
    assert (west > -74.3, east < -73.6) == (True, True)
    assert one(f"SELECT min(__index_level_0__), max(__index_level_0__) FROM '{path}'") == (0, 4999)


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_tiny_months_can_be_made(rows: int, tmp_path: Path) -> None:
    write_month(tmp_path / "month.parquet", "green", "2023-02", rows=rows)
    assert one(f"SELECT count(*) FROM '{tmp_path}/month.parquet'") == (rows,)


def test_bad_arguments_are_refused_and_leave_nothing_behind(tmp_path: Path) -> None:
    out = tmp_path / "month.parquet"
    with pytest.raises(MonthError, match="2014-01"):
        write_month(out, "green", "2013-01")
    with pytest.raises(FleetError, match="yellow"):
        write_month(out, "purple", "2023-01")
    with pytest.raises(ValueError, match="edition 0"):
        write_month(out, "green", "2023-01", edition=0)
    assert list(tmp_path.iterdir()) == []
