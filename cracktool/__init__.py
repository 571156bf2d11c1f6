"""cracktool: find cracks in photos, pixel by pixel, and measure them."""

__version__ = "0.1.0"
