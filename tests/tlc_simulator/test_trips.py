"""The trips: the catalogue's layouts, reproducible bytes, and the quirks of the real data."""

from pathlib import Path

import duckdb
import pytest
import shapely

from include.nyc_taxi import catalogue
from include.nyc_taxi.errors import FleetError, MonthError
from include.tlc_simulator import city, trips
from include.tlc_simulator.trips import write_month

LAYOUTS = [(fleet.name, layout.first_month) for fleet in catalogue.FLEETS.values() for layout in fleet.layouts]


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
    assert layout_of(tmp_path / "month.parquet") == catalogue.fleet(fleet).layout(month).columns
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
        ("SR_Flag", "INTEGER"),
    )
    monkeypatch.setitem(
        catalogue.FLEETS,
        "hover",
        catalogue.Fleet("hover", "Hovercrafts", (catalogue.Layout("2019-02", None, columns),), ()),
    )
    write_month(tmp_path / "month.parquet", "hover", "2024-01", rows=100)
    assert layout_of(tmp_path / "month.parquet") == columns
    assert one(f"SELECT count(DISTINCT PULocationID) > 10 FROM '{tmp_path}/month.parquet'") == (True,)


def test_a_column_without_values_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = catalogue.Fleet("hover", "Hovercrafts", (catalogue.Layout("2019-02", None, (("eels", "INTEGER"),)),), ())
    monkeypatch.setitem(catalogue.FLEETS, "hover", fleet)
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


def test_the_zone_of_the_congestion_toll_ends_at_60th_street(tmp_path: Path) -> None:
    write_month(tmp_path / "month.parquet", "yellow", "2025-02", rows=60_000)
    found = rows_of(f"""SELECT PULocationID FROM '{tmp_path}/month.parquet'
        GROUP BY PULocationID HAVING min(cbd_congestion_fee) FILTER (fare_amount > 0) > 0""")
    charged = {city.ZONES[zone_id].name for (zone_id,) in found}
    south = {"Clinton East", "Clinton West", "Midtown Center", "Midtown East", "Midtown North", "Battery Park City"}
    assert charged >= south | {"Sutton Place/Turtle Bay North", "Times Sq/Theatre District"}
    assert not any(name.startswith(("Lincoln", "Lenox", "Upper", "Central", "Yorkville", "JFK")) for name in charged)


def test_a_day_has_its_rhythm(yellow: str) -> None:
    hours = dict(rows_of(f"SELECT hour(tpep_pickup_datetime), count(*) FROM {yellow} GROUP BY 1"))
    assert max(hours, key=hours.__getitem__) in (17, 18, 19)
    assert hours[4] < hours[18] / 5


def test_tips_are_for_cards(yellow: str) -> None:
    assert one(f"SELECT count(*) FROM {yellow} WHERE tip_amount > 0 AND payment_type NOT IN (0, 1)") == (0,)
    assert one(f"SELECT avg((tip_amount > 0)::INT) > 0.9 FROM {yellow} WHERE payment_type = 1") == (True,)
    assert one(f"SELECT count(*) > 0 FROM {yellow} WHERE passenger_count = 0") == (True,)


class TestTheLayoutsWithCoordinates:
    @pytest.fixture(scope="class")
    @classmethod
    def oldest(cls, tmp_path_factory: pytest.TempPathFactory) -> str:
        path = tmp_path_factory.mktemp("trips") / "2009.parquet"
        write_month(path, "yellow", "2009-01", rows=10_000)
        return f"'{path}'"

    @pytest.fixture(scope="class")
    @classmethod
    def old(cls, tmp_path_factory: pytest.TempPathFactory) -> str:
        path = tmp_path_factory.mktemp("trips") / "2010.parquet"
        write_month(path, "yellow", "2010-02", rows=10_000)
        return f"'{path}'"

    def test_vendors_and_payments_are_texts_in_the_spellings_of_the_real_files(self, oldest: str, old: str) -> None:
        assert rows_of(f"SELECT DISTINCT vendor_name FROM {oldest} ORDER BY 1") == [("CMT",), ("DDS",), ("VTS",)]
        assert rows_of(f"SELECT DISTINCT vendor_id FROM {old} ORDER BY 1") == [("CMT",), ("DDS",), ("VTS",)]
        texts = "SELECT list(DISTINCT payment_type ORDER BY payment_type) FROM {}"
        assert one(texts.format(oldest)) == (["CASH", "CREDIT", "Cash", "Credit", "Dispute", "No Charge"],)
        assert one(texts.format(old)) == (["CAS", "CRE", "Cas", "Cre", "DIS", "Dis", "NA ", "NOC"],)

    def test_2009_has_times_as_texts_and_columns_without_values(self, oldest: str) -> None:
        assert one(f"SELECT min(length(Trip_Pickup_DateTime)), max(length(Trip_Dropoff_DateTime)) FROM {oldest}") == (
            19,
            19,
        )
        assert one(f"SELECT count(Rate_Code), count(store_and_forward), count(mta_tax) FROM {oldest}") == (0, 0, 0)

    def test_2010_has_flags_of_one_vendor_and_an_index_of_its_rows(self, old: str) -> None:
        assert rows_of(f"SELECT DISTINCT store_and_fwd_flag FROM {old} ORDER BY 1") == [("0",), ("1",), (None,)]
        assert rows_of(f"SELECT DISTINCT vendor_id FROM {old} WHERE store_and_fwd_flag IS NOT NULL") == [("CMT",)]
        assert one(f"SELECT min(__index_level_0__), max(__index_level_0__) FROM {old}") == (0, 9999)

    def test_most_places_are_in_a_zone_some_are_zero_and_a_few_are_nowhere_near(self, old: str) -> None:
        shapes = city.zone_shapes().to_crs("EPSG:4326").geometry.union_all()
        places = rows_of(f"SELECT pickup_longitude, pickup_latitude FROM {old}")
        zero = [place for place in places if place == (0, 0)]
        inside = shapely.contains_xy(shapes, *zip(*places, strict=True)).sum()
        assert 100 < len(zero) < 500
        assert inside > 0.95 * len(places)
        assert 0 < len(places) - len(zero) - inside < 200

    def test_places_are_all_over_a_zone(self, old: str) -> None:
        park = city.zone_shapes().set_index("OBJECTID").to_crs("EPSG:4326").geometry[43]
        places = shapely.points(rows_of(f"SELECT pickup_longitude, pickup_latitude FROM {old}"))
        inside = shapely.MultiPoint(places[shapely.contains(park, places)])
        assert len(inside.geoms) > 50
        assert inside.convex_hull.area > 0.6 * park.area

    def test_places_are_in_the_trips_own_zone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # The same trips, with zone IDs instead of the index.
        monkeypatch.setitem(trips._VALUES_BEFORE_ZONES, "__index_level_0__", "265 * pickup_zone + dropoff_zone")
        write_month(tmp_path / "month.parquet", "yellow", "2010-02", rows=10_000)
        shapes = city.zone_shapes().set_index("OBJECTID").to_crs("EPSG:4326").geometry
        found = rows_of(f"""SELECT (__index_level_0__ - 1) // 265, 1 + (__index_level_0__ - 1) % 265, pickup_longitude,
            pickup_latitude, dropoff_longitude, dropoff_latitude FROM '{tmp_path}/month.parquet'""")
        ends = [end for pickup, dropoff, *place in found for end in ((pickup, *place[:2]), (dropoff, *place[2:]))]
        known = [end for end in ends if end[0] < 264 and -74.3 < end[1] < -73.6]
        assert len(known) > 19_000
        assert [end for end in known if not shapely.contains_xy(shapes[end[0]], *end[1:])] == []


class TestVehiclesForHireOfBases:
    @pytest.fixture(scope="class")
    @classmethod
    def fhv(cls, tmp_path_factory: pytest.TempPathFactory) -> str:
        path = tmp_path_factory.mktemp("trips") / "fhv.parquet"
        write_month(path, "fhv", "2020-04", rows=20_000)
        return f"'{path}'"

    def test_a_third_of_the_pickups_have_no_zone_and_many_an_unknown_one(self, fhv: str) -> None:
        null, unknown, no_dropoff = one(f"""SELECT avg((PUlocationID IS NULL)::INT), avg((PUlocationID = 264)::INT),
            avg((DOlocationID IS NULL)::INT) FROM {fhv}""")
        assert 0.28 < null < 0.36
        assert 0.3 < unknown < 0.7
        assert 0.03 < no_dropoff < 0.08

    def test_there_are_many_bases_some_of_them_spelt_oddly(self, fhv: str) -> None:
        bases, odd, affiliated, without = one(f"""SELECT count(DISTINCT dispatching_base_num),
            avg((NOT regexp_full_match(dispatching_base_num, 'B[0-9]{{5}}'))::INT),
            avg((dispatching_base_num IS DISTINCT FROM Affiliated_base_number)::INT),
            avg((Affiliated_base_number IS NULL)::INT) FROM {fhv}""")
        assert bases > 200
        assert 0 < odd < 0.05
        assert 0.2 < affiliated < 0.5
        assert 0 < without < 0.02

    def test_some_trips_stand_there_twice(self, fhv: str) -> None:
        copies, rows = one(f"SELECT count(*) - count(DISTINCT t), count(*) FROM {fhv} AS t")
        assert (copies, rows) == (20_000 // 250, 20_000)

    def test_a_shared_ride_has_a_flag_in_the_years_that_had_them_else_none(self, fhv: str, tmp_path: Path) -> None:
        assert one(f"SELECT count(SR_Flag) FROM {fhv}") == (0,)
        write_month(tmp_path / "month.parquet", "fhv", "2018-04", rows=1000)
        assert rows_of(f"SELECT DISTINCT SR_Flag FROM '{tmp_path}/month.parquet' ORDER BY 1") == [(1,), (None,)]

    def test_before_2017_bases_sent_in_no_dropoffs_and_few_pickup_zones(self, tmp_path: Path) -> None:
        write_month(tmp_path / "month.parquet", "fhv", "2016-12", rows=5000)
        dropoffs, zones, pickups = (
            one(f"""SELECT count(dropOff_datetime), count(DOlocationID), avg((PUlocationID >= 1)::INT)
            FROM (SELECT * REPLACE (coalesce(PUlocationID, 0) AS PUlocationID) FROM '{tmp_path}/month.parquet')""")
        )
        assert (dropoffs, zones) == (0, 0)
        assert 0.1 < pickups < 0.4


class TestVehiclesForHireOfApps:
    @pytest.fixture(scope="class")
    @classmethod
    def fhvhv(cls, tmp_path_factory: pytest.TempPathFactory) -> str:
        path = tmp_path_factory.mktemp("trips") / "fhvhv.parquet"
        write_month(path, "fhvhv", "2020-02", rows=20_000)
        return f"'{path}'"

    def test_only_uber_says_who_took_the_call_and_when_the_car_was_there(self, fhvhv: str) -> None:
        assert rows_of(f"SELECT DISTINCT hvfhs_license_num FROM {fhvhv} ORDER BY 1") == [
            ("HV0003",),
            ("HV0004",),
            ("HV0005",),
        ]
        for column in ("originating_base_num", "on_scene_datetime"):
            assert one(f"SELECT avg(({column} IS NULL)::INT) BETWEEN 0.25 AND 0.35 FROM {fhvhv}") == (True,)
            assert rows_of(f"SELECT DISTINCT hvfhs_license_num FROM {fhvhv} WHERE {column} IS NOT NULL") == [
                ("HV0003",)
            ]

    def test_a_trip_is_ordered_before_it_begins_and_lasts_as_long_as_it_says(self, fhvhv: str) -> None:
        assert one(f"""SELECT count(*) FROM {fhvhv} WHERE request_datetime >= pickup_datetime
            OR request_datetime > on_scene_datetime OR on_scene_datetime > pickup_datetime
            OR trip_time != epoch(dropoff_datetime - pickup_datetime)""") == (0,)

    def test_flags_are_yes_no_or_blank(self, fhvhv: str) -> None:
        flags = {
            name: rows_of(f"SELECT DISTINCT {name}_flag FROM {fhvhv} ORDER BY 1")
            for name in ("shared_request", "shared_match", "access_a_ride", "wav_request", "wav_match")
        }
        assert flags.pop("access_a_ride") == [(" ",), ("N",)]
        assert set(map(tuple, flags.values())) == {(("N",), ("Y",))}
        assert one(f"SELECT count(*) FROM {fhvhv} WHERE shared_match_flag = 'Y' AND shared_request_flag = 'N'") == (0,)

    def test_fares_are_rarely_negative_and_pay_never_is(self, fhvhv: str) -> None:
        negative, least = one(f"SELECT avg((base_passenger_fare < 0)::INT), min(driver_pay) FROM {fhvhv}")
        assert 0 < negative < 0.01
        assert least == 0

    @pytest.mark.parametrize(("month", "fees"), [("2020-12", [None]), ("2021-05", [0, 2.5])])
    def test_airports_charge_from_2021_on(self, month: str, fees: list[float | None], tmp_path: Path) -> None:
        write_month(tmp_path / "month.parquet", "fhvhv", month, rows=2000)
        found = rows_of(f"SELECT DISTINCT abs(airport_fee) FROM '{tmp_path}/month.parquet' ORDER BY 1")
        assert [fee for (fee,) in found] == fees


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
