"""The city: the TLC's 265 taxi zones, and a drawing of New York to put them in.

Ids, names and service zones are the TLC's. The geometry is our own: every borough is an outline of a few points drawn
by hand, cut into one Voronoi cell for each of its zones, around a point in the middle of the neighbourhood. It looks
like New York and weighs a few kilobytes, but no border is quite where it is: use the TLC's own shapefile for anything
but tests, demos and benchmarks.
"""

import csv
import functools
import itertools
import math
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from include.nyc_taxi.files import replacing

if TYPE_CHECKING:
    import geopandas
    from shapely.geometry.base import BaseGeometry

FEET = "EPSG:2263"  # New York Long Island, US survey feet: what the TLC's shapefile is in
DEGREES = "EPSG:4326"

ZONES_LAYOUTS = ("2026", "2023")
"""The TLC's zone files since February 2026, and before."""

# The defect of the shapefile of 2023, kept because code that reads that file must cope with it: OBJECTID -> LocationID.
WRONG_LOCATION_IDS = {57: 56, 104: 103, 105: 103}


@dataclass(frozen=True)
class Zone:
    """A row of the TLC's zone lookup.

    Attributes:
        points: (longitude, latitude) in degrees. The zone is what lies nearer to one of these than to other zones'
            points; several make a long shape. 264 and 265 have no shape: theirs is where trips of unknown place are
            taken to be.
    """

    id: int
    borough: str
    name: str
    service_zone: str
    points: tuple[tuple[float, float], ...]

    @property
    def centre(self) -> tuple[float, float]:
        """Longitude and latitude in degrees."""
        lons, lats = zip(*self.points, strict=True)
        return sum(lons) / len(lons), sum(lats) / len(lats)


# Per borough: "id lon,lat[;lon,lat...] name".
_ZONES = {
    "Manhattan": """
        4 -73.977,40.724 Alphabet City
        12 -74.015,40.702 Battery Park
        13 -74.016,40.712 Battery Park City
        24 -73.966,40.802 Bloomingdale
        41 -73.952,40.8005;-73.950,40.806 Central Harlem
        42 -73.940,40.821 Central Harlem North
        43 -73.976,40.768;-73.971,40.775;-73.9655,40.782;-73.960,40.789;-73.955,40.7965 Central Park
        45 -73.998,40.713 Chinatown
        48 -73.990,40.762 Clinton East
        50 -73.994,40.767 Clinton West
        68 -74.000,40.748 East Chelsea
        74 -73.938,40.806 East Harlem North
        75 -73.9475,40.7905;-73.943,40.793 East Harlem South
        79 -73.985,40.728 East Village
        87 -74.008,40.707 Financial District North
        88 -74.011,40.703 Financial District South
        90 -73.997,40.743 Flatiron
        100 -73.989,40.754 Garment District
        103 -74.045,40.690 Governor's Island/Ellis Island/Liberty Island
        104 -74.040,40.699 Governor's Island/Ellis Island/Liberty Island
        105 -74.019,40.688 Governor's Island/Ellis Island/Liberty Island
        107 -73.983,40.737 Gramercy
        113 -73.995,40.732 Greenwich Village North
        114 -73.999,40.729 Greenwich Village South
        116 -73.947,40.828 Hamilton Heights
        120 -73.931,40.846 Highbridge Park
        125 -74.007,40.725 Hudson Sq
        127 -73.920,40.865 Inwood
        128 -73.925,40.872 Inwood Hill Park
        137 -73.977,40.740 Kips Bay
        140 -73.954,40.765 Lenox Hill East
        141 -73.959,40.7665 Lenox Hill West
        142 -73.984,40.773 Lincoln Square East
        143 -73.990,40.776 Lincoln Square West
        144 -73.997,40.721 Little Italy/NoLiTa
        148 -73.991,40.719 Lower East Side
        151 -73.9655,40.798 Manhattan Valley
        152 -73.954,40.818 Manhattanville
        153 -73.911,40.876 Marble Hill
        158 -74.008,40.735 Meatpacking/West Village West
        161 -73.977,40.758 Midtown Center
        162 -73.972,40.757 Midtown East
        163 -73.979,40.764 Midtown North
        164 -73.986,40.749 Midtown South
        166 -73.962,40.810 Morningside Heights
        170 -73.977,40.748 Murray Hill
        186 -73.992,40.748 Penn Station/Madison Sq West
        194 -73.921,40.791 Randalls Island
        202 -73.950,40.761 Roosevelt Island
        209 -74.002,40.708 Seaport
        211 -74.001,40.724 SoHo
        224 -73.978,40.732 Stuy Town/Peter Cooper Village
        229 -73.965,40.757 Sutton Place/Turtle Bay North
        230 -73.984,40.760 Times Sq/Theatre District
        231 -74.007,40.719 TriBeCa/Civic Center
        232 -73.982,40.715 Two Bridges/Seward Park
        233 -73.971,40.749 UN/Turtle Bay South
        234 -73.990,40.740 Union Sq
        236 -73.9565,40.778;-73.951,40.7855 Upper East Side North
        237 -73.966,40.765;-73.961,40.772 Upper East Side South
        238 -73.973,40.788;-73.970,40.793 Upper West Side North
        239 -73.9805,40.778;-73.976,40.7845 Upper West Side South
        243 -73.933,40.859 Washington Heights North
        244 -73.942,40.841 Washington Heights South
        246 -74.005,40.752 West Chelsea/Hudson Yards
        249 -74.002,40.735 West Village
        261 -74.013,40.709 World Trade Center
        262 -73.946,40.777 Yorkville East
        263 -73.951,40.778 Yorkville West
    """,
    "Bronx": """
        3 -73.849,40.866 Allerton/Pelham Gardens
        18 -73.887,40.869 Bedford Park
        20 -73.886,40.858 Belmont
        31 -73.876,40.860 Bronx Park
        32 -73.865,40.864 Bronxdale
        46 -73.786,40.847 City Island
        47 -73.897,40.846 Claremont/Bathgate
        51 -73.830,40.874 Co-Op City
        58 -73.821,40.842 Country Club
        59 -73.893,40.839 Crotona Park
        60 -73.890,40.831 Crotona Park East
        69 -73.915,40.831 East Concourse/Concourse Village
        78 -73.887,40.846 East Tremont
        81 -73.846,40.877 Eastchester
        94 -73.901,40.858 Fordham South
        119 -73.927,40.837 Highbridge
        126 -73.885,40.814 Hunts Point
        136 -73.906,40.865 Kingsbridge Heights
        147 -73.898,40.819 Longwood
        159 -73.914,40.818 Melrose South
        167 -73.904,40.828 Morrisania/Melrose
        168 -73.917,40.807 Mott Haven/Port Morris
        169 -73.905,40.849 Mount Hope
        174 -73.878,40.877 Norwood
        182 -73.858,40.837 Parkchester
        183 -73.832,40.850 Pelham Bay
        184 -73.805,40.865 Pelham Bay Park
        185 -73.855,40.853 Pelham Parkway
        199 -73.884,40.792 Rikers Island
        200 -73.906,40.900 Riverdale/North Riverdale/Fieldston
        208 -73.825,40.825 Schuylerville/Edgewater Park
        212 -73.870,40.828 Soundview/Bruckner
        213 -73.861,40.816 Soundview/Castle Hill
        220 -73.912,40.882 Spuyten Duyvil/Kingsbridge
        235 -73.915,40.854 University Heights/Morris Heights
        240 -73.879,40.895 Van Cortlandt Park
        241 -73.896,40.876 Van Cortlandt Village
        242 -73.840,40.850 Van Nest/Morris Park
        247 -73.925,40.829 West Concourse
        248 -73.871,40.835 West Farms/Bronx River
        250 -73.850,40.833 Westchester Village/Unionport
        254 -73.858,40.883 Williamsbridge/Olinville
        259 -73.856,40.899 Woodlawn/Wakefield
    """,
    "Brooklyn": """
        11 -74.011,40.604 Bath Beach
        14 -74.030,40.624 Bay Ridge
        17 -73.949,40.692 Bedford
        21 -73.981,40.602 Bensonhurst East
        22 -73.994,40.610 Bensonhurst West
        25 -73.986,40.686 Boerum Hill
        26 -73.990,40.629 Borough Park
        29 -73.961,40.582 Brighton Beach
        33 -73.995,40.696 Brooklyn Heights
        34 -73.968,40.703 Brooklyn Navy Yard
        35 -73.912,40.664 Brownsville
        36 -73.916,40.699 Bushwick North
        37 -73.926,40.696 Bushwick South
        39 -73.900,40.639 Canarsie
        40 -73.996,40.679 Carroll Gardens
        49 -73.965,40.689 Clinton Hill
        52 -73.997,40.687 Cobble Hill
        54 -74.003,40.686 Columbia Street
        55 -73.990,40.577 Coney Island
        61 -73.941,40.674 Crown Heights North
        62 -73.949,40.667 Crown Heights South
        63 -73.878,40.685 Cypress Hills
        65 -73.986,40.695 Downtown Brooklyn/MetroTech
        66 -73.986,40.702 DUMBO/Vinegar Hill
        67 -74.015,40.618 Dyker Heights
        71 -73.938,40.644 East Flatbush/Farragut
        72 -73.920,40.652 East Flatbush/Remsen Village
        76 -73.878,40.659 East New York
        77 -73.896,40.668 East New York/Pennsylvania Avenue
        80 -73.942,40.714 East Williamsburg
        85 -73.952,40.647 Erasmus
        89 -73.963,40.641 Flatbush/Ditmas Park
        91 -73.933,40.627 Flatlands
        97 -73.976,40.691 Fort Greene
        106 -73.992,40.673 Gowanus
        108 -73.980,40.589 Gravesend
        111 -73.991,40.652 Green-Wood Cemetery
        112 -73.948,40.729 Greenpoint
        123 -73.965,40.600 Homecrest
        133 -73.974,40.639 Kensington
        149 -73.948,40.607 Madison
        150 -73.943,40.580 Manhattan Beach
        154 -73.896,40.593 Marine Park/Floyd Bennett Field
        155 -73.907,40.618 Marine Park/Mill Basin
        165 -73.955,40.621 Midwood
        177 -73.911,40.677 Ocean Hill
        178 -73.971,40.618 Ocean Parkway South
        181 -73.979,40.672 Park Slope
        188 -73.945,40.658 Prospect-Lefferts Gardens
        189 -73.968,40.677 Prospect Heights
        190 -73.971,40.661 Prospect Park
        195 -74.010,40.675 Red Hook
        210 -73.944,40.594 Sheepshead Bay
        217 -73.957,40.703 South Williamsburg
        222 -73.882,40.647 Starrett City
        225 -73.931,40.689 Stuyvesant Heights
        227 -74.007,40.642 Sunset Park East
        228 -74.010,40.654 Sunset Park West
        255 -73.957,40.719 Williamsburg (North Side)
        256 -73.959,40.711 Williamsburg (South Side)
        257 -73.977,40.654 Windsor Terrace
    """,
    "Queens": """
        2 -73.826,40.626 Jamaica Bay
        7 -73.921,40.761 Astoria
        8 -73.923,40.779 Astoria Park
        9 -73.788,40.754 Auburndale
        10 -73.792,40.678 Baisley Park
        15 -73.788,40.785 Bay Terrace/Fort Totten
        16 -73.772,40.761 Bayside
        19 -73.728,40.736 Bellerose
        27 -73.910,40.559 Breezy Point/Fort Tilden/Riis Beach
        28 -73.807,40.711 Briarwood/Jamaica Hills
        30 -73.820,40.605 Broad Channel
        38 -73.736,40.693 Cambria Heights
        53 -73.844,40.782 College Point
        56 -73.859,40.742 Corona
        57 -73.853,40.752 Corona
        64 -73.731,40.761 Douglaston
        70 -73.868,40.764 East Elmhurst
        73 -73.807,40.754 East Flushing
        82 -73.872,40.738 Elmhurst
        83 -73.889,40.740 Elmhurst/Maspeth
        86 -73.754,40.603 Far Rockaway
        92 -73.830,40.764 Flushing
        93 -73.842,40.739 Flushing Meadows-Corona Park
        95 -73.848,40.723 Forest Hills
        96 -73.876,40.696 Forest Park/Highland Park
        98 -73.780,40.734 Fresh Meadows
        101 -73.709,40.744 Glen Oaks
        102 -73.882,40.703 Glendale
        117 -73.776,40.596 Hammels/Arverne
        121 -73.800,40.727 Hillcrest/Pomonok
        122 -73.762,40.711 Hollis
        124 -73.850,40.660 Howard Beach
        129 -73.887,40.759 Jackson Heights
        130 -73.800,40.703 Jamaica
        131 -73.771,40.720 Jamaica Estates
        132 -73.778,40.643 JFK Airport
        134 -73.830,40.709 Kew Gardens
        135 -73.824,40.729 Kew Gardens Hills
        138 -73.873,40.775 LaGuardia Airport
        139 -73.743,40.678 Laurelton
        145 -73.949,40.747 Long Island City/Hunters Point
        146 -73.934,40.755 Long Island City/Queens Plaza
        157 -73.902,40.724 Maspeth
        160 -73.881,40.719 Middle Village
        171 -73.809,40.769 Murray Hill-Queens
        173 -73.863,40.752 North Corona
        175 -73.755,40.743 Oakland Gardens
        179 -73.927,40.771 Old Astoria
        180 -73.849,40.675 Ozone Park
        191 -73.741,40.714 Queens Village
        192 -73.815,40.744 Queensboro Hill
        193 -73.940,40.762 Queensbridge/Ravenswood
        196 -73.864,40.724 Rego Park
        197 -73.829,40.693 Richmond Hill
        198 -73.902,40.705 Ridgewood
        201 -73.847,40.577 Rockaway Park
        203 -73.737,40.659 Rosedale
        205 -73.763,40.692 Saint Albans
        207 -73.899,40.764 Saint Michaels Cemetery/Woodside
        215 -73.790,40.694 South Jamaica
        216 -73.821,40.677 South Ozone Park
        218 -73.772,40.673 Springfield Gardens North
        219 -73.761,40.660 Springfield Gardens South
        223 -73.907,40.778 Steinway
        226 -73.929,40.735 Sunnyside
        252 -73.815,40.788 Whitestone
        253 -73.841,40.760 Willets Point
        258 -73.857,40.690 Woodhaven
        260 -73.904,40.747 Woodside
    """,
    "Staten Island": """
        5 -74.190,40.550 Arden Heights
        6 -74.068,40.599 Arrochar/Fort Wadsworth
        23 -74.159,40.607 Bloomfield/Emerson Hill
        44 -74.230,40.527 Charleston/Tottenville
        84 -74.174,40.532 Eltingville/Annadale/Prince's Bay
        99 -74.188,40.580 Freshkills Park
        109 -74.153,40.549 Great Kills
        110 -74.126,40.543 Great Kills Park
        115 -74.092,40.620 Grymes Hill/Clifton
        118 -74.137,40.586 Heartland Village/Todt Hill
        156 -74.165,40.629 Mariners Harbor
        172 -74.104,40.572 New Dorp/Midland Beach
        176 -74.120,40.562 Oakwood
        187 -74.141,40.625 Port Richmond
        204 -74.207,40.541 Rossville/Woodrow
        206 -74.123,40.636 Saint George/New Brighton
        214 -74.086,40.587 South Beach/Dongan Hills
        221 -74.081,40.620 Stapleton
        245 -74.103,40.628 West Brighton
        251 -74.123,40.620 Westerleigh
    """,
    "EWR": """
        1 -74.177,40.690 Newark Airport
    """,
}

_AIRPORTS = {132, 138}
# Upper Manhattan, where green taxis may pick up too.
_BORO_ZONES_OF_MANHATTAN = {41, 42, 74, 75, 116, 120, 127, 128, 152, 153, 166, 202, 243, 244}

# Along Newtown Creek and Highland Park to Jamaica Bay: part of both outlines, so that the two boroughs touch.
_BROOKLYN_QUEENS_BORDER = """-73.962 40.738, -73.947 40.738, -73.929 40.728, -73.923 40.718, -73.922 40.709,
    -73.897 40.682, -73.869 40.695, -73.856 40.664, -73.862 40.657, -73.857 40.644"""

# Per borough: the outlines of its mainland and its islands, "lon lat, lon lat ...".
_OUTLINES = {
    "Manhattan": (
        """-74.015 40.700, -74.0195 40.706, -74.0165 40.718, -74.013 40.726, -74.0105 40.737, -74.009 40.746,
        -74.006 40.755, -73.997 40.768, -73.989 40.779, -73.974 40.801, -73.960 40.822, -73.951 40.833,
        -73.9465 40.845, -73.946 40.851, -73.939 40.860, -73.934 40.869, -73.929 40.877, -73.925 40.8785,
        -73.917 40.8755, -73.910 40.879, -73.9055 40.876, -73.909 40.872, -73.912 40.866, -73.920 40.858,
        -73.929 40.846, -73.935 40.835, -73.9345 40.822, -73.934 40.810, -73.929 40.801, -73.929 40.795,
        -73.936 40.789, -73.943 40.783, -73.943 40.776, -73.972 40.743, -73.972 40.736, -73.9735 40.731,
        -73.971 40.726, -73.9755 40.712, -73.981 40.710, -73.998 40.708, -74.003 40.704, -74.009 40.701""",
        "-73.9615 40.749, -73.958 40.757, -73.9455 40.7695, -73.940 40.773, -73.941 40.769, -73.951 40.759",
        """-73.926 40.801, -73.922 40.8005, -73.914 40.794, -73.924 40.786, -73.929 40.784, -73.935 40.7865,
        -73.932 40.790, -73.9275 40.792""",
        "-74.015 40.686, -74.023 40.683, -74.027 40.686, -74.020 40.693, -74.012 40.693, -74.013 40.688",
        "-74.0425 40.699, -74.040 40.701, -74.037 40.699, -74.0395 40.697",
        "-74.047 40.691, -74.0445 40.692, -74.043 40.689, -74.046 40.6885",
    ),
    "Bronx": (
        """-73.931 40.808, -73.932 40.820, -73.9325 40.835, -73.926 40.846, -73.918 40.857, -73.909 40.866,
        -73.9065 40.8715, -73.903 40.876, -73.9095 40.8805, -73.9175 40.8785, -73.925 40.881, -73.917 40.900,
        -73.911 40.9155, -73.895 40.911, -73.860 40.902, -73.852 40.910, -73.838 40.894, -73.793 40.884,
        -73.783 40.877, -73.786 40.869, -73.800 40.850, -73.812 40.852, -73.812 40.843, -73.809 40.828,
        -73.793 40.812, -73.792 40.805, -73.816 40.813, -73.838 40.807, -73.848 40.806, -73.872 40.801,
        -73.893 40.805, -73.911 40.799, -73.924 40.8045""",
        "-73.891 40.798, -73.878 40.795, -73.871 40.788, -73.888 40.787",
        "-73.792 40.853, -73.787 40.857, -73.781 40.850, -73.784 40.837",
    ),
    "Brooklyn": (
        f"""{_BROOKLYN_QUEENS_BORDER}, -73.870 40.640, -73.885 40.628, -73.897 40.622, -73.889 40.611,
        -73.884 40.605, -73.880 40.580, -73.897 40.577, -73.911 40.583, -73.933 40.5755, -73.983 40.570,
        -74.011 40.574, -74.012 40.580, -74.000 40.583, -74.000 40.590, -74.010 40.600, -74.036 40.609,
        -74.042 40.621, -74.038 40.640, -74.018 40.660, -74.019 40.676, -74.003 40.689, -73.997 40.702,
        -73.989 40.7045, -73.979 40.7055, -73.970 40.7055, -73.969 40.713, -73.963 40.723""",
    ),
    "Queens": (
        f"""-73.837 40.798, -73.820 40.8005, -73.795 40.795, -73.781 40.796, -73.771 40.782, -73.757 40.768,
        -73.752 40.783, -73.737 40.772, -73.701 40.753, -73.700 40.739, -73.728 40.721, -73.7255 40.653,
        -73.740 40.647, -73.742 40.636, -73.765 40.628, -73.771 40.620, -73.790 40.608, -73.801 40.612,
        -73.785 40.629, -73.820 40.648, -73.834 40.645, -73.850 40.646,
        {",".join(reversed(_BROOKLYN_QUEENS_BORDER.split(",")))}, -73.953 40.750, -73.936 40.769,
        -73.936 40.777, -73.910 40.790, -73.897 40.783, -73.884 40.7805, -73.870 40.785, -73.857 40.773,
        -73.859 40.764, -73.848 40.764, -73.848 40.778, -73.859 40.785, -73.852 40.795""",
        """-73.838 40.616, -73.834 40.639, -73.822 40.640, -73.810 40.632, -73.812 40.608, -73.819 40.596,
        -73.830 40.598""",
        """-73.940 40.543, -73.940 40.553, -73.880 40.569, -73.851 40.581, -73.803 40.594, -73.788 40.600,
        -73.774 40.605, -73.772 40.613, -73.746 40.612, -73.738 40.602, -73.738 40.594, -73.813 40.583,
        -73.870 40.566""",
    ),
    "Staten Island": (
        """-74.255 40.509, -74.241 40.520, -74.246 40.546, -74.213 40.559, -74.198 40.597, -74.203 40.608,
        -74.195 40.638, -74.180 40.645, -74.153 40.638, -74.086 40.648, -74.073 40.645, -74.072 40.625,
        -74.053 40.602, -74.070 40.582, -74.133 40.533, -74.195 40.510, -74.247 40.497""",
    ),
    "EWR": ("-74.190 40.682, -74.176 40.707, -74.154 40.704, -74.179 40.671",),
}


def _read_zones() -> dict[int, Zone]:
    zones = {}
    for borough, lines in _ZONES.items():
        for line in lines.strip().splitlines():
            number, places, name = line.split(maxsplit=2)
            zone_id = int(number)
            if borough == "EWR":
                service_zone = "EWR"
            elif zone_id in _AIRPORTS:
                service_zone = "Airports"
            elif borough == "Manhattan" and zone_id not in _BORO_ZONES_OF_MANHATTAN:
                service_zone = "Yellow Zone"
            else:
                service_zone = "Boro Zone"
            points = tuple((float(lon), float(lat)) for lon, lat in (place.split(",") for place in places.split(";")))
            zones[zone_id] = Zone(zone_id, borough, name, service_zone, points)
    zones[264] = Zone(264, "Unknown", "N/A", "N/A", ((-73.985, 40.755),))
    zones[265] = Zone(265, "N/A", "Outside of NYC", "N/A", ((-73.860, 40.960),))
    return dict(sorted(zones.items()))


ZONES: dict[int, Zone] = _read_zones()
"""The 265 zones by id, in order of id."""


@dataclass(frozen=True)
class Square:
    """A place that lies wholly in a zone.

    Attributes:
        lon, lat: its centre, in degrees.
        miles: the length of a side, from west to east and from south to north.
    """

    zone_id: int
    lon: float
    lat: float
    miles: float


@functools.cache
def squares() -> tuple[Square, ...]:
    """Squares around the zones' points, in order of zone id: off the shore, and off the middle between two zones."""
    found = []
    for zone in ZONES.values():
        edges = [
            (_miles(one), _miles(other))
            for outline in _OUTLINES.get(zone.borough, ())
            for one, other in itertools.pairwise(_closed(outline))
        ]
        others = [
            _miles(point)
            for other in ZONES.values()
            if other.borough == zone.borough and other.id != zone.id
            for point in other.points
        ]
        for lon, lat in zone.points:
            here = _miles((lon, lat))
            reach = min(
                [0.25, *(math.dist(here, other) / 2 for other in others), *(_distance(here, *edge) for edge in edges)]
            )
            # The plane is not quite that on which the shapefile is drawn.
            found.append(Square(zone.id, lon, lat, 0.95 * math.sqrt(2) * reach))
    return tuple(found)


def _closed(outline: str) -> list[tuple[float, float]]:
    """An outline's corners, the first also at the end."""
    corners = [(float(lon), float(lat)) for lon, lat in (corner.split() for corner in outline.split(","))]
    return [*corners, corners[0]]


def _miles(point: tuple[float, float]) -> tuple[float, float]:
    """Degrees to miles on a plane that is good for one city."""
    return 52.4 * point[0], 69.0 * point[1]


def _distance(point: tuple[float, float], start: tuple[float, float], end: tuple[float, float]) -> float:
    """Distance of a point to a line from start to end."""
    (x, y), (x1, y1), (x2, y2) = point, start, end
    along = ((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / ((x2 - x1) ** 2 + (y2 - y1) ** 2)
    along = max(0.0, min(1.0, along))
    return math.dist(point, (x1 + along * (x2 - x1), y1 + along * (y2 - y1)))


def write_lookup(path: Path) -> None:
    """Write the zone lookup as the TLC serves it: 265 rows, texts in quotation marks, lines ending in CR LF."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(["LocationID", "Borough", "Zone", "service_zone"])
        writer.writerows([zone.id, zone.borough, zone.name, zone.service_zone] for zone in ZONES.values())


def write_shapes(path: Path, layout: str = ZONES_LAYOUTS[0]) -> None:
    """Write the zones as a zipped shapefile like the TLC's: see `zone_shapes`. The same bytes every time.

    Args:
        layout: "2026" has the shapefile in a folder of the archive, "2023" has it at the top.

    Raises:
        ValueError: no such layout.
    """
    shapes = zone_shapes(layout)
    with replacing(path) as temporary, tempfile.TemporaryDirectory() as folder:
        # A shapefile carries its date; a fixed one (the real file's) keeps the bytes, and so the ETag, the same.
        shapes.to_file(Path(folder, "taxi_zones.shp"), engine="pyogrio", DBF_DATE_LAST_UPDATE="2015-09-21")
        top = "" if layout == "2023" else "taxi_zones/"
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for part in sorted(Path(folder).iterdir()):
                entry = zipfile.ZipInfo(top + part.name, date_time=(2015, 9, 21, 14, 3, 0))
                archive.writestr(entry, part.read_bytes(), zipfile.ZIP_DEFLATED)


def zone_shapes(layout: str = ZONES_LAYOUTS[0]) -> "geopandas.GeoDataFrame":
    """The zones that have a shape, with the columns of the TLC's shapefile and, in the layout "2023", its defect.

    Returns:
        263 rows in order of the true zone id, which is in `OBJECTID`. `LocationID` is the same, but in the layout
        "2023" it is wrong in three rows (`WRONG_LOCATION_IDS`). `Shape_Leng` and `Shape_Area` are in degrees, as in
        the real file, the geometry in feet (EPSG:2263).

    Raises:
        ValueError: no such layout.
    """
    import geopandas

    if layout not in ZONES_LAYOUTS:
        raise ValueError(f"no layout {layout!r} of the zones: expected one of {', '.join(ZONES_LAYOUTS)}")
    wrong_ids = WRONG_LOCATION_IDS if layout == "2023" else {}
    cells = _cells()
    zones = [ZONES[zone_id] for zone_id in cells]
    frame = geopandas.GeoDataFrame(
        {
            "zone": [zone.name for zone in zones],
            "LocationID": [wrong_ids.get(zone.id, zone.id) for zone in zones],
            "borough": [zone.borough for zone in zones],
        },
        geometry=list(cells.values()),
        crs=FEET,
    )
    in_degrees = frame.geometry.to_crs(DEGREES)
    frame.insert(0, "OBJECTID", list(cells))
    # Degrees are no measure of length or area, but they are what the real columns hold.
    frame.insert(1, "Shape_Leng", [shape.length for shape in in_degrees])
    frame.insert(2, "Shape_Area", [shape.area for shape in in_degrees])
    return frame.astype({"OBJECTID": "int32", "LocationID": "int32"})


def _cells() -> "dict[int, BaseGeometry]":
    """Polygons in feet by zone id, in order of id: each outline cut into the Voronoi cells of the points in it."""
    import geopandas
    import shapely

    cells: dict[int, BaseGeometry] = {}
    for borough, outlines in _OUTLINES.items():
        owners = [(zone.id, point) for zone in ZONES.values() if zone.borough == borough for point in zone.points]
        points = geopandas.GeoSeries.from_xy(*zip(*(point for _, point in owners), strict=True), crs=DEGREES).to_crs(
            FEET
        )
        for text in outlines:
            corners = [tuple(map(float, corner.split())) for corner in text.split(",")]
            outline = geopandas.GeoSeries([shapely.Polygon(corners)], crs=DEGREES).to_crs(FEET).iloc[0]
            inside = points[points.within(outline)]
            if len(inside) == 1:
                cells[owners[inside.index[0]][0]] = outline
                continue
            voronoi = shapely.voronoi_polygons(shapely.MultiPoint(list(inside)), extend_to=outline, ordered=True)
            for index, cell in zip(inside.index, voronoi.geoms, strict=True):
                zone_id = owners[index][0]
                part = cell.intersection(outline)
                cells[zone_id] = cells[zone_id].union(part) if zone_id in cells else part
    return dict(sorted(cells.items()))
