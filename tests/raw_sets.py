"""What tests of raw data sets share: small photos, masks, and the rows of a prepared set."""

import cv2
import numpy as np

from cracktool.images import encode_jpeg, encode_png, read_mask
from cracktool.manifest import read_manifest


def picture(seed, height=32, width=48):
    """A smooth photo that no other seed gives."""
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


def put(path, content):
    """Write bytes, text, or an array in the format of the file's extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        if path.suffix == ".bmp":
            content = cv2.imencode(".bmp", content)[1].tobytes()
        else:
            content = encode_jpeg(content) if path.suffix == ".jpg" else encode_png(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(result):
    """File name -> row of the prepared table."""
    return {entry.image.removeprefix("images/"): entry for entry in read_manifest(result.manifest).entries}


def masks(result):
    """File name of the image -> mask of the prepared set."""
    return {name: read_mask(result.manifest.parent / entry.mask) for name, entry in rows(result).items()}


def named(result, word):
    """The warnings with a word in them."""
    return [line for line in result.warnings if word in line]
