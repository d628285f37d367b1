"""Leakage without a train split: an attacker is trained on some clusters of a sample and asked about others.

For numbers to choose a checkpoint by: no test split is touched, nor the data that the model was trained on.
"""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from evaluation.bias.attackers import logistic, trained
from evaluation.bias.leakage import Sample, interval
from evaluation.bias.leakage_scores import balanced_accuracy, bootstrap_balanced_accuracy
from evaluation.results import Estimate
from evaluation.setting import Setting

FOLDS = 5


def enough_clusters(labels: np.ndarray, clusters: np.ndarray) -> bool:
    """Whether there are two groups, each in as many clusters as there are folds."""
    groups = np.unique(labels)
    return len(groups) > 1 and all(len(np.unique(clusters[labels == group])) >= FOLDS for group in groups)


def crossfitted_leakage(sample: Sample, name: str, *, at: Setting, seed: int) -> Estimate:
    """Row ``leakage/{name}/logistic``: balanced accuracy of a linear attacker on clusters it has not seen.

    Raises:
        ValueError: a group in fewer clusters than there are folds.
    """
    if not enough_clusters(sample.labels, sample.clusters):
        raise ValueError(f"cross-fitting needs two groups, each in {FOLDS} clusters")
    groups, codes = np.unique(sample.labels, return_inverse=True)
    answers = np.zeros((1, len(codes)), dtype=codes.dtype)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for seen, held in folds.split(sample.x, codes, sample.clusters):
        known, own = np.unique(codes[seen], return_inverse=True)
        scores = trained(logistic, sample.x[seen], own, seed)(sample.x[held])
        answers[0, held] = known[scores.argmax(axis=1)]
    low, high = interval(
        bootstrap_balanced_accuracy(answers, codes, sample.clusters, at.inference)[:, 0], at.inference
    )
    return at.row(
        f"leakage/{name}/logistic",
        float(balanced_accuracy(answers, codes)[0]),
        higher_is_better=False,
        low=low,
        high=high,
        null=1 / len(groups),
    )
