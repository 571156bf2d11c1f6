"""How a score falls as photos get worse: one evaluation for each kind of corruption and each severity."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cracktool.corruption import CORRUPTIONS, SEVERITIES, corrupt
from cracktool.errors import InputError, choose_names
from cracktool.evaluation.comparing import Cell, cell_of
from cracktool.evaluation.predictions import model_origin, predictions_from_model
from cracktool.evaluation.rows import Failure
from cracktool.evaluation.scoring import evaluate
from cracktool.evaluation.summaries import check_pooled
from cracktool.images import Image
from cracktool.manifest import Entry, Manifest

if TYPE_CHECKING:
    from cracktool.inference import Predictor

CLEAN = "none"
"""The photos as they are; their row stands first and has one severity, 0."""


@dataclass(frozen=True, kw_only=True)
class Spoilt:
    """A pooled score on photos that were spoilt.

    Args:
        kind: What spoilt them, a name of `cracktool.corruption.CORRUPTIONS`, or `CLEAN`.
        severity: 1 to 5, or 0.
        cell: The score and its interval.
        failures: What could not be scored, and why.
        warnings: What the user should know of the photos as they are; none of spoilt ones, where it is no wonder.
    """

    kind: str
    severity: int
    cell: Cell
    failures: Sequence[Failure]
    warnings: Sequence[str] = ()


def robustness(
    manifest: Manifest, predictor: Predictor, kinds: Sequence[str], *, name: str, score: str = "iou"
) -> Iterator[Spoilt]:
    """Score a predictor on photos as they are, then on spoilt ones. Each photo is spoilt the same way in every run.

    Args:
        manifest: The photos.
        predictor: Finds the crack.
        kinds: What is to be tried, names of `cracktool.corruption.CORRUPTIONS`, or all.
        name: The weights, as the user knows them.
        score: A pooled score.

    Raises:
        UsageError: There is no such kind, or no such score.
        InputError: Nothing could be scored, or not so.
    """
    check_pooled(score)
    chosen = choose_names("corruption", kinds, CORRUPTIONS)
    cases = [(CLEAN, 0), *((kind, severity) for kind in chosen for severity in SEVERITIES)]
    for kind, severity in cases:
        change = partial(_spoil, kind=kind, severity=severity) if severity else None
        report = evaluate(
            manifest,
            predictions_from_model(manifest, predictor, change),
            origin=model_origin(predictor, name),
            threshold=predictor.threshold,
        )
        cell = cell_of(report, score)
        if cell is None:
            raise InputError(f"{score} cannot be told of these photos", path=manifest.folder, remedy="--score iou can")
        warnings = () if severity else report.warnings
        yield Spoilt(kind=kind, severity=severity, cell=cell, failures=report.failures, warnings=warnings)


def _spoil(entry: Entry, image: Image, *, kind: str, severity: int) -> Image:
    digest = hashlib.sha256(entry.image.encode(errors="surrogatepass")).digest()
    return corrupt(image, kind, severity, np.random.default_rng(int.from_bytes(digest[:8])))
