"""Masks of any number of photos by Ray Data, from and to any storage that it reads: folders, s3://, gs://.

pip install "ray[data]"
python examples/ray_data.py s3://bucket/photos s3://bucket/masks [WORKERS]

For photos on a disk that all machines see, `crack infer --ray` does more: it goes on where a stopped run ended. Here
photos travel through the cluster. Reading takes a processor of its own: have fewer workers than processors.
"""

import sys
from collections.abc import Mapping
from pathlib import PurePosixPath

import numpy as np
import pyarrow.fs
import ray

from cracktool import CrackError, load_predictor, read_image
from cracktool.images import encode_png


class FindCracks:
    """A network of its own in each worker; the photos of a batch share the batches of the network."""

    def __init__(self) -> None:
        """Load the weights that ship."""
        self.predictor = load_predictor()

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, list[object]]:
        """Turn bytes of photos into bytes of masks, empty beside an error."""
        masks, errors = [], []
        for _, levels in self.predictor.stream(batch["bytes"], read_image):
            broken = isinstance(levels, CrackError)
            masks.append(b"" if broken else encode_png(np.uint8(255) * (levels >= self.predictor.level)))
            errors.append(levels.reason if broken else "")
        return {"path": list(batch["path"]), "mask": masks, "error": errors}


def main(photos: str, masks: str, workers: int = 1) -> int:
    """Run all photos; return how many of them could not be read."""
    storage, folder = pyarrow.fs.FileSystem.from_uri(masks if "://" in masks else f"file://{masks}")
    found = ray.data.read_binary_files(photos, include_paths=True).map_batches(
        FindCracks, batch_size=8, concurrency=workers
    )
    storage.create_dir(folder, recursive=True)
    broken = 0
    for row in found.iter_rows():
        if row["error"]:
            broken += 1
            print(f"{row['path']}: {row['error']}", file=sys.stderr)
            continue
        with storage.open_output_stream(f"{folder}/{PurePosixPath(row['path']).stem}.png") as file:
            file.write(row["mask"])
    return broken


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    sys.exit(1 if main(*sys.argv[1:3], *map(int, sys.argv[3:])) else 0)
