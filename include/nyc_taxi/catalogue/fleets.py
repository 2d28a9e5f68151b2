"""The fleets, and the layouts of their files over the years.

Sources: the TLC's trip record data dictionaries, and the column names of all files published by mid-2024. To add a
fleet, add a `Fleet` here: tables, loads, DAGs, maps and the simulator all read this catalogue.
"""

from include.nyc_taxi.catalogue.types import INDEX, Coded, Column, Coordinates, Fleet, Layout, Origin
from include.nyc_taxi.errors import FleetError

ZONE_LOOKUP_PATH = "/misc/taxi_zone_lookup.csv"
ZONE_SHAPES_PATH = "/misc/taxi_zones.zip"
ZONES = 265
"""The number of zones. Their IDs are 1 to 265; 264 means "Unknown" and 265 "Outside of NYC"."""

CITY_TIME = "America/New_York"
"""The time zone of the TLC's times. If a file marks its times as UTC, they are converted to this zone."""


def _parse(text: str) -> tuple[tuple[str, str], ...]:
    """Parse a column list written as in SQL: "name TYPE, name TYPE"."""
    pairs = (item.split() for item in text.split(","))
    return tuple((name, kind) for name, kind in pairs)


def _columns(text: str) -> tuple[Column, ...]:
    """Parse our columns, written "our_name TYPE published_name, …"."""
    triples = (item.split() for item in text.split(","))
    return tuple(Column(name, kind, published) for name, kind, published in triples)


_YELLOW_2009 = """vendor_name VARCHAR, Trip_Pickup_DateTime VARCHAR, Trip_Dropoff_DateTime VARCHAR, Passenger_Count BIGINT,
    Trip_Distance DOUBLE, Start_Lon DOUBLE, Start_Lat DOUBLE, Rate_Code DOUBLE, store_and_forward DOUBLE, End_Lon DOUBLE,
    End_Lat DOUBLE, Payment_Type VARCHAR, Fare_Amt DOUBLE, surcharge DOUBLE, mta_tax DOUBLE, Tip_Amt DOUBLE,
    Tolls_Amt DOUBLE, Total_Amt DOUBLE"""
# DDS (Digital Dispatch Systems) closed before the TLC numbered its vendors.
_VENDORS = {"CMT": 1, "VTS": 2, "DDS": None}
_PAYMENTS = {
    **dict.fromkeys(("CREDIT", "CRE", "CRD"), 1),
    **dict.fromkeys(("CASH", "CAS", "CSH"), 2),
    **dict.fromkeys(("NO CHARGE", "NOC", "NO"), 3),
    **dict.fromkeys(("DISPUTE", "DIS"), 4),
    **dict.fromkeys(("UNKNOWN", "UNK", "NA"), 5),
}
_STORED = {"Y": "Y", "N": "N", "1": "Y", "0": "N", "1.0": "Y", "0.0": "N", "*": None}
_YELLOW_2009_ORIGINS: dict[str, Origin] = {
    "vendor_id": Coded("vendor_name", _VENDORS),
    "pickup_datetime": "Trip_Pickup_DateTime",
    "dropoff_datetime": "Trip_Dropoff_DateTime",
    "passenger_count": "Passenger_Count",
    "trip_distance": "Trip_Distance",
    "rate_code_id": "Rate_Code",
    "store_and_fwd_flag": Coded("store_and_forward", _STORED),
    "pickup_zone_id": Coordinates("Start_Lon", "Start_Lat"),
    "dropoff_zone_id": Coordinates("End_Lon", "End_Lat"),
    "payment_type": Coded("Payment_Type", _PAYMENTS),
    "fare_amount": "Fare_Amt",
    "extra": "surcharge",
    "mta_tax": "mta_tax",
    "tip_amount": "Tip_Amt",
    "tolls_amount": "Tolls_Amt",
    "total_amount": "Total_Amt",
}
_YELLOW_2010 = """vendor_id VARCHAR, pickup_datetime TIMESTAMP, dropoff_datetime TIMESTAMP, passenger_count BIGINT,
    trip_distance DOUBLE, pickup_longitude DOUBLE, pickup_latitude DOUBLE, rate_code BIGINT, store_and_fwd_flag VARCHAR,
    dropoff_longitude DOUBLE, dropoff_latitude DOUBLE, payment_type VARCHAR, fare_amount DOUBLE, surcharge DOUBLE,
    mta_tax DOUBLE, tip_amount DOUBLE, tolls_amount DOUBLE, total_amount DOUBLE"""
_YELLOW_2010_ORIGINS: dict[str, Origin] = {
    "vendor_id": Coded("vendor_id", _VENDORS),
    "pickup_datetime": "pickup_datetime",
    "dropoff_datetime": "dropoff_datetime",
    "passenger_count": "passenger_count",
    "trip_distance": "trip_distance",
    "rate_code_id": "rate_code",
    "store_and_fwd_flag": Coded("store_and_fwd_flag", _STORED),
    "pickup_zone_id": Coordinates("pickup_longitude", "pickup_latitude"),
    "dropoff_zone_id": Coordinates("dropoff_longitude", "dropoff_latitude"),
    "payment_type": Coded("payment_type", _PAYMENTS),
    "fare_amount": "fare_amount",
    "extra": "surcharge",
    "mta_tax": "mta_tax",
    "tip_amount": "tip_amount",
    "tolls_amount": "tolls_amount",
    "total_amount": "total_amount",
}
_YELLOW_2011 = """VendorID BIGINT, tpep_pickup_datetime TIMESTAMP, tpep_dropoff_datetime TIMESTAMP, passenger_count DOUBLE,
    trip_distance DOUBLE, RatecodeID DOUBLE, store_and_fwd_flag VARCHAR, PULocationID BIGINT, DOLocationID BIGINT,
    payment_type BIGINT, fare_amount DOUBLE, extra DOUBLE, mta_tax DOUBLE, tip_amount DOUBLE, tolls_amount DOUBLE,
    improvement_surcharge DOUBLE, total_amount DOUBLE, congestion_surcharge DOUBLE, airport_fee DOUBLE"""
_YELLOW_2023 = """VendorID INTEGER, tpep_pickup_datetime TIMESTAMP, tpep_dropoff_datetime TIMESTAMP, passenger_count BIGINT,
    trip_distance DOUBLE, RatecodeID BIGINT, store_and_fwd_flag VARCHAR, PULocationID INTEGER, DOLocationID INTEGER,
    payment_type BIGINT, fare_amount DOUBLE, extra DOUBLE, mta_tax DOUBLE, tip_amount DOUBLE, tolls_amount DOUBLE,
    improvement_surcharge DOUBLE, total_amount DOUBLE, congestion_surcharge DOUBLE, Airport_fee DOUBLE"""
# Until 2023-01 `ehail_fee` was always null and had Parquet's null type, which DuckDB reads and writes as INTEGER.
_GREEN_2014 = """VendorID BIGINT, lpep_pickup_datetime TIMESTAMP, lpep_dropoff_datetime TIMESTAMP, store_and_fwd_flag VARCHAR,
    RatecodeID DOUBLE, PULocationID BIGINT, DOLocationID BIGINT, passenger_count DOUBLE, trip_distance DOUBLE,
    fare_amount DOUBLE, extra DOUBLE, mta_tax DOUBLE, tip_amount DOUBLE, tolls_amount DOUBLE, ehail_fee INTEGER,
    improvement_surcharge DOUBLE, total_amount DOUBLE, payment_type DOUBLE, trip_type DOUBLE,
    congestion_surcharge DOUBLE"""
_GREEN_2023 = """VendorID INTEGER, lpep_pickup_datetime TIMESTAMP, lpep_dropoff_datetime TIMESTAMP,
    store_and_fwd_flag VARCHAR, RatecodeID BIGINT, PULocationID INTEGER, DOLocationID INTEGER, passenger_count BIGINT,
    trip_distance DOUBLE, fare_amount DOUBLE, extra DOUBLE, mta_tax DOUBLE, tip_amount DOUBLE, tolls_amount DOUBLE,
    ehail_fee DOUBLE, improvement_surcharge DOUBLE, total_amount DOUBLE, payment_type BIGINT, trip_type BIGINT,
    congestion_surcharge DOUBLE"""
# In many months `SR_Flag` is always null, and has Parquet's null type.
_FHV = """dispatching_base_num VARCHAR, pickup_datetime TIMESTAMP, dropOff_datetime TIMESTAMP, PUlocationID DOUBLE,
    DOlocationID DOUBLE, SR_Flag INTEGER, Affiliated_base_number VARCHAR"""
_FHVHV = """hvfhs_license_num VARCHAR, dispatching_base_num VARCHAR, originating_base_num VARCHAR,
    request_datetime TIMESTAMP, on_scene_datetime TIMESTAMP, pickup_datetime TIMESTAMP, dropoff_datetime TIMESTAMP,
    PULocationID BIGINT, DOLocationID BIGINT, trip_miles DOUBLE, trip_time BIGINT, base_passenger_fare DOUBLE,
    tolls DOUBLE, bcf DOUBLE, sales_tax DOUBLE, congestion_surcharge DOUBLE, airport_fee DOUBLE, tips DOUBLE,
    driver_pay DOUBLE, shared_request_flag VARCHAR, shared_match_flag VARCHAR, access_a_ride_flag VARCHAR,
    wav_request_flag VARCHAR, wav_match_flag VARCHAR"""
_CONGESTION_PRICING = ", cbd_congestion_fee DOUBLE"  # the toll south of 60th Street, since January 2025
_REQUEST_SOURCE = ", request_source VARCHAR"  # the app that sent the passenger, or A; since June 2026

_TAXI_NEVER_EMPTY = (
    "pickup_datetime",
    "dropoff_datetime",
    "pickup_zone_id",
    "dropoff_zone_id",
    "trip_distance",
    "fare_amount",
    "total_amount",
)


FLEETS: dict[str, Fleet] = {
    fleet.name: fleet
    for fleet in (
        Fleet(
            name="yellow",
            title="Yellow taxis",
            layouts=(
                Layout("2009-01", "2009-12", _parse(_YELLOW_2009), _YELLOW_2009_ORIGINS),
                Layout("2010-01", "2010-12", _parse(_YELLOW_2010), _YELLOW_2010_ORIGINS),
                # Two months were published with the row index of a pandas table.
                Layout("2010-02", "2010-03", _parse(f"{_YELLOW_2010}, {INDEX} BIGINT"), _YELLOW_2010_ORIGINS),
                Layout("2011-01", "2023-01", _parse(_YELLOW_2011)),
                Layout("2023-02", "2024-12", _parse(_YELLOW_2023)),
                Layout("2025-01", "2026-05", _parse(_YELLOW_2023 + _CONGESTION_PRICING)),
                Layout("2026-06", None, _parse(_YELLOW_2023 + _CONGESTION_PRICING + _REQUEST_SOURCE)),
            ),
            columns=_columns(
                """vendor_id INTEGER VendorID,
                pickup_datetime TIMESTAMP tpep_pickup_datetime,
                dropoff_datetime TIMESTAMP tpep_dropoff_datetime,
                passenger_count INTEGER passenger_count,
                trip_distance DOUBLE trip_distance,
                rate_code_id INTEGER RatecodeID,
                store_and_fwd_flag VARCHAR store_and_fwd_flag,
                pickup_zone_id SMALLINT PULocationID,
                dropoff_zone_id SMALLINT DOLocationID,
                payment_type INTEGER payment_type,
                fare_amount DOUBLE fare_amount,
                extra DOUBLE extra,
                mta_tax DOUBLE mta_tax,
                tip_amount DOUBLE tip_amount,
                tolls_amount DOUBLE tolls_amount,
                improvement_surcharge DOUBLE improvement_surcharge,
                total_amount DOUBLE total_amount,
                congestion_surcharge DOUBLE congestion_surcharge,
                airport_fee DOUBLE airport_fee,
                cbd_congestion_fee DOUBLE cbd_congestion_fee,
                request_source VARCHAR request_source"""
            ),
            never_empty=_TAXI_NEVER_EMPTY,
        ),
        Fleet(
            name="green",
            title="Green taxis",
            layouts=(
                Layout("2014-01", "2023-01", _parse(_GREEN_2014)),
                Layout("2023-02", "2024-12", _parse(_GREEN_2023)),
                Layout("2025-01", "2026-05", _parse(_GREEN_2023 + _CONGESTION_PRICING)),
                Layout("2026-06", None, _parse(_GREEN_2023 + _CONGESTION_PRICING + _REQUEST_SOURCE)),
            ),
            columns=_columns(
                """vendor_id INTEGER VendorID,
                pickup_datetime TIMESTAMP lpep_pickup_datetime,
                dropoff_datetime TIMESTAMP lpep_dropoff_datetime,
                store_and_fwd_flag VARCHAR store_and_fwd_flag,
                rate_code_id INTEGER RatecodeID,
                pickup_zone_id SMALLINT PULocationID,
                dropoff_zone_id SMALLINT DOLocationID,
                passenger_count INTEGER passenger_count,
                trip_distance DOUBLE trip_distance,
                fare_amount DOUBLE fare_amount,
                extra DOUBLE extra,
                mta_tax DOUBLE mta_tax,
                tip_amount DOUBLE tip_amount,
                tolls_amount DOUBLE tolls_amount,
                ehail_fee DOUBLE ehail_fee,
                improvement_surcharge DOUBLE improvement_surcharge,
                total_amount DOUBLE total_amount,
                payment_type INTEGER payment_type,
                trip_type INTEGER trip_type,
                congestion_surcharge DOUBLE congestion_surcharge,
                cbd_congestion_fee DOUBLE cbd_congestion_fee,
                request_source VARCHAR request_source"""
            ),
            never_empty=_TAXI_NEVER_EMPTY,
        ),
        Fleet(
            name="fhv",
            title="For-hire vehicles",
            layouts=(Layout("2015-01", None, _parse(_FHV)),),
            columns=_columns(
                """dispatching_base_num VARCHAR dispatching_base_num,
                pickup_datetime TIMESTAMP pickup_datetime,
                dropoff_datetime TIMESTAMP dropOff_datetime,
                pickup_zone_id SMALLINT PUlocationID,
                dropoff_zone_id SMALLINT DOlocationID,
                sr_flag INTEGER SR_Flag,
                affiliated_base_number VARCHAR Affiliated_base_number"""
            ),
        ),
        Fleet(
            name="fhvhv",
            title="High-volume for-hire vehicles",
            layouts=(
                Layout("2019-02", "2024-12", _parse(_FHVHV)),
                Layout("2025-01", None, _parse(_FHVHV + _CONGESTION_PRICING)),
            ),
            columns=_columns(
                """hvfhs_license_num VARCHAR hvfhs_license_num,
                dispatching_base_num VARCHAR dispatching_base_num,
                originating_base_num VARCHAR originating_base_num,
                request_datetime TIMESTAMP request_datetime,
                on_scene_datetime TIMESTAMP on_scene_datetime,
                pickup_datetime TIMESTAMP pickup_datetime,
                dropoff_datetime TIMESTAMP dropoff_datetime,
                pickup_zone_id SMALLINT PULocationID,
                dropoff_zone_id SMALLINT DOLocationID,
                trip_distance DOUBLE trip_miles,
                trip_time INTEGER trip_time,
                base_passenger_fare DOUBLE base_passenger_fare,
                tolls DOUBLE tolls,
                bcf DOUBLE bcf,
                sales_tax DOUBLE sales_tax,
                congestion_surcharge DOUBLE congestion_surcharge,
                airport_fee DOUBLE airport_fee,
                tips DOUBLE tips,
                driver_pay DOUBLE driver_pay,
                shared_request_flag VARCHAR shared_request_flag,
                shared_match_flag VARCHAR shared_match_flag,
                access_a_ride_flag VARCHAR access_a_ride_flag,
                wav_request_flag VARCHAR wav_request_flag,
                wav_match_flag VARCHAR wav_match_flag,
                cbd_congestion_fee DOUBLE cbd_congestion_fee"""
            ),
            never_empty=(
                "hvfhs_license_num",
                "pickup_datetime",
                "dropoff_datetime",
                "pickup_zone_id",
                "dropoff_zone_id",
                "trip_distance",
                "base_passenger_fare",
            ),
        ),
    )
}

COMMON_COLUMNS: tuple[tuple[str, str], ...] = (
    ("vendor_id", "INTEGER"),
    ("pickup_zone_id", "SMALLINT"),
    ("dropoff_zone_id", "SMALLINT"),
    ("rate_code_id", "INTEGER"),
    ("payment_type", "INTEGER"),
    ("pickup_datetime", "TIMESTAMP"),
    ("dropoff_datetime", "TIMESTAMP"),
    ("trip_distance", "DOUBLE"),
    ("passenger_count", "INTEGER"),
    ("total_amount", "DOUBLE"),
)
"""The columns of the view `trips` after `fleet` and `partition_month`; null for fleets that lack the column."""


def fleet(name: str) -> Fleet:
    """The fleet called `name`.

    Raises:
        FleetError: there is no such fleet; the message lists all fleets.
    """
    if name not in FLEETS:
        raise FleetError(f"no fleet {name!r} in the catalogue: expected one of {', '.join(FLEETS)}")
    return FLEETS[name]


def file_name(fleet_name: str, month: str) -> str:
    """The name of a month's file, in raw/ and on the TLC's site.

    Raises:
        FleetError: there is no such fleet.
        MonthError: `month` is malformed, or before the fleet's first month.
    """
    fleet(fleet_name).layout(month)
    return f"{fleet_name}_tripdata_{month}.parquet"


def file_path(fleet_name: str, month: str) -> str:
    """The path of a month's file on the TLC's site, with a leading slash. Raises the same errors as `file_name`."""
    return f"/trip-data/{file_name(fleet_name, month)}"
