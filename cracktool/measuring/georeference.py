"""How the pixels of a GeoTIFF lie on a map. The only module here that needs rasterio, and only when it is called.

Knows nothing about scales or cracks.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from cracktool.errors import InputError, UsageError

ENDINGS = frozenset({".tif", ".tiff", ".jp2"})
"""Files that may have a georeference."""


@dataclass(frozen=True, kw_only=True)
class GeoReference:
    """From px to a map.

    Args:
        transform: a, b, c, d, e, f of X = a x + b y + c, Y = d x + e y + f, where the first pixel covers 0 to 1.
        epsg: Number of the coordinate system, or None for one without.
        wkt: The coordinate system in words.
        unit_mm: How many mm its unit is; None where coordinates are degrees.
    """

    transform: tuple[float, float, float, float, float, float]
    epsg: int | None
    wkt: str
    unit_mm: float | None

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return the map coordinates of a place in px, where the centre of the first pixel is (0, 0)."""
        a, b, c, d, e, f = self.transform
        return a * (x + 0.5) + b * (y + 0.5) + c, d * (x + 0.5) + e * (y + 0.5) + f


def read_georeference(path: Path) -> GeoReference | None:
    """Return how a file lies on a map; None where it does not say.

    Raises:
        UsageError: rasterio is not installed.
        InputError: The file cannot be read.
    """
    try:
        import rasterio
    except ImportError as error:
        raise UsageError("a GeoTIFF's position needs rasterio", remedy="pip install rasterio") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # which None says
            with rasterio.open(path) as raster:
                transform, crs = raster.transform, raster.crs
    except rasterio.errors.RasterioError as error:
        raise InputError("it cannot be read as a GeoTIFF", path=path) from error
    if crs is None or transform.is_identity:
        return None
    unit_mm = 1000 * float(crs.linear_units_factor[1]) if crs.is_projected else None
    return GeoReference(transform=tuple(transform)[:6], epsg=crs.to_epsg(), wkt=crs.to_wkt(), unit_mm=unit_mm)
