from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor

from debias import Eraser, random_direction
from debias.methods.mean_projection import MeanProjectionFitter
from debias.methods.pareto_shrink import ParetoShrinkFitter

Planted = Callable[..., tuple[Tensor, Tensor]]
D = 12


def attacker(x: Tensor, z: Tensor) -> LogisticRegression:
    """Next to no penalty: a penalty is not the same before and after an invertible map."""
    model = LogisticRegression(C=1e6, class_weight="balanced", solver="newton-cholesky")
    return model.fit(x.numpy(), z.numpy())


def accuracy(model: LogisticRegression, x: Tensor, z: Tensor) -> float:
    return float(balanced_accuracy_score(z.numpy(), model.predict(x.numpy())))


def spread(x: Tensor, z: Tensor) -> float:
    """Variance between groups, summed over axes."""
    return sum(
        float((x[z == group].mean(0) - x.mean(0)).square().sum() * (z == group).double().mean())
        for group in z.unique()
    )


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.5, 0.3, 0.2)])
def test_a_retrained_attacker_loses_nothing_and_a_fixed_one_does(
    planted: Planted, shares: tuple[float, ...]
) -> None:
    """Leakage intact by design; projecting off the same axes and the control show what removal would do."""
    x, z = planted(shares)
    groups = len(shares)
    eraser = ParetoShrinkFitter(D, groups, trade_off=100).update(x, z).eraser
    removal = MeanProjectionFitter(D, groups).update(x, z).eraser
    control = random_direction(D, rank=eraser.rank, mean=eraser.mean, seed=0)
    fixed = attacker(x, z)
    before = accuracy(fixed, x, z)
    assert before > 1 / groups + 0.3
    assert accuracy(attacker(eraser(x), z), eraser(x), z) == pytest.approx(before, abs=0.005)
    assert accuracy(attacker(removal(x), z), removal(x), z) < 1 / groups + 0.02
    assert accuracy(fixed, eraser(x), z) < before - 0.1
    assert accuracy(fixed, control(x), z) > accuracy(fixed, eraser(x), z) + 0.05


def test_it_says_so(planted: Planted) -> None:
    x, z = planted()
    eraser = ParetoShrinkFitter(D, 2).update(x, z).eraser
    assert eraser.invertible
    assert not MeanProjectionFitter(D, 2).update(x, z).eraser.invertible
    assert "an attacker retrained on the edited vectors finds all" in eraser.details["statement"]
    assert eraser.details["labelled"] == [300, 300]
    assert eraser.details["trade_off"] == 10.0
    assert 0 < eraser.details["kept"][0] < 1


def test_whitening_removes_nothing_either(planted: Planted) -> None:
    """Any invertible map: the retrained attacker stays where it was."""
    x, z = planted()
    identity = torch.eye(D, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(torch.cov(x.T))
    change = identity - vectors / values.sqrt() @ vectors.T
    whitening = Eraser(x.mean(0), change, identity, method="whitening", changes_images=True)
    torch.testing.assert_close(torch.cov(whitening(x).T), identity, rtol=0, atol=1e-9)
    assert whitening.invertible
    before = accuracy(attacker(x, z), x, z)
    assert before > 0.8
    assert accuracy(attacker(whitening(x), z), whitening(x), z) == pytest.approx(before, abs=0.005)


@given(trade_off=st.floats(0.01, 1000), seed=st.integers(0, 99))
@settings(derandomize=True, deadline=None, max_examples=15)
def test_no_other_shrinkage_of_the_axes_has_a_smaller_objective(trade_off: float, seed: int) -> None:
    """E‖r(x) − x‖² + λ · variance between groups, against other factors along the same axes."""
    rng = np.random.default_rng(seed)
    z = torch.from_numpy(rng.integers(3, size=300))
    noise, means = rng.standard_normal((300, D)) * rng.uniform(0.5, 2, D), rng.standard_normal((3, D))
    x = torch.from_numpy(noise + means[z])
    eraser = ParetoShrinkFitter(D, 3, trade_off=trade_off).update(x, z).eraser

    def objective(left: Tensor) -> float:
        edited = x - (x - eraser.mean) @ eraser.right @ left.mT
        return float((edited - x).square().sum(1).mean()) + trade_off * spread(edited, z)

    best = objective(eraser.left)
    assert eraser.rank == 2
    for _ in range(5):
        nudge = torch.from_numpy(rng.normal(scale=0.1, size=2))
        assert best < objective(eraser.left + eraser.right * nudge)


def test_from_the_identity_to_the_projection(planted: Planted) -> None:
    x, z = planted((0.5, 0.3, 0.2))
    projection = MeanProjectionFitter(D, 3).update(x, z).eraser
    erasers = [ParetoShrinkFitter(D, 3, trade_off=value).update(x, z).eraser for value in (1e-9, 1, 10, 1e9)]
    left = [spread(eraser(x), z) for eraser in erasers]
    cost = [float((eraser(x) - x).square().mean()) for eraser in erasers]
    assert left == sorted(left, reverse=True)
    assert cost == sorted(cost)
    torch.testing.assert_close(erasers[0](x), x, rtol=0, atol=1e-6)
    torch.testing.assert_close(erasers[-1](x), projection(x), rtol=0, atol=1e-6)


def test_streaming_equals_batch_equals_merged(planted: Planted) -> None:
    x, z = planted((0.5, 0.3, 0.2))
    shards = [ParetoShrinkFitter(D, 3), ParetoShrinkFitter(D, 3)]
    for place, (rows, index) in enumerate(zip(x.split(70), z.split(70), strict=True)):
        shards[place % 2].update(rows, index)
    batch = ParetoShrinkFitter(D, 3).update(x, z).eraser
    torch.testing.assert_close(shards[0].merge(shards[1]).eraser(x), batch(x), rtol=0, atol=1e-9)


@pytest.mark.parametrize("trade_off", [0.0, -1.0, float("nan"), float("inf")])
def test_misfits_are_refused(trade_off: float) -> None:
    with pytest.raises(ValueError, match="expected a finite number above 0"):
        ParetoShrinkFitter(D, 2, trade_off=trade_off)
    with pytest.raises(ValueError, match="at least two groups"):
        _ = ParetoShrinkFitter(4, 2).update(torch.eye(4), torch.tensor([0, 0, -1, -1])).eraser
