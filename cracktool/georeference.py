"""Files that may lie on a map: opened by rasterio, which is looked for only then, and how their pixels lie on it.

Knows nothing about scales, cracks or the pixels' values.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from cracktool.errors import InputError, UsageError

ENDINGS = frozenset({".tif", ".tiff", ".jp2"})
"""Files that may have a georeference."""

_RADIUS_MM, _FLATTENING = 6_378_137_000, 1 / 298.257223563  # of the ellipsoid of WGS 84
_SURVEYED = "Transverse_Mercator|Conformal_Conic|Oblique|Krovak"  # true within 0.1 % where they are meant
_SQUARE = 0.02  # cosine of the angle between X and Y on the ground: lengths are then off by 1 % at most
_CACHE_BYTES = 64 * 2**20  # a row of blocks of 512 px, 32,000 px wide; GDAL's default is 5 % of the machine's memory


def has_rasterio() -> bool:
    """Return whether the extra for georeferenced photos is installed."""
    try:
        import rasterio  # noqa: F401
    except ImportError:
        return False
    return True


def open_raster(path: Path) -> Any:
    """Return a file opened by rasterio, which closes at the end of a ``with``.

    Raises:
        UsageError: rasterio is not installed.
        InputError: The file cannot be opened.
    """
    try:
        import rasterio
    except ImportError as error:
        reason = "a georeferenced photo needs rasterio, which is not installed"
        raise UsageError(reason, path=path, remedy="pip install 'cracktool[geo]'") from error
    _limit_cache()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # many a photo is none
            return rasterio.open(path)
    except (rasterio.errors.RasterioError, OSError) as error:
        raise InputError("it cannot be read as a GeoTIFF or JPEG 2000", path=path) from error


@cache
def _limit_cache() -> None:
    # For all of the process and once: rasterio.Env would put it back as soon as any thread leaves one.
    from rasterio.env import set_gdal_config

    if "GDAL_CACHEMAX" not in os.environ:
        set_gdal_config("GDAL_CACHEMAX", _CACHE_BYTES)


@dataclass(frozen=True, kw_only=True)
class GeoReference:
    """From px to a map.

    Args:
        transform: a, b, c, d, e, f of X = a x + b y + c, Y = d x + e y + f, where the first pixel covers 0 to 1.
        epsg: Number of the coordinate system, or None for one without. Of one with heights it is that of the plane.
        wkt: The coordinate system in words.
        unit_mm: How many mm on the ground a unit along X and one along Y are, in the middle of the picture; None where
            coordinates are degrees, or no lengths for another reason.
    """

    transform: tuple[float, float, float, float, float, float]
    epsg: int | None
    wkt: str
    unit_mm: tuple[float, float] | None

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return the map coordinates of a place in px, where the centre of the first pixel is (0, 0)."""
        a, b, c, d, e, f = self.transform
        return a * (x + 0.5) + b * (y + 0.5) + c, d * (x + 0.5) + e * (y + 0.5) + f

    def enlarged(self, factor: int) -> GeoReference:
        """Return the georeference of the same picture with `factor` times as many pixels along each side."""
        a, b, c, d, e, f = self.transform
        return replace(self, transform=(a / factor, b / factor, c, d / factor, e / factor, f))


def read_georeference(path: Path) -> GeoReference | None:
    """Return how a file lies on a map; None where it does not say.

    Raises:
        UsageError: rasterio is not installed.
        InputError: The file cannot be read.
    """
    with open_raster(path) as raster:
        transform, crs = raster.transform, raster.crs
        middle = transform @ (raster.width / 2, raster.height / 2)
    if crs is None or transform.is_identity or transform.is_degenerate:
        return None
    crs = _plane(crs)
    return GeoReference(
        transform=tuple(transform)[:6], epsg=crs.to_epsg(), wkt=crs.to_wkt(), unit_mm=_unit_mm(crs, *middle)
    )


def _plane(crs: Any) -> Any:
    """Return a coordinate system without its heights, which maps of cracks have not."""
    words = crs.to_dict(projjson=True)
    if words.get("type") != "CompoundCRS":
        return crs
    plane = type(crs).from_user_input(words["components"][0])
    epsg = plane.to_epsg()
    return type(crs).from_epsg(epsg) if epsg else plane  # in the words of files without heights: one layer of a map


def _unit_mm(crs: Any, x: float, y: float) -> tuple[float, float] | None:
    """Return how many mm on the ground a unit along X and one along Y are, at a place of a map."""
    if not crs.is_projected:
        unit = 1000 * _site_unit(crs)
        return (unit, unit) if unit else None
    if re.search(_SURVEYED, crs.to_wkt()):
        unit = 1000 * float(crs.linear_units_factor[1])
        return unit, unit
    return _ground_mm(crs, x, y)


def _site_unit(crs: Any) -> float:
    """Return the unit of a building site's own coordinates in metres; 0 for other systems, of degrees."""
    words = crs.to_dict(projjson=True)
    if words.get("type") != "EngineeringCRS":
        return 0.0
    unit = words["coordinate_system"]["axis"][0].get("unit")
    return float(unit.get("conversion_factor", 0)) if isinstance(unit, dict) else float(unit == "metre")


def _ground_mm(crs: Any, x: float, y: float) -> tuple[float, float] | None:
    from rasterio._err import CPLE_BaseError
    from rasterio.warp import transform

    try:
        longitudes, latitudes = np.radians(transform(crs, "EPSG:4326", [x, x + 1, x], [y, y, y + 1]))
    except CPLE_BaseError:  # of another planet
        return None
    eccentricity2 = _FLATTENING * (2 - _FLATTENING)
    bent = 1 - eccentricity2 * math.sin(latitudes[0]) ** 2
    around = np.remainder(longitudes[1:] - longitudes[0] + math.pi, 2 * math.pi) - math.pi
    east = _RADIUS_MM / math.sqrt(bent) * math.cos(latitudes[0]) * around
    north = _RADIUS_MM * (1 - eccentricity2) / bent**1.5 * (latitudes[1:] - latitudes[0])
    along_x, along_y = np.hypot(east, north).tolist()
    askew = abs(float(east[0] * east[1] + north[0] * north[1]))
    return (along_x, along_y) if askew < _SQUARE * along_x * along_y else None
