from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from debias.methods.inlp import InlpFitter
from debias.methods.leace import leace
from debias.methods.random_direction import random_direction
from debias.rows import LabelledRows

Planted = Callable[..., tuple[Tensor, Tensor]]
Probe = Callable[..., float]
D = 12


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.1), (0.5, 0.3, 0.2)])
def test_a_probe_on_fresh_rows_is_at_chance_afterwards(
    planted: Planted, logistic: Probe, shares: tuple[float, ...]
) -> None:
    x, z = planted(shares, n=6000)
    fitted, fresh = (x[:3000], z[:3000]), (x[3000:], z[3000:])
    chance = 1 / len(shares)
    eraser = InlpFitter(D, len(shares)).update(*fitted).eraser
    control = random_direction(D, rank=eraser.rank, mean=eraser.mean, seed=0)
    for edit in (lambda rows: rows, control):
        assert logistic(edit(fitted[0]), fitted[1], edit(fresh[0]), fresh[1]) > chance + 0.15
    found = logistic(eraser(fitted[0]), fitted[1], eraser(fresh[0]), fresh[1])
    assert found < chance + 0.06
    accuracies = eraser.details["balanced_accuracy"]
    assert accuracies[0] > chance + 0.15
    assert accuracies[-1] < chance + 0.06
    assert len(accuracies) == eraser.details["iterations"] + 1


def test_the_rank_grows_with_the_iterations_and_each_probe_finds_less(planted: Planted) -> None:
    x, z = planted((0.5, 0.3, 0.2), n=3000)
    ranks = [InlpFitter(D, 3, iterations=n).update(x, z).eraser.rank for n in (1, 2)]
    assert ranks == [2, 4]
    accuracies = InlpFitter(D, 3).update(x, z).eraser.details["balanced_accuracy"]
    assert accuracies[0] > accuracies[1] + 0.05
    assert accuracies[0] > accuracies[-1] + 0.2


def test_it_is_an_orthogonal_projection_about_the_mean(planted: Planted) -> None:
    x, z = planted((0.5, 0.3, 0.2))
    eraser = InlpFitter(D, 3).update(x, z).eraser
    assert (eraser(x) - x).abs().max() > 0.1
    torch.testing.assert_close(
        eraser.left.mT @ eraser.left, torch.eye(eraser.rank).double(), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(eraser(eraser(x)), eraser(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(eraser(x).mean(0), x.mean(0), rtol=0, atol=1e-6)


def test_it_stops_at_once_where_there_is_nothing_to_find(planted: Planted) -> None:
    x, z = planted(n=4000)
    same = leace(LabelledRows(D, 2).update(x, z).moments)(x)
    assert InlpFitter(D, 2).update(x, z).eraser.rank >= 1
    eraser = InlpFitter(D, 2).update(same, z).eraser
    assert (eraser.rank, eraser.details["iterations"]) == (0, 0)


def test_shards_in_any_order_give_the_same_eraser(planted: Planted) -> None:
    x, z = planted()
    once = InlpFitter(D, 2, limit=200).update(x, z).eraser
    shards = [InlpFitter(D, 2, limit=200).update(x[part::2], z[part::2]) for part in (0, 1)]
    merged = shards[1].merge(shards[0]).eraser
    torch.testing.assert_close(merged(x), once(x), rtol=0, atol=1e-10)
    assert merged.details == once.details
    assert once.details["labelled"] == [300, 300]


def test_no_more_directions_than_there_are(planted: Planted) -> None:
    """A group that any direction tells: after d of them every row is the mean and a probe is at chance."""
    z = torch.arange(200) % 2
    x = z[:, None] * torch.ones(3) + 0.01 * torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    eraser = InlpFitter(3, 2).update(x, z).eraser
    assert eraser.details["balanced_accuracy"][0] == 1
    assert eraser.details["balanced_accuracy"][-1] < 0.65
    assert 1 <= eraser.rank <= 3


def test_strength_and_misfits(planted: Planted) -> None:
    x, z = planted()
    full, half = (InlpFitter(D, 2, strength=s).update(x, z).eraser for s in (1.0, 0.5))
    torch.testing.assert_close(half(x), (x + full(x)) / 2, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="iterations is 0, expected at least 1"):
        InlpFitter(D, 2, iterations=0)
    with pytest.raises(ValueError, match="at least two groups"):
        _ = InlpFitter(D, 2).update(x, np.zeros(len(x), dtype=int)).eraser
