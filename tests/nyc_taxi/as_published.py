"""What a month's rows should be in our tables, worked out from the file on its own.

Columns, types and codes are written out here once more, and places are looked up by shapely: the pipeline must not be
what it is checked against.
"""

from pathlib import Path

import duckdb
import numpy
import shapely

_YELLOW = """
    vendor_id INTEGER VendorID, pickup_datetime TIMESTAMP tpep_pickup_datetime,
    dropoff_datetime TIMESTAMP tpep_dropoff_datetime, passenger_count INTEGER passenger_count,
    trip_distance DOUBLE trip_distance, rate_code_id INTEGER RatecodeID, store_and_fwd_flag VARCHAR store_and_fwd_flag,
    pickup_zone_id SMALLINT PULocationID, dropoff_zone_id SMALLINT DOLocationID, payment_type INTEGER payment_type,
    fare_amount DOUBLE fare_amount, extra DOUBLE extra, mta_tax DOUBLE mta_tax, tip_amount DOUBLE tip_amount,
    tolls_amount DOUBLE tolls_amount, improvement_surcharge DOUBLE improvement_surcharge,
    total_amount DOUBLE total_amount, congestion_surcharge DOUBLE congestion_surcharge, airport_fee DOUBLE airport_fee,
    cbd_congestion_fee DOUBLE cbd_congestion_fee, request_source VARCHAR request_source
"""
_GREEN = """
    vendor_id INTEGER VendorID, pickup_datetime TIMESTAMP lpep_pickup_datetime,
    dropoff_datetime TIMESTAMP lpep_dropoff_datetime, store_and_fwd_flag VARCHAR store_and_fwd_flag,
    rate_code_id INTEGER RatecodeID, pickup_zone_id SMALLINT PULocationID, dropoff_zone_id SMALLINT DOLocationID,
    passenger_count INTEGER passenger_count, trip_distance DOUBLE trip_distance, fare_amount DOUBLE fare_amount,
    extra DOUBLE extra, mta_tax DOUBLE mta_tax, tip_amount DOUBLE tip_amount, tolls_amount DOUBLE tolls_amount,
    ehail_fee DOUBLE ehail_fee, improvement_surcharge DOUBLE improvement_surcharge, total_amount DOUBLE total_amount,
    payment_type INTEGER payment_type, trip_type INTEGER trip_type, congestion_surcharge DOUBLE congestion_surcharge,
    cbd_congestion_fee DOUBLE cbd_congestion_fee, request_source VARCHAR request_source
"""
_FHV = """
    dispatching_base_num VARCHAR dispatching_base_num, pickup_datetime TIMESTAMP pickup_datetime,
    dropoff_datetime TIMESTAMP dropOff_datetime, pickup_zone_id SMALLINT PUlocationID,
    dropoff_zone_id SMALLINT DOlocationID, sr_flag INTEGER SR_Flag,
    affiliated_base_number VARCHAR Affiliated_base_number
"""
_FHVHV = """
    hvfhs_license_num VARCHAR hvfhs_license_num, dispatching_base_num VARCHAR dispatching_base_num,
    originating_base_num VARCHAR originating_base_num, request_datetime TIMESTAMP request_datetime,
    on_scene_datetime TIMESTAMP on_scene_datetime, pickup_datetime TIMESTAMP pickup_datetime,
    dropoff_datetime TIMESTAMP dropoff_datetime, pickup_zone_id SMALLINT PULocationID,
    dropoff_zone_id SMALLINT DOLocationID, trip_distance DOUBLE trip_miles, trip_time INTEGER trip_time,
    base_passenger_fare DOUBLE base_passenger_fare, tolls DOUBLE tolls, bcf DOUBLE bcf, sales_tax DOUBLE sales_tax,
    congestion_surcharge DOUBLE congestion_surcharge, airport_fee DOUBLE airport_fee, tips DOUBLE tips,
    driver_pay DOUBLE driver_pay, shared_request_flag VARCHAR shared_request_flag,
    shared_match_flag VARCHAR shared_match_flag, access_a_ride_flag VARCHAR access_a_ride_flag,
    wav_request_flag VARCHAR wav_request_flag, wav_match_flag VARCHAR wav_match_flag,
    cbd_congestion_fee DOUBLE cbd_congestion_fee
"""
_TODAY = {"yellow": _YELLOW, "green": _GREEN, "fhv": _FHV, "fhvhv": _FHVHV}


def _coded(column: str, **codes: object) -> str:
    """SQL that fails on a text that is not listed here."""
    cases = " ".join(f"WHEN '{text.replace('_', ' ')}' THEN {code}" for text, code in codes.items())
    return f"CASE {column} {cases} ELSE CASE WHEN {column} IS NOT NULL THEN error('not listed: ' || {column}) END END"


# In the data dictionary, vendors are 1 Creative Mobile Technologies and 2 VeriFone, payments 1 credit card, 2 cash,
# 3 no charge, 4 dispute, 5 unknown.
_VENDORS = {"CMT": 1, "VTS": 2, "DDS": "NULL"}
_2009 = {
    "vendor_id": _coded("vendor_name", **_VENDORS),
    "pickup_datetime": "CAST(Trip_Pickup_DateTime AS TIMESTAMP)",
    "dropoff_datetime": "CAST(Trip_Dropoff_DateTime AS TIMESTAMP)",
    "passenger_count": "Passenger_Count",
    "trip_distance": "Trip_Distance",
    "rate_code_id": "Rate_Code",
    "store_and_fwd_flag": "CASE store_and_forward WHEN 0 THEN 'N' WHEN 1 THEN 'Y' END",
    "pickup_zone_id": "pickup_place",
    "dropoff_zone_id": "dropoff_place",
    "payment_type": _coded("Payment_Type", Credit=1, CREDIT=1, Cash=2, CASH=2, No_Charge=3, Dispute=4),
    "fare_amount": "Fare_Amt",
    "extra": "surcharge",
    "mta_tax": "mta_tax",
    "tip_amount": "Tip_Amt",
    "tolls_amount": "Tolls_Amt",
    "total_amount": "Total_Amt",
}
_2010 = {
    "vendor_id": _coded("vendor_id", **_VENDORS),
    "pickup_datetime": "pickup_datetime",
    "dropoff_datetime": "dropoff_datetime",
    "passenger_count": "passenger_count",
    "trip_distance": "trip_distance",
    "rate_code_id": "rate_code",
    "store_and_fwd_flag": "CASE store_and_fwd_flag WHEN '0' THEN 'N' WHEN '1' THEN 'Y' END",
    "pickup_zone_id": "pickup_place",
    "dropoff_zone_id": "dropoff_place",
    "payment_type": _coded("payment_type", Cre=1, CRE=1, Cas=2, CAS=2, NOC=3, Dis=4, DIS=4, NA_=5),
    "fare_amount": "fare_amount",
    "extra": "surcharge",
    "mta_tax": "mta_tax",
    "tip_amount": "tip_amount",
    "tolls_amount": "tolls_amount",
    "total_amount": "total_amount",
}
_PLACES = {
    "2009": ("Start_Lon", "Start_Lat", "End_Lon", "End_Lat"),
    "2010": ("pickup_longitude", "pickup_latitude", "dropoff_longitude", "dropoff_latitude"),
}


def types(fleet: str) -> dict[str, str]:
    """Our columns in their order, each with its type."""
    added = {"partition_month": "DATE"} | ({"is_reversed": "BOOLEAN"} if fleet in ("yellow", "green") else {})
    return {name: kind for name, kind, _ in _columns(fleet)} | added


def differences(con: duckdb.DuckDBPyConnection, fleet: str, month: str, path: Path) -> int:
    """Number of rows, however often each stands there, in which the fleet's table and the month's file differ.

    Every column of ours counts, also those that the file lacks: they must be null.
    """
    year = month[:4]
    places = _PLACES[year] if fleet == "yellow" and year in _PLACES else None
    if places:
        _look_up(con, path, places)
    joined = "JOIN places ON row = file_row_number" if places else ""
    theirs = ", ".join(f"{sql} AS {name}" for name, sql in _expressions(fleet, month).items())
    (found,) = con.execute(
        f"""SELECT count(*) FROM (
            SELECT COLUMNS(* EXCLUDE side), sum(side) AS sides FROM (
                SELECT COLUMNS(name -> name NOT IN ('partition_month', 'is_reversed')), 1 AS side
                FROM {fleet}_trips WHERE partition_month = '{month}-01'
                UNION ALL
                SELECT {theirs}, -1 AS side FROM read_parquet('{path}', file_row_number = true) AS file {joined}
            ) GROUP BY ALL HAVING sides != 0)"""
    ).fetchone()
    return found


def _columns(fleet: str) -> list[tuple[str, str, str]]:
    return [tuple(item.split()) for item in _TODAY[fleet].split(",")]


def _expressions(fleet: str, month: str) -> dict[str, str]:
    """SQL over a month's file, by our column."""
    today = {name: f'file."{published}"' for name, _, published in _columns(fleet)}
    for name, first in (("cbd_congestion_fee", "2025-01"), ("request_source", "2026-06")):
        if month < first and name in today:
            today[name] = "NULL"
    if fleet == "yellow" and month < "2011-01":
        old = _2009 if month < "2010-01" else _2010
        return {name: old.get(name, "NULL") for name in today}
    return today


def _look_up(con: duckdb.DuckDBPyConnection, path: Path, columns: tuple[str, ...]) -> None:
    """Make the table `places`: for each row of the file the zones in which its trip began and ended."""
    zones = con.execute("SELECT zone_id, geometry FROM zones WHERE geometry IS NOT NULL ORDER BY zone_id").fetchall()
    tree = shapely.STRtree(shapely.from_wkt([wkt for _, wkt in zones]))
    in_file = con.execute(f"SELECT {', '.join(columns)} FROM read_parquet('{path}')").fetchnumpy()
    found = {"row": numpy.arange(len(in_file[columns[0]]))}
    for name, lon, lat in (("pickup_place", *columns[:2]), ("dropoff_place", *columns[2:])):
        places = numpy.zeros(len(found["row"]), dtype=numpy.int16)
        rows, indexes = tree.query(shapely.points(in_file[lon], in_file[lat]), predicate="within")
        places[rows[::-1]] = numpy.array([zone_id for zone_id, _ in zones])[indexes[::-1]]
        found[name] = places
    con.register("found_places", found)
    con.execute(
        "CREATE OR REPLACE TEMP TABLE places AS SELECT row, nullif(pickup_place, 0) AS pickup_place, "
        "nullif(dropoff_place, 0) AS dropoff_place FROM found_places"
    )
    con.unregister("found_places")
