from __future__ import annotations

import numpy as np
import pytest

from evaluation.inference import Inference
from evaluation.results import Estimate
from evaluation.utility.linear_probe import LinearProbe

QUICK = Inference(resamples=200, permutations=199)


def _probe(x: np.ndarray, y: np.ndarray, half: int) -> Estimate:
    return LinearProbe(x[:half], y[:half], seed=0).accuracy(
        x[half:],
        y[half:],
        name="job",
        clusters=np.arange(len(x) - half) // 2,
        split="test",
        system="model",
        inference=QUICK,
    )


def test_reads_planted_classes_at_any_scale_and_not_shuffled_ones() -> None:
    rng = np.random.default_rng(0)
    y = rng.choice(["cook", "judge", "pilot"], size=400, p=[0.5, 0.3, 0.2])
    centres = dict(zip(["cook", "judge", "pilot"], rng.standard_normal((3, 20)), strict=True))
    x = np.stack([centres[each] for each in y]) + rng.standard_normal((400, 20))
    found = _probe(x, y, 200)
    assert found.name == "probe/job_accuracy"
    assert found.value > 0.85
    assert found.low <= found.value <= found.high
    assert found.null == np.mean(y[200:] == "cook")
    assert (found.p_value, found.n, found.n_clusters) == (1 / 200, 200, 100)
    scale = 10.0 ** rng.integers(-3, 4, size=20)
    assert _probe((x * scale).astype(np.float32), y, 200).value == pytest.approx(found.value, abs=0.01)
    shuffled = _probe(rng.permutation(x), y, 200)
    assert shuffled.p_value > 0.05
    assert shuffled.value == pytest.approx(found.null, abs=0.15)


def test_a_test_class_never_trained_on_is_an_error() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [50, 50, 20])
    x = np.eye(3)[y] * 5 + 0.1 * rng.standard_normal((120, 3))
    row = _probe(x, y, 80)
    assert row.value == 0.5
    assert row.null == 0.0


def test_converges_on_many_classes_without_a_warning() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(90, size=1500)
    x = rng.standard_normal((90, 64))[y] + rng.standard_normal((1500, 64))
    x *= np.geomspace(1, 1e-3, 64)
    assert _probe(x, y, 1200).value > 0.7
