"""Rank photos by their share of crack pixels, the worst first.

    python examples/rank_photos.py examples/photos

The photos share batches and are decoded by threads; one that cannot be read is named and passed over.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cracktool import CrackError, load_predictor, read_image


def main(folder: Path) -> None:
    """Print one line per photo of a folder: share of crack pixels and path."""
    predictor = load_predictor()
    shares = []
    for path, levels in predictor.stream(sorted(folder.glob("*.jpg")), read_image):
        if isinstance(levels, CrackError):
            print(levels, file=sys.stderr)
        else:
            shares.append(((levels >= predictor.level).mean(), path))
    for share, path in sorted(shares, reverse=True):
        print(f"{share:8.3%}  {path}")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
