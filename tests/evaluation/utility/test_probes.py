"""Probes that answer with one class: logistic, SGD, nearest neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from evaluation.inference import Inference
from evaluation.results import Estimate
from evaluation.setting import Setting
from evaluation.utility.knn_probe import KNNProbe
from evaluation.utility.linear_probe import LinearProbe
from evaluation.utility.probe import Probe
from evaluation.utility.sgd_probe import RATES, SGDProbe

QUICK = Inference(resamples=200, permutations=199)
JOBS = np.array(["cook", "judge", "pilot"])

Fit = Callable[[np.ndarray, np.ndarray], Probe]
PROBES: dict[str, Fit] = {
    "accuracy": lambda x, y: LinearProbe(x, y, seed=0),
    "knn_accuracy": KNNProbe,
    "sgd_accuracy": lambda x, y: SGDProbe(x, y, np.arange(len(x)) // 2, seed=0, epochs=20),
}
every_probe = pytest.mark.parametrize("measure", PROBES)


def _at(n: int) -> Setting:
    return Setting(clusters=np.arange(n) // 2, split="test", system="model", inference=QUICK)


def _row(measure: str, x: np.ndarray, y: np.ndarray, half: int) -> Estimate:
    probe = PROBES[measure](x[:half], y[:half])
    return probe.hits(x[half:], y[half:]).row("job", at=_at(len(x) - half))


def _planted(noise: float = 1.0, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    job = rng.choice(3, size=n, p=[0.5, 0.3, 0.2])
    return rng.standard_normal((3, 20))[job] + noise * rng.standard_normal((n, 20)), JOBS[job]


@every_probe
def test_reads_planted_classes_and_not_shuffled_ones(measure: str) -> None:
    x, y = _planted()
    found = _row(measure, x, y, 200)
    assert found.name == f"probe/job_{measure}"
    assert found.value > 0.8
    assert found.low <= found.value <= found.high
    assert found.null == np.mean(y[200:] == "cook")
    assert (found.p_value, found.n, found.n_clusters) == (1 / 200, 200, 100)
    shuffled = _row(measure, np.random.default_rng(1).permutation(x), y, 200)
    assert shuffled.p_value > 0.05
    assert shuffled.value == pytest.approx(found.null, abs=0.15)


@every_probe
def test_the_same_seed_gives_the_same_row_and_one_scale_for_all_features_changes_little(measure: str) -> None:
    x, y = _planted(noise=2.0)
    row = _row(measure, x, y, 200)
    assert _row(measure, x, y, 200) == row
    assert _row(measure, (1000 * x).astype(np.float32), y, 200).value == pytest.approx(row.value, abs=0.01)


@every_probe
def test_a_test_class_never_trained_on_is_an_error(measure: str) -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 0, 1, 2], [30, 30, 10, 10, 20])
    x = np.eye(3)[y] * 5 + 0.1 * rng.standard_normal((100, 3))
    row = _row(measure, x, y, 60)
    assert row.value == 0.5
    assert row.null == 0.25


@every_probe
def test_change_is_paired_and_sees_a_loss(measure: str) -> None:
    x, y = _planted(noise=0.7)
    worse = x + 2 * np.random.default_rng(1).standard_normal(x.shape)
    before, after = (PROBES[measure](each[:200], y[:200]).hits(each[200:], y[200:]) for each in (x, worse))
    fallen = after.change(before, "job", at=_at(200))
    assert fallen.name == f"probe/job_{measure}_change"
    assert fallen.value == pytest.approx(after.hits.mean() - before.hits.mean())
    assert fallen.low <= fallen.value <= fallen.high < 0
    assert fallen.p_value == 1 / 200
    same = before.change(before, "job", at=_at(200))
    assert (same.value, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_hits_of_different_probes_are_not_compared() -> None:
    x, y = _planted()
    logistic, neighbours = (PROBES[each](x, y).hits(x, y) for each in ("accuracy", "knn_accuracy"))
    with pytest.raises(ValueError, match="change of accuracy cannot start from knn_accuracy"):
        logistic.change(neighbours, "job", at=_at(len(x)))


def test_the_logistic_probe_reads_features_of_any_scales() -> None:
    x, y = _planted()
    scale = 10.0 ** np.random.default_rng(1).integers(-3, 4, size=20)
    plain, scaled = (_row("accuracy", each, y, 200) for each in (x, (x * scale).astype(np.float32)))
    assert scaled.value == pytest.approx(plain.value, abs=0.01)


def test_the_logistic_probe_converges_on_many_classes_without_a_warning() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(90, size=1500)
    x = rng.standard_normal((90, 64))[y] + rng.standard_normal((1500, 64))
    x *= np.geomspace(1, 1e-3, 64)
    assert _row("accuracy", x, y, 1200).value > 0.7


@pytest.mark.parametrize("block_cells", [1, 2**22])
def test_neighbours_vote_as_scikit_learn_has_them(block_cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.utility.knn_probe.BLOCK_CELLS", block_cells)
    x, y = _planted(noise=2.0)
    reference = KNeighborsClassifier(
        20, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(x[:200], y[:200])
    assert np.array_equal(KNNProbe(x[:200], y[:200]).predict(x[200:]), reference.predict(x[200:]))


def test_a_near_neighbour_outvotes_many_far_ones_and_few_features_are_enough() -> None:
    x = np.array([[1.0, 0.0], *[[0.6, 0.8]] * 5])
    probe = KNNProbe(x, np.array(["near", *["far"] * 5]))
    assert probe.predict(np.array([[1.0, 0.0], [1.0, 1.5]])).tolist() == ["near", "far"]


def test_sgd_reaches_the_unpenalised_optimum_of_the_same_loss_in_enough_epochs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("evaluation.utility.sgd_probe.RATES", (1.0,))
    x, y = _planted(noise=2.0, n=600)
    reference = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(x, y).predict(x)
    agreement = [
        np.mean(SGDProbe(x, y, np.arange(600), seed=0, epochs=epochs).predict(x) == reference)
        for epochs in (1, 100)
    ]
    assert agreement[1] > 0.98 > agreement[0] + 0.02


def test_the_learning_rate_is_chosen_on_whole_clusters_that_the_sweep_does_not_train_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained: list[Tensor] = []
    train = SGDProbe._train

    def watched(probe: SGDProbe, features: Tensor, *others: Any) -> Tensor:
        trained.append(features)
        return train(probe, features, *others)

    monkeypatch.setattr(SGDProbe, "_train", watched)
    clusters = np.random.default_rng(0).permutation(np.repeat(np.arange(60), 10))
    probe = SGDProbe(np.eye(60)[clusters], clusters % 2, clusters, seed=0, epochs=2)
    assert probe.learning_rate in RATES
    # each cluster is one point: 48 of the 60 are swept, all copies of them
    assert [(len(x), len(x.unique(dim=0))) for x in trained] == [(480, 48), (600, 60)]


@pytest.mark.parametrize(
    ("x", "y", "clusters", "epochs", "message"),
    [
        (np.eye(4), [0, 1, 0, 1], [0, 0, 0, 0], 1, "2 classes, 1 clusters, 1 epochs"),
        (np.eye(4), [0, 0, 0, 0], [0, 1, 2, 3], 1, "1 classes, 4 clusters, 1 epochs"),
        (np.eye(4), [0, 1, 0, 1], [0, 1, 2, 3], 0, "2 classes, 4 clusters, 0 epochs"),
        (np.full((4, 2), np.inf), [0, 1, 0, 1], [0, 1, 2, 3], 1, "not finite"),
    ],
)
def test_sgd_refuses_what_it_cannot_train_on(
    x: np.ndarray, y: list[int], clusters: list[int], epochs: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SGDProbe(x, np.array(y), np.array(clusters), seed=0, epochs=epochs)
