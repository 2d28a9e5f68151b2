"""Trips: a month's Parquet file, made up in SQL, in exactly the layout that the catalogue gives for that month."""

import hashlib
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import resources
from pathlib import Path

import duckdb

from include.nyc_taxi import tlc
from include.nyc_taxi.files import replacing
from include.nyc_taxi.months import first_day, next_first_day
from include.tlc_simulator.city import ZONES, Zone

ROW_GROUP_ROWS = 1_048_576  # as in the real files
CHANGED_SHARE = 0.01  # of an edition's rows, against the first edition
ADDED_SHARE = 0.002


@dataclass(frozen=True)
class Profile:
    """How a fleet's trips differ from another's.

    Attributes:
        rows: rows of a typical month when no number is asked for.
        popular: pickups in single zones, as weights.
        elsewhere: the weight of any other zone, by its area (see `_area`).
        card_share: share of the trips paid by card.
        congestion_surcharge: US dollars, for a trip that touches Manhattan's core.
        missing_payment: the payment type of rows whose details are missing.
    """

    rows: int = 3000
    popular: Mapping[int, float] = field(default_factory=dict)
    elsewhere: Mapping[str, float] = field(default_factory=dict)
    card_share: float = 0.75
    congestion_surcharge: float = 2.75
    missing_payment: int | None = None


def _weights(text: str) -> dict[int, float]:
    """Weights by zone id, written "id:weight id:weight"."""
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
        congestion_surcharge=2.5,
        missing_payment=0,
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
}
OTHER_FLEETS = Profile(
    popular={132: 30, 138: 30, 264: 5, 265: 5},
    elsewhere={"Yellow Zone": 12, "Manhattan": 8, "Brooklyn": 7, "Queens": 5, "Bronx": 5, "Staten Island": 1},
)

# Trips an hour on a working day and on a day off, and the speed of the streets, by hour of the day.
# fmt: off
WORKDAY = (8, 5, 3, 2, 1.6, 3, 7, 12, 15, 15, 14, 15, 16, 16, 17, 17, 17, 19, 21, 20, 17, 16, 14, 11)
DAY_OFF = (18, 15, 12, 8, 5, 3, 3, 5, 7, 10, 13, 15, 16, 16, 16, 16, 16, 17, 18, 17, 15, 14, 14, 12)
MILES_PER_HOUR = (16, 17, 19, 20, 22, 21, 17, 13, 11, 11, 11, 10, 10, 10, 10, 10, 9.5, 9, 9.5, 11, 12, 13, 14, 15)
# fmt: on
WEEKDAYS = (0.90, 0.98, 1.02, 1.05, 1.07, 1.04, 0.88)  # Monday first

PASSENGERS = {0: 2, 1: 74, 2: 14, 3: 4, 4: 3, 5: 2, 6: 1}  # per cent of trips

# What is charged from a month on, in US dollars; of a name's rows, the last one that has begun holds.
_TARIFF = (
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
    ("airport_fee", "2021-04", 1.25),
    ("airport_fee", "2023-04", 1.75),
    ("cbd_congestion_fee", "2025-01", 0.75),
)
_CONGESTION_SURCHARGE_FROM = "2019-02"
_FEES = ("mta_tax", "improvement_surcharge", "congestion_surcharge", "airport_fee", "cbd_congestion_fee")

# The value of a published column, by its name in small letters, over the columns of trips.sql.
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
    # For-hire vehicles, of bases (fhv) and of the big apps (fhvhv).
    "hvfhs_license_num": "CASE vendor WHEN 1 THEN 'HV0005' ELSE 'HV0003' END",
    "dispatching_base_num": "CASE vendor WHEN 1 THEN 'B03406' ELSE 'B03404' END",
    "originating_base_num": "CASE vendor WHEN 2 THEN 'B03404' END",
    "affiliated_base_number": "CASE vendor WHEN 1 THEN 'B03406' ELSE 'B03404' END",
    "request_datetime": "pickup_at - INTERVAL 4 MINUTE",
    "on_scene_datetime": "pickup_at - INTERVAL 1 MINUTE",
    "pickup_datetime": "pickup_at",
    "dropoff_datetime": "dropoff_at",
    "trip_miles": "distance",
    "trip_time": "epoch(dropoff_at - pickup_at)",
    "base_passenger_fare": "fare",
    "tolls": "tolls",
    "bcf": "round(0.03 * fare, 2)",
    "sales_tax": "round(0.08875 * fare, 2)",
    "tips": "tip",
    "driver_pay": "round(0.75 * fare, 2)",
    "shared_request_flag": "'N'",
    "shared_match_flag": "'N'",
    "access_a_ride_flag": "'N'",
    "wav_request_flag": "'N'",
    "wav_match_flag": "'N'",
}
# Yellow 2009 and 2010; where a name is above too, this one holds in layouts without zones.
_VALUES_BEFORE_ZONES = {
    "vendor_name": "CASE vendor WHEN 1 THEN 'CMT' ELSE 'VTS' END",
    "vendor_id": "CASE vendor WHEN 1 THEN 'CMT' ELSE 'VTS' END",
    "trip_pickup_datetime": "strftime(pickup_at, '%Y-%m-%d %H:%M:%S')",
    "trip_dropoff_datetime": "strftime(dropoff_at, '%Y-%m-%d %H:%M:%S')",
    "start_lon": "pickup_lon",
    "start_lat": "pickup_lat",
    "end_lon": "dropoff_lon",
    "end_lat": "dropoff_lat",
    "pickup_longitude": "pickup_lon",
    "pickup_latitude": "pickup_lat",
    "dropoff_longitude": "dropoff_lon",
    "dropoff_latitude": "dropoff_lat",
    "rate_code": "rate_code",
    "store_and_fwd_flag": "was_stored::INTEGER",
    "store_and_forward": "NULL",
    "payment_type": "['CRE', 'CAS', 'NOC', 'DIS'][payment]",
    "fare_amt": "fare",
    "surcharge": "extra",
    "tip_amt": "tip",
    "tolls_amt": "tolls",
    "total_amt": "total",
    "__index_level_0__": "i",
}

_MACROS = (
    # 53 bits: a DOUBLE holds no more.
    "CREATE TEMP MACRO draw(trip, n) AS (hash(trip + n) >> 11) / 9007199254740992.0",
    "CREATE TEMP MACRO pick(items, place) AS items[1 + floor(place * len(items))::BIGINT]",
    # A degree of longitude is 52.4 miles at New York's latitude, one of latitude 69.
    # Squares are written out because `pow` is slow.
    """CREATE TEMP MACRO miles(lons, lats, a, b) AS sqrt(
        52.4 * 52.4 * (lons[a] - lons[b]) * (lons[a] - lons[b])
        + 69.0 * 69.0 * (lats[a] - lats[b]) * (lats[a] - lats[b])
    )""",
)


def default_rows(fleet: str, month: str) -> int:
    """Rows of a month for which no number is asked: a few thousand, differing from month to month."""
    return round(_profile(fleet).rows * (0.9 + 0.2 * random.Random(f"{fleet} {month}").random()))


def write_month(
    path: Path, fleet: str, month: str, *, rows: int | None = None, seed: int = 1, edition: int = 1
) -> None:
    """Write a month's Parquet file.

    The same arguments give the same bytes, on any machine with the same DuckDB, whatever the number of threads.

    Args:
        path: the file to write; complete or absent at any time.
        fleet: a fleet of the catalogue.
        month: YYYY-MM.
        rows: rows of the first edition; None for `default_rows`.
        seed: another seed gives other trips.
        edition: 2 and up is the month published again: about 1 % of the trips differ from the first edition's and 0.2 %
            (at least one) are new.

    Raises:
        FleetError: no such fleet in the catalogue.
        MonthError: `month` is malformed, or before the fleet's first month.
        ValueError: `rows` is negative, or `edition` below 1.
        NotImplementedError: the catalogue names a column that the simulator knows no values for.
    """
    layout = tlc.fleet(fleet).layout(month)
    rows = default_rows(fleet, month) if rows is None else rows
    if rows < 0 or edition < 1:
        raise ValueError(
            f"cannot make edition {edition} of {fleet} {month} with {rows} rows: expected edition 1 or more"
        )
    trips = resources.files("include.tlc_simulator").joinpath("trips.sql").read_text(encoding="utf-8")
    lists = _lists(fleet, month, seed)
    # One thread: more of them spend their time on counting references to the same lists, and take longer (measured).
    with duckdb.connect(config={"threads": 1}) as connection, replacing(Path(path)) as temporary:
        for macro in _MACROS:
            connection.execute(macro)
        # Lists come from a table: as parameters they would be copied into every expression that uses them.
        connection.execute(f"CREATE TABLE lists AS SELECT {', '.join(f'${name} AS {name}' for name in lists)}", lists)
        connection.execute(
            f"COPY (SELECT {_select_list(layout)} FROM ({trips})) TO $path "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_ROWS})",
            {"path": str(temporary), **_parameters(fleet, month, layout, rows, seed, edition)},
        )


def _select_list(layout: tlc.Layout) -> str:
    values = _VALUES if layout.has_zones else _VALUES | _VALUES_BEFORE_ZONES
    unknown = [name for name in layout.names if name.casefold() not in values]
    if unknown:
        raise NotImplementedError(
            f"no values for the columns {', '.join(unknown)}: add them to include/tlc_simulator/trips.py"
        )
    return ", ".join(f'CAST({values[name.casefold()]} AS {kind}) AS "{name}"' for name, kind in layout.columns)


def _parameters(fleet: str, month: str, layout: tlc.Layout, rows: int, seed: int, edition: int) -> dict[str, object]:
    """The parameters of trips.sql."""
    profile = _profile(fleet)
    key = f"{fleet} {month} {seed}"
    tariff: dict[str, float | None] = dict.fromkeys(_FEES)
    tariff |= {name: amount for name, since, amount in _TARIFF if since <= month}
    if month >= _CONGESTION_SURCHARGE_FROM:
        tariff["congestion_surcharge"] = profile.congestion_surcharge
    # A total is the sum of the file's own columns: what has no column is not charged.
    in_layout = {name.casefold() for name in layout.names}
    tariff |= {name: None for name in _FEES if name not in in_layout}
    return tariff | {
        "rows": rows,
        "added_rows": math.ceil(rows * ADDED_SHARE) if edition > 1 else 0,
        "key": _key(key),
        "edition_key": _key(f"{key} {edition}") if edition > 1 else _key(key),
        "changed_share": CHANGED_SHARE if edition > 1 else 0,
        "month_start": str(first_day(month)),
        "month_end": str(next_first_day(month)),
        "unset_clock": "2008-12-31 22:00:00" if month == "2009-01" else "2009-01-01 00:00:00",
        # A handful of each quirk in any file of 1,000 rows or more, however large.
        "quirk_every": max(1000, rows // 20),
        "missing_share": 0.045 if layout.has_zones else 0,
        "missing_payment": profile.missing_payment,
        "card_share": profile.card_share,
    }


def _lists(fleet: str, month: str, seed: int) -> dict[str, Sequence[float]]:
    """The lists of trips.sql, by name."""
    pickups, dropoffs = _zone_weights(_profile(fleet))
    centres = [zone.centre for zone in ZONES.values()]
    core = [zone.service_zone == "Yellow Zone" for zone in ZONES.values()]
    return {
        "hours": _slots(enumerate(_hour_weights(month, f"{fleet} {month} {seed}"))),
        "pickup_zones": _slots(pickups.items()),
        "dropoff_zones": _slots(dropoffs.items()),
        "lons": [lon for lon, _ in centres],
        "lats": [lat for _, lat in centres],
        "core": core,
        # South of 60th Street, as far as zones' centres tell.
        "toll_area": [in_core and lat < 40.766 for in_core, (_, lat) in zip(core, centres, strict=True)],
        "speeds": MILES_PER_HOUR,
        "passenger_counts": _slots(PASSENGERS.items(), slots=100),
    }


def _profile(fleet: str) -> Profile:
    return PROFILES.get(fleet, OTHER_FLEETS)


def _key(text: str) -> int:
    """A number of 56 bits, so that there is room to add row numbers."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")


def _area(zone: Zone) -> str:
    """What a profile's `elsewhere` calls a zone's area: its borough, but Manhattan's core and airports on their own."""
    return zone.service_zone if zone.service_zone in ("Yellow Zone", "Airports") else zone.borough


def _zone_weights(profile: Profile) -> tuple[dict[int, float], dict[int, float]]:
    """Weights of pickups and dropoffs by zone id; each adds up to 1. Trips end more widely spread than they begin."""
    pickups = {z.id: profile.popular.get(z.id, profile.elsewhere.get(_area(z), 0.05)) for z in ZONES.values()}
    spread = {z.id: {"Yellow Zone": 4, "Airports": 4, "Staten Island": 0.2}.get(_area(z), 1.0) for z in ZONES.values()}
    pickup_sum, spread_sum = sum(pickups.values()), sum(spread.values())
    return (
        {zone_id: weight / pickup_sum for zone_id, weight in pickups.items()},
        {zone_id: 0.75 * pickups[zone_id] / pickup_sum + 0.25 * spread[zone_id] / spread_sum for zone_id in ZONES},
    )


def _hour_weights(month: str, key: str) -> list[float]:
    """Trips in each hour of the month, as weights: by hour, by weekday, and no two days quite alike."""
    randomly = random.Random(key)
    day, end = first_day(month), next_first_day(month)
    weights: list[float] = []
    while day < end:
        today = WEEKDAYS[day.weekday()] * (0.92 + 0.16 * randomly.random())
        hours = WORKDAY if day.weekday() < 5 else DAY_OFF
        weights += [today * hour / sum(hours) for hour in hours]
        day += timedelta(days=1)
    return weights


def _slots(weights: Iterable[tuple[int, float]], slots: int = 16384) -> list[int]:
    """Each item as often as its weight says, at least once, in the order given: drawing is looking up a position."""
    pairs = list(weights)
    total = sum(weight for _, weight in pairs)
    return [item for item, weight in pairs for _ in range(max(1, round(slots * weight / total)))]
