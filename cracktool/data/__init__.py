"""Training data: a manifest's rows to batches of augmented samples.

Each sample is a function of its key (image, random seed) alone, so the order of workers, their number, and a run that
was stopped and resumed make no difference.
"""

from __future__ import annotations

from cracktool.data.examples import IGNORED, UNKNOWN, Example, list_examples, read_example
from cracktool.data.loading import EpochSampler, Normalise, training_loader
from cracktool.data.samples import Samples

__all__ = [
    "IGNORED",
    "UNKNOWN",
    "EpochSampler",
    "Example",
    "Normalise",
    "Samples",
    "list_examples",
    "read_example",
    "training_loader",
]
