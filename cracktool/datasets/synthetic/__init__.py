"""Photo-like pictures of roads and walls with cracks of which every centre line and width is known exactly.

For extra training data and for tests of measuring. Needs numpy and OpenCV alone; reads no file.
"""

from __future__ import annotations

from cracktool.datasets.synthetic.layout import SYNTHETIC, SyntheticOptions, synthetic_items, truth_json
from cracktool.datasets.synthetic.raster import Crack, Trace, trace
from cracktool.datasets.synthetic.scene import Sample, Wishes, make_sample

__all__ = [
    "SYNTHETIC",
    "Crack",
    "Sample",
    "SyntheticOptions",
    "Trace",
    "Wishes",
    "make_sample",
    "synthetic_items",
    "trace",
    "truth_json",
]
