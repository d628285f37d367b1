"""Zero-shot classification by cosine with class prompts (Radford et al. 2021, §3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from evaluation.inference import Inference, cluster_count, mean_interval, null_fields, permuted_labels
from evaluation.results import Estimate
from evaluation.utility.retrieval import unit_rows

BLOCK_CELLS = 2**22
DECIMALS = 12


def zero_shot(
    image: np.ndarray,
    class_text: np.ndarray,
    target: np.ndarray,
    *,
    name: str,
    clusters: np.ndarray,
    split: str,
    system: str,
    inference: Inference,
    topk: Sequence[int] = (1, 5),
) -> list[Estimate]:
    """Rows ``zero_shot/{name}_top{k}``: how often the true class is among the ``k`` of highest cosine.

    Ties count against the model. A ``k`` that takes in every class is left out. The null permutes the
    targets with clusters respected (``permuted_labels``), so it knows how often each class occurs and how
    often each is predicted.

    Args:
        image: embeddings ``(n, d)``.
        class_text: embeddings ``(c, d)``, or ``(c, t, d)`` for ``t`` templates, averaged at unit length.
        target: class indices ``(n,)``.
        name: of the task.
        clusters: ``(n,)`` names.
        split, system: for the rows.
        inference: draws and level.
        topk: cut-offs.

    Raises:
        ValueError: a target outside the classes, embeddings that are not finite, or fewer than two clusters.
    """
    prompts = unit_rows(class_text)
    if prompts.ndim == 3:
        prompts = unit_rows(prompts.mean(axis=1))
    if not 0 <= target.min() <= target.max() < len(prompts):
        raise ValueError(f"a target is outside the classes 0..{len(prompts) - 1}")
    rank, every = _class_ranks(unit_rows(image), prompts), np.arange(len(target))
    observed = rank[every, target]
    null = np.stack([rank[every, drawn] for drawn in permuted_labels(target, clusters, inference)])
    rows = []
    for k in topk:
        if k >= len(prompts):
            continue
        value, low, high = mean_interval(observed <= k, clusters, inference)
        rows.append(
            Estimate(
                name=f"zero_shot/{name}_top{k}",
                value=value,
                low=low,
                high=high,
                **null_fields(value, np.mean(null <= k, axis=1), inference),
                n=len(target),
                n_clusters=cluster_count(clusters),
                split=split,
                system=system,
                higher_is_better=True,
            )
        )
    return rows


def _class_ranks(image: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """Rank ``(n, c)`` of every class for every image; equal scores all take the worst rank."""
    block = max(1, BLOCK_CELLS // len(prompts))
    ranks = np.empty((len(image), len(prompts)), dtype=np.int32)
    for low in range(0, len(image), block):
        scores = np.round(image[low : low + block] @ prompts.T, DECIMALS)
        ranks[low : low + block] = rankdata(-scores, method="max", axis=1)
    return ranks
