"""Raw data sets: a layout is one file and one line here, or one row of `public`.

Imports no network and no torch; `cracktool.datasets.prepare.prepare` does the work.
"""

from __future__ import annotations

from cracktool.datasets.cfd import CFD
from cracktool.datasets.coco import COCO
from cracktool.datasets.crack500 import CRACK500
from cracktool.datasets.cvat import CVAT
from cracktool.datasets.folder import FOLDER
from cracktool.datasets.labelme import LABELME
from cracktool.datasets.public import PUBLIC
from cracktool.datasets.raw import Layout
from cracktool.datasets.situations import SITUATIONS
from cracktool.datasets.supervisely import SUPERVISELY
from cracktool.datasets.synthetic.layout import SYNTHETIC
from cracktool.datasets.voc import VOC

LAYOUTS: dict[str, Layout] = {
    "crack500": CRACK500,
    "cfd": CFD,
    **PUBLIC,
    "folder": FOLDER,
    "coco": COCO,
    "labelme": LABELME,
    "cvat": CVAT,
    "voc": VOC,
    "supervisely": SUPERVISELY,
    "situations": SITUATIONS,
    "synthetic": SYNTHETIC,
}
