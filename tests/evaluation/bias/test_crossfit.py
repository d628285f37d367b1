"""Cross-fitted leakage: finds what is planted, nothing where nothing is, and is not fooled by clusters."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from evaluation.bias.crossfit import FOLDS, crossfitted_leakage, enough_clusters
from evaluation.bias.leakage import Sample
from evaluation.inference import Inference
from evaluation.results import Estimate
from evaluation.setting import Setting


def leak(x: np.ndarray, labels: np.ndarray, clusters: np.ndarray) -> Estimate:
    at = Setting(clusters=clusters, split="val", system="eraser off", inference=Inference(resamples=200))
    return crossfitted_leakage(Sample(x, labels, clusters), "gender/embedding", at=at, seed=0)


def planted(
    strength: float, *, clusters: int = 40, each: int = 6
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    names = np.repeat([f"c{place:02}" for place in range(clusters)], each)
    labels = np.where(np.arange(len(names)) % 2 == 0, "man", "woman")
    x = rng.standard_normal((len(names), 16))
    x[:, 0] += strength * (labels == "man")
    return x, labels, names


def test_a_planted_difference_is_found_as_scikit_learn_finds_it() -> None:
    x, labels, clusters = planted(3.0)
    row = leak(x, labels, clusters)
    attacker = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=5000))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    said = cross_val_predict(attacker, x, labels, groups=clusters, cv=folds)
    assert row.value == pytest.approx(balanced_accuracy_score(labels, said))
    assert row.value > 0.85
    assert row.name == "leakage/gender/embedding/logistic"
    assert row.low is not None
    assert row.high is not None
    assert 0.5 < row.low < row.value < row.high
    assert (row.null, row.n, row.n_clusters) == (0.5, len(labels), 40)


def test_nothing_is_found_where_nothing_is() -> None:
    row = leak(*planted(0.0))
    assert row.low is not None
    assert row.high is not None
    assert row.low < 0.5 < row.high


def test_an_attacker_cannot_know_a_cluster_again() -> None:
    """Each cluster is one point with one group: known again it would be read, unseen it cannot be."""
    rng = np.random.default_rng(1)
    clusters = np.repeat([f"c{place:02}" for place in range(40)], 8)
    labels = np.repeat(np.where(rng.permutation(40) < 20, "man", "woman"), 8)
    x = np.repeat(rng.standard_normal((40, 64)), 8, axis=0) + 0.01 * rng.standard_normal((320, 64))
    assert LogisticRegression(max_iter=5000).fit(x, labels).score(x, labels) == 1.0
    assert leak(x, labels, clusters).value < 0.75


def test_too_few_clusters_are_refused() -> None:
    x, labels, clusters = planted(1.0, clusters=FOLDS - 1)
    assert not enough_clusters(labels, clusters)
    assert not enough_clusters(np.full(len(x), "man"), np.arange(len(x)).astype(str))
    assert enough_clusters(*planted(1.0, clusters=FOLDS)[1:])
    with pytest.raises(ValueError, match="two groups, each in 5 clusters"):
        leak(x, labels, clusters)
