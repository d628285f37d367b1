"""Zero-shot classification by cosine with class prompts (Radford et al. 2021, §3.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.stats import rankdata

from evaluation.inference import null_fields, permuted_labels
from evaluation.inference.bootstrap import BLOCK_CELLS
from evaluation.results import Estimate
from evaluation.setting import Setting
from evaluation.vectors import unit_rows

DECIMALS = 12


def class_ranks(image: np.ndarray, class_text: np.ndarray) -> np.ndarray:
    """Rank ``(n, c)`` of every class for every image by cosine, from 1; equal scores take the worst rank.

    In the smallest integers that hold ``c``: 200 MB for 100,000 images and 1,000 classes.

    Args:
        image: embeddings ``(n, d)``.
        class_text: embeddings ``(c, d)``, or ``(c, t, d)`` for ``t`` templates, averaged at unit length.

    Raises:
        ValueError: embeddings that are not finite.
    """
    prompts = unit_rows(class_text)
    if prompts.ndim == 3:
        prompts = unit_rows(prompts.mean(axis=1))
    image = unit_rows(image)
    block = max(1, BLOCK_CELLS // len(prompts))
    ranks = np.empty((len(image), len(prompts)), dtype=np.min_scalar_type(len(prompts)))
    for low in range(0, len(image), block):
        scores = np.round(image[low : low + block] @ prompts.T, DECIMALS)
        ranks[low : low + block] = rankdata(-scores, method="max", axis=1)
    return ranks


def predictions(ranks: np.ndarray) -> np.ndarray:
    """Class index ``(n,)`` of the best rank; of classes that tie for it the first.

    A tie is a prediction all the same, but never a hit in ``zero_shot``.
    """
    return np.asarray(ranks.argmin(axis=1))


def zero_shot(
    ranks: np.ndarray, target: np.ndarray, *, name: str, at: Setting, topk: Sequence[int] = (1, 5)
) -> list[Estimate]:
    """Rows ``zero_shot/{name}_top{k}``: how often the true class is among the ``k`` of highest cosine.

    Ties count against the model. A ``k`` that takes in every class is left out. The null permutes the
    targets with clusters respected (``permuted_labels``), so it knows how often each class occurs and how
    often each is predicted.

    Args:
        ranks: of ``class_ranks``, ``(n, c)``.
        target: class indices ``(n,)``.
        name: of the task.
        at: where it is measured.
        topk: cut-offs.

    Raises:
        ValueError: a target outside the classes, not one cluster per image, or fewer than two clusters.
    """
    observed, ks = _true_ranks(ranks, target), _cut_offs(topk, ranks)
    every = np.arange(len(target))
    drawn = (ranks[every, labels] for labels in permuted_labels(target, at.clusters, at.inference))
    null = np.array([[np.mean(rank <= k) for k in ks] for rank in drawn])
    return [
        at.mean(
            f"zero_shot/{name}_top{k}",
            observed <= k,
            higher_is_better=True,
            **null_fields(float(np.mean(observed <= k)), column, at.inference),
        )
        for k, column in zip(ks, null.T, strict=True)
    ]


def zero_shot_change(
    before: np.ndarray,
    after: np.ndarray,
    target: np.ndarray,
    *,
    name: str,
    at: Setting,
    topk: Sequence[int] = (1, 5),
) -> list[Estimate]:
    """Rows ``zero_shot/{name}_top{k}_change``: accuracy after minus before, paired image by image.

    The null is no change; a small p-value says that accuracy *fell*. ``before`` and ``after`` are ranks of
    two systems, other arguments and errors as in ``zero_shot``.
    """
    old, new = _true_ranks(before, target), _true_ranks(after, target)
    return [
        at.change(f"zero_shot/{name}_top{k}", new <= k, old <= k, higher_is_better=True)
        for k in _cut_offs(topk, after)
    ]


def _true_ranks(ranks: np.ndarray, target: np.ndarray) -> np.ndarray:
    if not 0 <= target.min() <= target.max() < ranks.shape[1]:
        raise ValueError(f"a target is outside the classes 0..{ranks.shape[1] - 1}")
    return ranks[np.arange(len(target)), target]


def _cut_offs(topk: Iterable[int], ranks: np.ndarray) -> list[int]:
    return [k for k in topk if k < ranks.shape[1]]
