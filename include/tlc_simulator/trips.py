"""Generate a month's Parquet file with SQL, in exactly the layout that the catalogue has for the month."""

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import resources
from pathlib import Path

import duckdb

from include.nyc_taxi import catalogue
from include.nyc_taxi.files import replacing
from include.nyc_taxi.months import Month
from include.nyc_taxi.source.parquet import SIMULATED
from include.tlc_simulator.city import ZONES, Zone, centres, squares

ROW_GROUP_ROWS = 1_048_576  # as in the real files
CHANGED_SHARE, ADDED_SHARE = 0.01, 0.002  # of a later edition's rows, compared with the first edition


@dataclass(frozen=True)
class Profile:
    """The characteristics of a fleet's trips.

    Attributes:
        rows: the rows of a typical month if no number is requested.
        popular: the weights of pickups in popular zones, by zone ID.
        elsewhere: the weight of each other zone, by its area (see `_area`).
        card_share: the share of trips paid by card, or with a tip if the layout has no payment type.
        missing_payment: the payment type of rows with missing details.
        repeat_every: one in this many rows (at least 100) repeats the row before it; None for no repetitions.
        by_month: the fleet's differences from `_BY_MONTH`, in the same form.
        values: the fleet's differences from `_VALUES`, in the same form.
    """

    rows: int = 3000
    popular: Mapping[int, float] = field(default_factory=dict)
    elsewhere: Mapping[str, float] = field(default_factory=dict)
    card_share: float = 0.75
    missing_payment: int | None = None
    repeat_every: int | None = None
    by_month: tuple[tuple[str, str, float], ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)


def _weights(text: str) -> dict[int, float]:
    """Parse weights by zone ID, written "id:weight id:weight"."""
    return {int(zone_id): float(weight) for zone_id, weight in (item.split(":") for item in text.split())}


PROFILES = {
    "yellow": Profile(
        rows=5000,
        popular=_weights(
            """237:132 161:120 236:118 162:111 186:108 230:106 48:102 142:93 234:92 170:91 132:88 138:76 163:79
            239:75 79:73 141:72 107:70 164:68 68:67 229:62 249:60 263:58 238:58 100:56 140:54 90:50 113:48
            231:46 246:45 114:41 43:40 262:39 148:37 137:35 158:31 75:20 74:12 41:10 12:6 103:0.2 104:0.2
            105:0.2 194:0.5 264:24 265:8"""
        ),
        elsewhere={"Yellow Zone": 18, "Manhattan": 3, "Brooklyn": 0.6, "Queens": 0.6, "Bronx": 0.2},
        card_share=0.8,
        missing_payment=0,
        by_month=(("congestion_surcharge", "2019-02", 2.5),),
    ),
    "green": Profile(
        rows=2000,
        popular=_weights(
            """74:256 75:188 166:86 41:84 95:75 82:56 43:54 97:42 42:40 244:38 7:33 65:33 130:28 260:27 129:26
            134:16 116:16 92:13 33:13 66:13 264:4 265:3"""
        ),
        elsewhere={"Yellow Zone": 0.3, "Manhattan": 4, "Brooklyn": 3, "Queens": 2.5, "Bronx": 1.5, "Airports": 1},
        card_share=0.62,
    ),
    "fhv": Profile(
        rows=3000,
        popular=_weights(
            "132:60 138:50 1:10 76:20 244:20 42:20 69:20 168:20 169:20 174:20 213:20 254:20 264:10 265:20"
        ),
        elsewhere={"Yellow Zone": 8, "Manhattan": 8, "Brooklyn": 6, "Queens": 6, "Bronx": 9, "Staten Island": 4},
        repeat_every=250,
        # Before 2017 the bases reported no drop-offs, and few pickup zones.
        by_month=(
            ("no_pickup_zone", "2015-01", 0.75),
            ("unknown_pickup_zone", "2015-01", 0.02),
            ("no_dropoff_zone", "2015-01", 1.0),
            ("no_pickup_zone", "2017-01", 0.32),
            ("unknown_pickup_zone", "2017-01", 0.4),
            ("no_dropoff_zone", "2017-01", 0.055),
            ("shared_share", "2017-06", 0.15),
            ("shared_share", "2019-02", 0.0),
        ),
        values={
            "dispatching_base_num": "dispatching_base",
            "affiliated_base_number": "affiliated_base",
            "dropoff_datetime": "reported_dropoff_at",
            "pulocationid": "reported_pickup_zone",
            "dolocationid": "reported_dropoff_zone",
            "sr_flag": "CASE WHEN wants_to_share THEN 1 END",
        },
    ),
    "fhvhv": Profile(
        rows=6000,
        popular=_weights(
            """132:90 138:85 61:55 76:50 79:60 231:50 161:50 230:50 48:45 68:45 234:45 246:45 37:45 42:45 7:40
            181:40 225:40 17:35 36:35 244:35 264:0.1 265:0.5"""
        ),
        elsewhere={"Yellow Zone": 22, "Manhattan": 16, "Brooklyn": 17, "Queens": 11, "Bronx": 14, "Staten Island": 4},
        card_share=0.15,
        # The companies report all details of a trip.
        by_month=(
            ("missing_share", "2019-02", 0.0),
            ("airport_fee", "2021-04", 2.5),
            ("cbd_congestion_fee", "2025-01", 1.5),
            ("shared_share", "2019-02", 0.2),
            ("shared_share", "2020-04", 0.0),
            ("shared_share", "2022-06", 0.03),
        ),
    ),
}
OTHER_FLEETS = Profile(
    popular={132: 30, 138: 30, 264: 5, 265: 5},
    elsewhere={"Yellow Zone": 12, "Manhattan": 8, "Brooklyn": 7, "Queens": 5, "Bronx": 5, "Staten Island": 1},
)

# By hour of the day: the trips on a working day and on a day off, and the speed of the traffic.
# fmt: off
WORKDAY = (8, 5, 3, 2, 1.6, 3, 7, 12, 15, 15, 14, 15, 16, 16, 17, 17, 17, 19, 21, 20, 17, 16, 14, 11)
DAY_OFF = (18, 15, 12, 8, 5, 3, 3, 5, 7, 10, 13, 15, 16, 16, 16, 16, 16, 17, 18, 17, 15, 14, 14, 12)
MILES_PER_HOUR = (16, 17, 19, 20, 22, 21, 17, 13, 11, 11, 11, 10, 10, 10, 10, 10, 9.5, 9, 9.5, 11, 12, 13, 14, 15)
# fmt: on
WEEKDAYS = (0.90, 0.98, 1.02, 1.05, 1.07, 1.04, 0.88)  # Monday first

PASSENGERS = {0: 2, 1: 74, 2: 14, 3: 4, 4: 3, 5: 2, 6: 1}  # percentages of the trips

# Charges in US dollars, and shares of missing or shared values: (name, first month, value). The latest row of a name
# that has begun applies.
_BY_MONTH = (
    ("fare_start", "2009-01", 2.5),
    ("fare_step", "2009-01", 0.4),
    ("fare_step", "2012-09", 0.5),
    ("fare_start", "2023-01", 3.0),
    ("fare_step", "2023-01", 0.7),
    ("fare_to_jfk", "2009-01", 45.0),
    ("fare_to_jfk", "2012-09", 52.0),
    ("fare_to_jfk", "2023-01", 70.0),
    ("rush_hour_extra", "2009-01", 1.0),
    ("rush_hour_extra", "2023-01", 2.5),
    ("night_extra", "2009-01", 0.5),
    ("night_extra", "2023-01", 1.0),
    ("toll", "2009-01", 4.57),
    ("toll", "2015-01", 5.54),
    ("toll", "2021-01", 6.55),
    ("mta_tax", "2010-01", 0.5),
    ("improvement_surcharge", "2015-01", 0.3),
    ("improvement_surcharge", "2023-01", 1.0),
    ("congestion_surcharge", "2019-02", 2.75),
    ("airport_fee", "2021-04", 1.25),
    ("airport_fee", "2023-04", 1.75),
    ("cbd_congestion_fee", "2025-01", 0.75),
    ("missing_share", "2009-01", 0.0),
    ("missing_share", "2011-01", 0.045),
    ("shared_share", "2009-01", 0.0),
    ("no_pickup_zone", "2009-01", 0.0),
    ("unknown_pickup_zone", "2009-01", 0.0),
    ("no_dropoff_zone", "2009-01", 0.0),
)
_FEES = ("mta_tax", "improvement_surcharge", "congestion_surcharge", "airport_fee", "cbd_congestion_fee")

# SQL for each published column, by its name in lower case, in terms of the columns of trips.sql.
_VALUES = {
    "vendorid": "vendor",
    "tpep_pickup_datetime": "pickup_at",
    "tpep_dropoff_datetime": "dropoff_at",
    "lpep_pickup_datetime": "pickup_at",
    "lpep_dropoff_datetime": "dropoff_at",
    "passenger_count": "passengers",
    "trip_distance": "distance",
    "ratecodeid": "rate_code",
    "store_and_fwd_flag": "CASE was_stored WHEN TRUE THEN 'Y' WHEN FALSE THEN 'N' END",
    "pulocationid": "pickup_zone",
    "dolocationid": "dropoff_zone",
    "payment_type": "payment",
    "fare_amount": "fare",
    "extra": "extra",
    "mta_tax": "mta_tax",
    "tip_amount": "tip",
    "tolls_amount": "tolls",
    "ehail_fee": "NULL",
    "improvement_surcharge": "improvement_surcharge",
    "total_amount": "total",
    "trip_type": "trip_type",
    "congestion_surcharge": "congestion_surcharge",
    "airport_fee": "airport_fee",
    "cbd_congestion_fee": "cbd_congestion_fee",
    "request_source": "request_source",
    # For-hire vehicles: those of bases (fhv) and of the high-volume apps (fhvhv).
    "hvfhs_license_num": "app",
    "dispatching_base_num": "app_base",
    "originating_base_num": "CASE app WHEN 'HV0003' THEN app_base END",
    "affiliated_base_number": "app_base",
    "request_datetime": "requested_at",
    "on_scene_datetime": "CASE app WHEN 'HV0003' THEN arrived_at END",
    "pickup_datetime": "pickup_at",
    "dropoff_datetime": "dropoff_at",
    "trip_miles": "distance",
    "trip_time": "epoch(dropoff_at - pickup_at)",
    "base_passenger_fare": "fare",
    "tolls": "tolls",
    "bcf": "round(0.0275 * greatest(fare, 0), 2)",
    "sales_tax": "round(0.08875 * greatest(fare, 0), 2)",
    "tips": "tip",
    "driver_pay": "round(0.75 * greatest(fare, 0), 2)",
    "shared_request_flag": "CASE WHEN wants_to_share THEN 'Y' ELSE 'N' END",
    "shared_match_flag": "CASE WHEN shares THEN 'Y' ELSE 'N' END",
    "access_a_ride_flag": "CASE app WHEN 'HV0003' THEN ' ' ELSE 'N' END",
    "wav_request_flag": "CASE WHEN wants_wheelchair THEN 'Y' ELSE 'N' END",
    "wav_match_flag": "CASE WHEN takes_wheelchair THEN 'Y' ELSE 'N' END",
    "sr_flag": "NULL",
}


def _payment_texts(cmt: Sequence[str], vts: Sequence[str], dds: Sequence[str]) -> str:
    """SQL for the payment type as each vendor spells it; the texts are in the order of the IDs 1 to 4."""
    spellings = " ".join(
        f"WHEN '{vendor}' THEN {list(texts)}[payment]" for vendor, texts in (("CMT", cmt), ("VTS", vts))
    )
    return f"CASE vendor_text {spellings} ELSE {list(dds)}[payment] END"


# Yellow 2009 and 2010. In layouts without zones, these take precedence over `_VALUES`.
_VALUES_BEFORE_ZONES = {
    "vendor_id": "vendor_text",
    "pickup_longitude": "pickup_lon",
    "pickup_latitude": "pickup_lat",
    "dropoff_longitude": "dropoff_lon",
    "dropoff_latitude": "dropoff_lat",
    "rate_code": "rate_code",
    "store_and_fwd_flag": "CASE vendor_text WHEN 'CMT' THEN was_stored::INTEGER END",
    "payment_type": _payment_texts(
        cmt=("Cre", "Cas", "NA ", "Dis"), vts=("Cre", "CAS", "NOC", "DIS"), dds=("CRE", "CAS", "NOC", "DIS")
    ),
    "surcharge": "extra",
    "__index_level_0__": "row_number",
}
_VALUES_OF_2009 = _VALUES_BEFORE_ZONES | {
    "vendor_name": "vendor_text",
    "trip_pickup_datetime": "strftime(pickup_at, '%Y-%m-%d %H:%M:%S')",
    "trip_dropoff_datetime": "strftime(dropoff_at, '%Y-%m-%d %H:%M:%S')",
    "start_lon": "pickup_lon",
    "start_lat": "pickup_lat",
    "end_lon": "dropoff_lon",
    "end_lat": "dropoff_lat",
    "rate_code": "NULL",
    "store_and_forward": "NULL",
    "payment_type": _payment_texts(
        cmt=("Credit", "Cash", "No Charge", "Dispute"),
        vts=("Credit", "CASH", "No Charge", "Dispute"),
        dds=("CREDIT", "CASH", "No Charge", "Dispute"),
    ),
    "fare_amt": "fare",
    "tip_amt": "tip",
    "tolls_amt": "tolls",
    "total_amt": "total",
}
# Wrong longitudes and latitudes of some meters: swapped axes, a lost sign, shifted digits, other cities.
_WRONG_PLACES = ((40.75, -73.98), (73.98, 40.75), (-7.398, 4.075), (-739.8, 407.5), (-71.06, 42.36), (-74.5, 40.3))

_APPS = (  # license number, last month, relative share of the trips
    ("HV0002", "2019-11", 4),  # Juno
    ("HV0004", "2021-10", 3),  # Via
    ("HV0005", None, 28),  # Lyft
    ("HV0003", None, 70),  # Uber
)
_BASES_MERGED_FROM = "2022-01"  # since then, Uber and Lyft have reported one base each
_UBER_BASES = tuple(
    f"B0{number}"
    for number in (2764, 2875, 2872, 2765, 2878, 2887, 2869, 2864, 2617, 2879, 2871, 2866, 2882, 2682, 2395)
)

# A list that repeats each item a given number of times. Binding such a list as a parameter would take longer than
# generating the trips of a small file.
_REPEATED = """SELECT list(item ORDER BY item) FROM (
    SELECT unnest(list_resize([item], times, item)) AS item
    FROM (SELECT unnest(${name}) AS item, unnest(${name}_times) AS times)
)"""

_MACROS = (
    # 53 bits, the precision of a DOUBLE.
    "CREATE TEMP MACRO draw(trip, n) AS (hash(trip + n) >> 11) / 9007199254740992.0",
    "CREATE TEMP MACRO pick(items, place) AS items[1 + floor(place * len(items))::BIGINT]",
    # See city.MILES_PER_DEGREE. The squares are products because `pow` is slow.
    """CREATE TEMP MACRO miles(lons, lats, a, b) AS sqrt(
        52.4 * 52.4 * (lons[a] - lons[b]) * (lons[a] - lons[b])
        + 69.0 * 69.0 * (lats[a] - lats[b]) * (lats[a] - lats[b])
    )""",
)


def default_rows(fleet: str, month: str) -> int:
    """The number of rows of a month if none is requested: a few thousand, different in each month."""
    return round(_profile(fleet).rows * (0.9 + 0.2 * random.Random(f"{fleet} {month}").random()))


def write_month(
    path: Path, fleet: str, month: str, *, rows: int | None = None, seed: int = 1, edition: int = 1
) -> None:
    """Write a month's Parquet file.

    The same arguments give the same bytes, on any machine with the same DuckDB, whatever the number of threads.

    Args:
        path: the file to write, which is complete or absent at any time.
        fleet: a fleet in the catalogue.
        month: the month, written YYYY-MM.
        rows: the rows of the first edition; None for `default_rows`.
        seed: the seed of the random trips.
        edition: in editions from 2 on, about 1 % of the trips differ from the first edition, and 0.2 % (at least one)
            are additional.

    Raises:
        FleetError: there is no such fleet in the catalogue.
        MonthError: `month` is malformed, or before the fleet's first month.
        ValueError: `rows` is negative, or `edition` is below 1.
        NotImplementedError: the simulator has no values for a column in the catalogue.
    """
    layout = catalogue.fleet(fleet).layout(month)
    rows = default_rows(fleet, month) if rows is None else rows
    if rows < 0 or edition < 1:
        raise ValueError(
            f"cannot make edition {edition} of {fleet} {month} with {rows} rows: expected an edition of at least 1 and "
            "at least 0 rows"
        )
    trips = resources.files("include.tlc_simulator").joinpath("trips.sql").read_text(encoding="utf-8")
    lists, slots = _lists(month, layout), _slots(fleet, month, seed)
    # More than one thread is slower (measured), because the threads compete for the reference counts of the lists.
    with duckdb.connect(config={"threads": 1}) as connection, replacing(Path(path)) as temporary:
        for macro in _MACROS:
            connection.execute(macro)
        # The lists are in a table, because parameters would be copied into every expression that uses them.
        selected = {name: f"${name}" for name in lists} | {name: f"({_REPEATED.format(name=name)})" for name in slots}
        items = {name: list(slot) for name, slot in slots.items()}
        times = {f"{name}_times": list(slot.values()) for name, slot in slots.items()}
        connection.execute(
            f"CREATE TABLE lists AS SELECT {', '.join(f'{sql} AS {name}' for name, sql in selected.items())}",
            lists | items | times,
        )
        connection.execute(
            f"COPY (SELECT {_select_list(fleet, layout)} FROM ({trips})) TO $path "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_ROWS}, "
            f"KV_METADATA {{{SIMULATED}: 'by include/tlc_simulator'}})",
            {"path": str(temporary), **_parameters(fleet, month, layout, rows, seed, edition)},
        )


def _select_list(fleet: str, layout: catalogue.Layout) -> str:
    values = {**_VALUES, **_profile(fleet).values}
    if not layout.has_zones:
        values |= _VALUES_OF_2009 if layout.first_month < "2010-01" else _VALUES_BEFORE_ZONES
    unknown = [name for name in layout.names if name.casefold() not in values]
    if unknown:
        raise NotImplementedError(
            f"no values for the columns {', '.join(unknown)}: add them to include/tlc_simulator/trips.py"
        )
    return ", ".join(f'CAST({values[name.casefold()]} AS {kind}) AS "{name}"' for name, kind in layout.columns)


def _parameters(
    fleet: str, month: str, layout: catalogue.Layout, rows: int, seed: int, edition: int
) -> dict[str, object]:
    """The parameters of trips.sql."""
    profile = _profile(fleet)
    key = f"{fleet} {month} {seed}"
    known: dict[str, float | None] = dict.fromkeys(_FEES)
    known |= {name: value for name, since, value in (*_BY_MONTH, *profile.by_month) if since <= month}
    # A total is the sum of the file's columns, so fees without a column are not charged.
    in_layout = {name.casefold() for name in layout.names}
    known |= {name: None for name in _FEES if name not in in_layout}
    return known | {
        "rows": rows,
        "added_rows": math.ceil(rows * ADDED_SHARE) if edition > 1 else 0,
        "key": _key(key),
        "edition_key": _key(f"{key} {edition}") if edition > 1 else _key(key),
        "changed_share": CHANGED_SHARE if edition > 1 else 0,
        "month_start": str(Month(month).first_day),
        "month_end": str(Month(month).end),
        "unset_clock": "2008-12-31 22:00:00" if month == "2009-01" else "2009-01-01 00:00:00",
        # About twenty of each kind of quirk in a file of 20,000 rows or more, and fewer in smaller ones.
        "quirk_every": max(1000, rows // 20),
        "repeat_every": profile.repeat_every,
        "missing_payment": profile.missing_payment,
        "card_share": profile.card_share,
    }


def _lists(month: str, layout: catalogue.Layout) -> dict[str, Sequence[object]]:
    """The lists for trips.sql that do not depend on the fleet, by name."""
    lons, lats = zip(*centres().values(), strict=True)
    core = [zone.service_zone == "Yellow Zone" for zone in ZONES.values()]
    places = () if layout.has_zones else squares()  # thousands of squares, so only if they are needed
    squares_of: dict[int, list[int]] = {zone_id: [] for zone_id in ZONES}
    for number, square in enumerate(places, start=1):
        squares_of[square.zone_id].append(number)
    return {
        "lons": lons,
        "lats": lats,
        "core": core,
        # South of 60th Street, judged by the zones' centres. The street crosses Fifth Avenue at 73.973° W, 40.7647° N.
        "toll_area": [
            in_core and lat < 40.7647 - 0.42 * (lon + 73.973)
            for in_core, lon, lat in zip(core, lons, lats, strict=True)
        ],
        "speeds": MILES_PER_HOUR,
        "squares": list(squares_of.values()),
        "square_lons": [square.lon for square in places],
        "square_lats": [square.lat for square in places],
        "square_miles": [square.miles for square in places],
        "wrong_lons": [lon for lon, _ in _WRONG_PLACES],
        "wrong_lats": [lat for _, lat in _WRONG_PLACES],
        "apps": [app for app, last, share in _APPS if last is None or month <= last for _ in range(share)],
        "uber_bases": _UBER_BASES if month < _BASES_MERGED_FROM else ["B03404"],
        "lyft_bases": ["B02510"] if month < _BASES_MERGED_FROM else ["B03406"],
    }


def _slots(fleet: str, month: str, seed: int) -> dict[str, dict[int, int]]:
    """The fleet's lists for trips.sql, by name: how often each item occurs in the list, in ascending order of items."""
    pickups, dropoffs = _zone_weights(_profile(fleet))
    return {
        "hours": _repetitions(dict(enumerate(_hour_weights(month, f"{fleet} {month} {seed}")))),
        "pickup_zones": _repetitions(pickups),
        "dropoff_zones": _repetitions(dropoffs),
        "passenger_counts": _repetitions(PASSENGERS, slots=100),
    }


def _profile(fleet: str) -> Profile:
    return PROFILES.get(fleet, OTHER_FLEETS)


def _key(text: str) -> int:
    """A 56-bit hash of the text, which leaves room to add row numbers."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")


def _area(zone: Zone) -> str:
    """The zone's area in a profile's `elsewhere`: "Yellow Zone" (Manhattan's core), "Airports", or its borough."""
    return zone.service_zone if zone.service_zone in ("Yellow Zone", "Airports") else zone.borough


def _zone_weights(profile: Profile) -> tuple[dict[int, float], dict[int, float]]:
    """The weights of pickups and of drop-offs, by zone ID. Both sum to 1. Drop-offs are spread more widely."""
    pickups = {z.id: profile.popular.get(z.id, profile.elsewhere.get(_area(z), 0.05)) for z in ZONES.values()}
    spread = {z.id: {"Yellow Zone": 4, "Airports": 4, "Staten Island": 0.2}.get(_area(z), 1.0) for z in ZONES.values()}
    pickup_sum, spread_sum = sum(pickups.values()), sum(spread.values())
    return (
        {zone_id: weight / pickup_sum for zone_id, weight in pickups.items()},
        {zone_id: 0.75 * pickups[zone_id] / pickup_sum + 0.25 * spread[zone_id] / spread_sum for zone_id in ZONES},
    )


def _hour_weights(month: str, key: str) -> list[float]:
    """The weights of the hours of the month. They depend on the hour and the weekday, and vary randomly by day."""
    randomly = random.Random(key)
    day, end = Month(month).first_day, Month(month).end
    weights: list[float] = []
    while day < end:
        today = WEEKDAYS[day.weekday()] * (0.92 + 0.16 * randomly.random())
        hours = WORKDAY if day.weekday() < 5 else DAY_OFF
        weights += [today * hour / sum(hours) for hour in hours]
        day += timedelta(days=1)
    return weights


def _repetitions(weights: Mapping[int, float], slots: int = 16384) -> dict[int, int]:
    """How often to repeat each item in a list, in proportion to its weight but at least once.

    To draw an item with its probability, trips.sql looks up a random position in the list.
    """
    total = sum(weights.values())
    return {item: max(1, round(slots * weight / total)) for item, weight in weights.items()}
