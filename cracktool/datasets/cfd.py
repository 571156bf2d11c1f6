"""CFD, also named CrackForest (Shi et al. 2016): 118 labelled phone photos of asphalt in Beijing.

Reads the release itself with its MATLAB truth files, of which the 37 photos without truth are skipped, and the copy
with PNG masks.
"""

from __future__ import annotations

import zlib
from functools import partial
from pathlib import Path

import numpy as np

from cracktool.datasets.paired import PAIR_OPTIONS, PairedFolders, Part
from cracktool.datasets.pairing import list_pictures, subfolder
from cracktool.datasets.raw import Layout, Notes, PrepareOptions, RawDataset, RawItem
from cracktool.errors import InputError, UsageError
from cracktool.images import Image, Mask, read_image

_CRACK = 2  # 1 is background; 3 and 4 are areas that cracks enclose
_TREE = "image/NNN.jpg and groundTruth/NNN.mat; or cfd_image/NNN.jpg and cfd_gt/seg_gt/NNN.png"
_PNG_COPY = PairedFolders(forms=[[Part(images=("cfd_image",), masks=("cfd_gt/seg_gt",))]])


def read_cfd(source: Path, options: PrepareOptions) -> RawDataset:
    """List the labelled photos of CrackForest.

    Args:
        source: The raw folder.
        options: For the PNG masks how to read them.

    Raises:
        InputError: The folders of neither form are there.
        UsageError: The MATLAB files are to be read as grey pictures.
    """
    if subfolder(source, ["cfd_image"]):
        return _PNG_COPY(source, options)
    if options.invert or options.mask_threshold:
        raise UsageError("the truth of the release is no grey picture", remedy="leave out invert and mask_threshold")
    images, truths = subfolder(source, ["image"]), subfolder(source, ["groundtruth"])
    if images is None or truths is None:
        raise InputError("no folders image and groundTruth in here", path=source, remedy=f"expected: {_TREE}")
    truth_of = {path.stem: path for path in truths.glob("*.mat")}
    notes = Notes()
    items = []
    for image in list_pictures(images):
        truth = truth_of.get(image.stem)
        if truth is None:
            notes.add("photos without a truth file are skipped", image.name)
            continue
        items.append(
            RawItem(
                name=image.stem,
                group=image.stem,
                source=image.relative_to(source).as_posix(),
                read=partial(_read, image, truth),
                file=image,
            )
        )
    return RawDataset(items=items, notes=notes)


def _read(image: Path, truth: Path) -> tuple[Image, Mask]:
    return read_image(image), _read_truth(truth)


def _read_truth(path: Path) -> Mask:
    # Imported here: 0.2 s, and only this layout needs it.
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    # What 1,500 damaged files raised.
    damage = (MatReadError, OSError, ValueError, TypeError, LookupError, zlib.error)
    try:
        segmentation = np.asarray(loadmat(path)["groundTruth"][0, 0]["Segmentation"])
    except NotImplementedError as error:
        remedy = "save it again in MATLAB with the option -v7, or take the file of the release"
        raise InputError(
            "a MATLAB file of version 7.3 (HDF5), expected 7 or older", path=path, remedy=remedy
        ) from error
    except damage as error:
        raise InputError("no CrackForest truth: groundTruth.Segmentation cannot be read", path=path) from error
    if segmentation.ndim != 2:
        raise InputError(f"Segmentation has {segmentation.ndim} dimensions, expected 2", path=path)
    return np.asarray(segmentation == _CRACK)


CFD = Layout(
    reader=read_cfd,
    title="CFD (CrackForest): asphalt, 118 phone photos of 480x320, all for testing",
    where_to_get="https://github.com/cuilimeng/CrackForest-dataset",
    tree=_TREE,
    licence="non-commercial research purposes only",
    published={"all": 118},
    fractions=(0.0, 1.0),
    options=PAIR_OPTIONS,
)
