from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from debias import LeaceFitter, random_direction
from debias.methods.mean_projection import MeanProjectionFitter
from tests.debias.conftest import largest_gap

Planted = Callable[..., tuple[Tensor, Tensor]]
Probe = Callable[..., float]
D = 12


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.1), (0.5, 0.3, 0.2), (0.3, 0.3, 0.2, 0.1, 0.1)])
def test_no_linear_probe_finds_the_group_afterwards(
    planted: Planted, least_squares: Probe, logistic: Probe, shares: tuple[float, ...]
) -> None:
    """Group means equal on the fitted rows; random directions, as many, do not do it."""
    x, z = planted(shares)
    chance = 1 / len(shares)
    eraser = MeanProjectionFitter(D, len(shares)).update(x, z).eraser
    control = random_direction(D, rank=eraser.rank, mean=eraser.mean, seed=0)
    assert eraser.rank == len(shares) - 1
    for edited in (x, control(x)):
        assert largest_gap(edited, z) > 0.5
        assert least_squares(edited, z) > 0.05
        assert logistic(edited, z) > chance + 0.2
    assert largest_gap(eraser(x), z) < 1e-10
    assert least_squares(eraser(x), z) < 1e-6
    assert logistic(eraser(x), z) == pytest.approx(chance, abs=0.01)


def test_it_is_an_orthogonal_projection_that_keeps_the_mean(planted: Planted) -> None:
    x, z = planted((0.5, 0.3, 0.2))
    eraser = MeanProjectionFitter(D, 3).update(x, z).eraser
    assert torch.equal(eraser.left, eraser.right)
    torch.testing.assert_close(eraser.left.T @ eraser.left, torch.eye(2).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(eraser(x).mean(0), x.mean(0), rtol=0, atol=1e-10)
    assert MeanProjectionFitter(D, 3).update(eraser(x), z).eraser.rank == 0


def test_it_moves_rows_further_than_leace(planted: Planted) -> None:
    x, z = planted()
    projection = MeanProjectionFitter(D, 2).update(x, z).eraser
    leace = LeaceFitter(D, 2).update(x, z).eraser
    assert largest_gap(leace(x), z) < 1e-10 > largest_gap(projection(x), z)
    assert (leace(x) - x).square().mean() < 0.95 * (projection(x) - x).square().mean()


def test_rare_groups_and_faint_traces_are_not_skipped(planted: Planted) -> None:
    x, z = planted((0.6, 0.399, 0.001), n=6000)
    assert largest_gap(x, z) > 0.5
    assert largest_gap(MeanProjectionFitter(D, 3).update(x, z).eraser(x), z) < 1e-10
    means = torch.stack([x[z == group].mean(0) for group in range(3)])
    faint = x - means[z] + 1e-5 * z[:, None]
    eraser = MeanProjectionFitter(D, 3).update(faint, z).eraser
    assert eraser.rank == 1
    assert largest_gap(faint, z) > 0.9e-5
    assert largest_gap(eraser(faint), z) < 1e-10


def test_strength_scales_the_gap(planted: Planted) -> None:
    x, z = planted()
    for strength in (0.0, 0.25, 1.0):
        edited = MeanProjectionFitter(D, 2, strength=strength).update(x, z).eraser(x)
        assert largest_gap(edited, z) == pytest.approx((1 - strength) * largest_gap(x, z), abs=1e-10)


@given(chunk=st.integers(1, 600), shift=st.integers(0, 599))
@settings(derandomize=True, deadline=None, max_examples=8)
def test_streaming_equals_batch_equals_merged(chunk: int, shift: int) -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randint(-1, 3, (600,), generator=generator)
    x = torch.randn(600, D, generator=generator, dtype=torch.float64) + z[:, None]
    batch = MeanProjectionFitter(D, 3).update(x, z)
    shards = [MeanProjectionFitter(D, 3), MeanProjectionFitter(D, 3)]
    rows, index = x.roll(shift, 0).split(chunk), z.roll(shift).split(chunk)
    for place, (part, groups) in enumerate(zip(rows, index, strict=True)):
        shards[place % 2].update(part, groups)
    eraser = shards[0].merge(shards[1]).eraser
    torch.testing.assert_close(eraser(x), batch.eraser(x), rtol=0, atol=1e-9)
    assert eraser.details["labelled"] == [int((z == group).sum()) for group in range(3)]


def test_groups_without_rows_are_none_and_one_group_is_refused(planted: Planted) -> None:
    x, z = planted()
    gap = MeanProjectionFitter(D, 3).update(x, 2 * z).eraser
    torch.testing.assert_close(gap(x), MeanProjectionFitter(D, 2).update(x, z).eraser(x), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=r"at least two groups, got \[0, 600\] rows per group"):
        _ = MeanProjectionFitter(D, 2).update(x, torch.ones(600, dtype=torch.long)).eraser
