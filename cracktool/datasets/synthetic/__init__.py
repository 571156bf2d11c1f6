"""Photo-like pictures of roads and walls with cracks of which every centre line and width is known exactly.

For extra training data and for tests of measuring. Needs numpy and OpenCV alone; reads no file but photos that the user
names as backgrounds.
"""

from __future__ import annotations

from cracktool.datasets.synthetic.raster import Crack, Trace, trace
from cracktool.datasets.synthetic.scene import Sample, Wishes, make_sample
from cracktool.datasets.synthetic.truth import lines_csv

__all__ = ["Crack", "Sample", "Trace", "Wishes", "lines_csv", "make_sample", "trace"]
