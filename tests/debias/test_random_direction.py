from __future__ import annotations

import numpy as np
import pytest
import torch

from debias import random_direction


def test_it_projects_out_rank_directions_about_the_mean() -> None:
    """x ↦ x − Q Qᵀ (x − mean) with Qᵀ Q = I."""
    rng = np.random.default_rng(0)
    mean, x = torch.from_numpy(rng.standard_normal(8)), torch.from_numpy(rng.standard_normal((40, 8)))
    eraser = random_direction(8, rank=3, mean=mean, seed=1)
    edited = eraser(x)
    assert torch.linalg.matrix_rank(x - mean) == 8
    assert torch.linalg.matrix_rank(edited - mean, rtol=1e-10) == 5
    torch.testing.assert_close(eraser(edited), edited, rtol=0, atol=1e-12)
    torch.testing.assert_close(eraser(mean), mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        ((edited - mean) * (x - edited)).sum(1), torch.zeros(40).double(), rtol=0, atol=1e-12
    )
    assert (eraser.method, eraser.rank, eraser.details) == ("random_direction", 3, {"seed": 1})


def test_the_seed_decides() -> None:
    one, same, other = (random_direction(8, rank=2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.left, same.left)
    assert (one.left - other.left).abs().max() > 0.1
    assert not one.mean.any()


def test_directions_are_uniform() -> None:
    """E[Q Qᵀ] = (rank / d) I for directions without a preferred axis."""
    mean = sum(random_direction(4, rank=1, seed=seed).left.square() for seed in range(2000)) / 2000
    torch.testing.assert_close(mean, torch.full((4, 1), 0.25).double(), rtol=0, atol=0.03)


@pytest.mark.parametrize("rank", [0, 9])
def test_misfits_are_refused(rank: int) -> None:
    with pytest.raises(ValueError, match=f"rank is {rank}, expected 1 to dim, which is 8"):
        random_direction(8, rank=rank, seed=0)
    with pytest.raises(ValueError, match="mean, left, right have shapes"):
        random_direction(8, rank=1, mean=torch.zeros(7), seed=0)
