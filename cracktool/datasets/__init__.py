"""Raw data sets: a layout is one file and one line here.

Imports no network and no torch; `cracktool.datasets.prepare.prepare` does the work.
"""

from __future__ import annotations

from cracktool.datasets.cfd import CFD
from cracktool.datasets.crack500 import CRACK500
from cracktool.datasets.deepcrack import DEEPCRACK
from cracktool.datasets.folder import FOLDER
from cracktool.datasets.raw import Layout
from cracktool.datasets.synthetic.layout import SYNTHETIC

LAYOUTS: dict[str, Layout] = {
    "crack500": CRACK500,
    "deepcrack": DEEPCRACK,
    "cfd": CFD,
    "folder": FOLDER,
    "synthetic": SYNTHETIC,
}
