"""A checkpoint as safetensors: one file, or a folder as the Hugging Face Hub lays models out.

Both load back through `cracktool.weights`; nothing is sent anywhere.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import asdict, replace
from pathlib import Path

from cracktool.card import Card
from cracktool.errors import OutputError, UsageError
from cracktool.files import replace_file
from cracktool.registry import HUB_CONFIG, HUB_TENSORS
from cracktool.weights import Checkpoint, save_weights

README = "README.md"


def require_free(*paths: Path, overwrite: bool) -> None:
    """Refuse to replace files unless it is wanted.

    Raises:
        OutputError: One of them exists.
    """
    for path in paths:
        if path.exists() and not overwrite:
            raise OutputError("exists already", path=path, remedy="choose another name, or give --overwrite")


def export_safetensors(checkpoint: Checkpoint, path: Path, *, overwrite: bool = False) -> Card:
    """Write a checkpoint as weights of this package, such as one that was read from an authors' file.

    Args:
        checkpoint: The network and its card; it is left as it was.
        path: The file to write.
        overwrite: Replace an existing file.

    Returns:
        The card in the file: the checkpoint's, dated today if it bore no date.

    Raises:
        UsageError: The name does not end in ``.safetensors``.
        OutputError: The file exists, or cannot be written.

    Example:
        >>> export_safetensors(load_weights("model.pth", model="unet_resnet101"), Path("model.safetensors")).tile
        448
    """
    if path.suffix != ".safetensors":
        raise UsageError("weights cannot be written under this ending", path=path, remedy="end it in .safetensors")
    require_free(path, overwrite=overwrite)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    card = replace(checkpoint.card, created=checkpoint.card.created or today)
    save_weights(path, checkpoint.model.state_dict(), card)
    return card


def export_hub(checkpoint: Checkpoint, folder: Path, *, overwrite: bool = False) -> Card:
    """Write a checkpoint as a model folder: model.safetensors, config.json and README.md.

    Args:
        checkpoint: The network and its card; it is left as it was.
        folder: The folder, made where there is none; other files in it are left alone.
        overwrite: Replace existing files.

    Returns:
        The card in the folder.

    Raises:
        OutputError: One of the files exists, or cannot be written.

    Example:
        >>> export_hub(load_weights(), Path("crack-fast")).model
        'unet_efficientnet_lite0'
    """
    require_free(*(folder / name for name in (HUB_TENSORS, HUB_CONFIG, README)), overwrite=overwrite)
    card = export_safetensors(checkpoint, folder / HUB_TENSORS, overwrite=overwrite)
    config = {"architectures": [card.model], "model_type": "cracktool", "library_name": "cracktool", **asdict(card)}
    replace_file(folder / HUB_CONFIG, (json.dumps(config, indent=2) + "\n").encode())
    replace_file(folder / README, _readme(card, folder.resolve().name).encode())
    return card


def _readme(card: Card, name: str) -> str:
    data = "\n".join(f"- {line}" for line in card.data) or "- not stated"
    scores = "\n".join(f"- {', '.join(f'{key} {value}' for key, value in score.items())}" for score in card.scores)
    return f"""---
library_name: cracktool
pipeline_tag: image-segmentation
tags: [cracks, segmentation, inspection]
license: other
license_name: {json.dumps(card.licence or "not stated")}
---

# {name}

Finds cracks in photos, pixel by pixel: `{card.model}`, tiles of {card.tile} px, threshold {card.threshold}.

```sh
crack infer photos/ -o masks/ --weights {name}/
```

RGB values of 0 to 1, mean {list(card.mean)}, standard deviation {list(card.std)}; one logit per pixel.

## Trained on

{data}

## Scores

{scores or "- none recorded"}

## Licence

{card.licence or "not stated"}
"""
