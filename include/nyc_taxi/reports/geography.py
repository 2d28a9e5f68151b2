"""Project the shapes of zones from degrees to feet, and compute their areas."""

from typing import Any

import numpy as np
import pyproj
import shapely

DEGREES, FEET = "EPSG:4326", "EPSG:2263"
"""WGS84, and New York's state plane in US survey feet, which the TLC uses for its zones."""
KM2_PER_SQUARE_FOOT = (1200 / 3937 / 1000) ** 2
"""A US survey foot is 1200/3937 of a metre long."""


def on_the_ground(shapes: Any) -> Any:
    """Project an array of shapely geometries from degrees (longitude, latitude) to feet."""
    transformer = pyproj.Transformer.from_crs(DEGREES, FEET, always_xy=True)
    return shapely.transform(shapes, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1])))


def areas_km2(feet: Any) -> list[float]:
    """The areas in square kilometres of shapes projected by `on_the_ground`.

    The projection is conformal and made for New York: within the city its areas are correct to 0.02 %.
    """
    return [float(area) * KM2_PER_SQUARE_FOOT for area in shapely.area(feet)]
