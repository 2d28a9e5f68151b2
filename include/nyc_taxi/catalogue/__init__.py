"""The catalogue: what the TLC publishes, as data. Everything that differs from fleet to fleet stands here.

`fleets` has the fleets with their files' layouts, `types` says what a fleet, a layout and a column are, and `matching`
maps the columns of a file to ours. It imports only the package's basics (errors, months).
"""

from include.nyc_taxi.catalogue.fleets import (
    CITY_TIME,
    COMMON_COLUMNS,
    FLEETS,
    ZONE_LOOKUP_PATH,
    ZONE_SHAPES_PATH,
    ZONES,
    file_name,
    file_path,
    fleet,
)
from include.nyc_taxi.catalogue.matching import Match, match_columns
from include.nyc_taxi.catalogue.types import Coded, Column, Coordinates, Fleet, Layout, Origin, published_names

__all__ = [
    "CITY_TIME",
    "COMMON_COLUMNS",
    "FLEETS",
    "ZONES",
    "ZONE_LOOKUP_PATH",
    "ZONE_SHAPES_PATH",
    "Coded",
    "Column",
    "Coordinates",
    "Fleet",
    "Layout",
    "Match",
    "Origin",
    "file_name",
    "file_path",
    "fleet",
    "match_columns",
    "published_names",
]
