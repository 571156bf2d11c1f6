"""Hard negatives: where the network sees cracks in photos that have none, it learns next.

Each epoch the network is run over the photos; what it finds is kept as a picture beside the run, so that the loader can
cut there. The pictures follow from the weights alone, so a resumed run finds the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cracktool.config import TrainConfig
from cracktool.data import Example
from cracktool.datasets.pairing import photos_in
from cracktool.device import Choice
from cracktool.errors import CrackError
from cracktool.files import replace_file
from cracktool.images import encode_png, read_image
from cracktool.inference import Predictor
from cracktool.inference.torch_network import TorchNetwork
from cracktool.training.ranks import Ranks
from cracktool.weights import Checkpoint

FOLDER = "mined"
LEAST = 1e-4
"""Mean false probability that every photo is credited with, so that one in which nothing was found is seen again."""


class Mine:
    """Crack-free photos and what the network falsely finds in them.

    Args:
        config: Settings.
        folder: The run folder.

    Raises:
        InputError: There is no photo in the folder that is to be mined.
    """

    def __init__(self, config: TrainConfig, folder: Path) -> None:
        photos = photos_in(Path(config.mine), remedy="name a folder of crack-free photos")
        self._heats = [folder.resolve() / FOLDER / f"{number}.png" for number in range(len(photos))]
        self.examples = [Example(photo, None, heat=heat) for photo, heat in zip(photos, self._heats, strict=True)]
        self._share = config.mine_share

    def hard_negatives(self, checkpoint: Checkpoint, choice: Choice, ranks: Ranks, weights: Tensor | None) -> Tensor:
        """Run the network over the photos, and return the chances of all samples: photos fooling it most come most.

        Args:
            checkpoint: The network.
            choice: Where it runs.
            ranks: The processes that share the photos.
            weights: Chances of all samples so far; the mined ones are the last.

        Raises:
            InputError: A photo cannot be read.
        """
        assert weights is not None  # the loader gives chances where anything is mined
        predictor = Predictor(TorchNetwork(checkpoint, choice.device, choice.dtype))
        mine: Sequence[int] = ranks.share(range(len(self.examples)))
        found = {}
        for number, levels in predictor.stream(mine, lambda each: read_image(self.examples[each].image)):
            if isinstance(levels, CrackError):
                raise levels
            replace_file(self._heats[number], encode_png(levels))
            found[number] = float(levels.mean()) / 255 + LEAST
        means = {number: mean for part in ranks.gather(found) for number, mean in part.items()}
        chances = torch.tensor([means[number] for number in range(len(self.examples))])
        return torch.cat([weights[: -len(chances)], self._share * chances / chances.sum()])
