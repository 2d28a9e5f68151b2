"""The catalogue: the TLC's fleets and their files, described as data. All differences between fleets are defined here.

`fleets` lists the fleets and the layouts of their files, `types` defines fleet, layout and column, `matching` maps a
file's columns to the warehouse's, and `meanings` explains the warehouse's. It imports only the package's basics.
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
from include.nyc_taxi.catalogue.meanings import MEANINGS
from include.nyc_taxi.catalogue.types import Coded, Column, Coordinates, Fleet, Layout, Origin, published_names

__all__ = [
    "CITY_TIME",
    "COMMON_COLUMNS",
    "FLEETS",
    "MEANINGS",
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
