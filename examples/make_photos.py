"""Make the photos of this folder again: python examples/make_photos.py [FOLDER].

They are generated, so they may be used freely; the same seeds give the same pictures, but for how a processor rounds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cracktool.datasets.synthetic import Wishes, make_sample
from cracktool.files import replace_file
from cracktool.images import encode_jpeg

SHAPE_HW = (1200, 1600)
PHOTOS = {
    "pavement": (7, Wishes(material="asphalt", pattern="single", width=(9, 14))),
    "concrete": (6, Wishes(material="concrete", pattern="single", width=(4, 7))),
    "brick_wall": (6, Wishes(material="brick", pattern="single", width=(6, 9))),
    "hairline": (8, Wishes(material="plaster", pattern="single", width=(1.0, 1.5))),
    "map_cracking": (8, Wishes(material="asphalt", pattern="network", width=(5, 8))),
    "no_crack": (5, Wishes(material="concrete", pattern="none")),
}


def main() -> None:
    """Write every photo; the folder is that of the photos unless another one is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent / "photos")
    folder = parser.parse_args().folder
    for name, (number, wishes) in PHOTOS.items():
        sample = make_sample(number, seed=2026, shape_hw=SHAPE_HW, wishes=wishes)
        replace_file(folder / f"{name}.jpg", encode_jpeg(sample.image, quality=88))


if __name__ == "__main__":
    main()
