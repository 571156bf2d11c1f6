"""The table of centre lines and widths that lies beside each synthetic mask, as `lines/NAME.csv`.

One row per point; what stands there is exactly what the mask was made of.
"""

from __future__ import annotations

from collections.abc import Sequence

from cracktool.datasets.synthetic.raster import Crack

COLUMNS = ("crack", "parent", "point", "y_px", "x_px", "width_px")


def lines_csv(cracks: Sequence[Crack]) -> bytes:
    """Return cracks as a CSV table, UTF-8; only the header for none.

    ``crack`` and ``point`` count from 0 and rise row by row; ``parent`` is the number of the crack that this one
    branches from or goes on from, empty for none; places and widths are those of `Crack`, in px of the mask.

    Example:
        >>> import numpy as np
        >>> bar = Crack(points=np.array([[8.0, -5.0], [8.0, 25.0]]), widths=np.array([3.0, 3.25]))
        >>> lines_csv([bar]).decode().splitlines()
        ['crack,parent,point,y_px,x_px,width_px', '0,,0,8.00,-5.00,3.00', '0,,1,8.00,25.00,3.25']
    """
    rows = [",".join(COLUMNS)]
    for number, crack in enumerate(cracks):
        head = f"{number},{'' if crack.parent is None else crack.parent}"
        places = zip(crack.points.tolist(), crack.widths.tolist(), strict=True)
        rows += [f"{head},{point},{y:.2f},{x:.2f},{width:.2f}" for point, ((y, x), width) in enumerate(places)]
    return ("\n".join(rows) + "\n").encode()
