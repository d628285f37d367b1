from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from torch import Tensor

from debias import LeaceFitter, random_direction
from debias.methods.quadratic import QuadraticFitter

D = 4
few = settings(derandomize=True, deadline=None, max_examples=20)


def gaussians(seed: int, *, groups: int = 2, n: int = 600, d: int = D) -> tuple[Tensor, Tensor]:
    """Rows whose group decides mean and covariance."""
    rng = np.random.default_rng(seed)
    z = rng.permutation(np.arange(n) % groups)
    mixing = np.eye(d) + 0.7 * rng.standard_normal((groups, d, d))
    x = (
        np.einsum("nij,nj->ni", mixing[z], rng.standard_normal((n, d)))
        + 0.5 * rng.standard_normal((groups, d))[z]
    )
    return torch.from_numpy(x), torch.from_numpy(z)


def moments_by_group(x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    rows = [x[z == group] for group in range(int(z.max()) + 1)]
    return torch.stack([own.mean(0) for own in rows]), torch.stack(
        [torch.cov(own.T, correction=0) for own in rows]
    )


def largest_gaps(x: Tensor, z: Tensor) -> tuple[float, float]:
    means, covariances = moments_by_group(x, z)
    return float((means - means[:1]).abs().max()), float((covariances - covariances[:1]).abs().max())


def attack(x: Tensor, z: Tensor) -> float:
    """Balanced accuracy of a logistic probe on all products of two columns, on the rows it was fitted on."""
    probe = make_pipeline(
        PolynomialFeatures(2), StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=5000)
    )
    return float(balanced_accuracy_score(z, probe.fit(x.numpy(), z.numpy()).predict(x.numpy())))


@pytest.mark.parametrize("groups", [2, 3])
def test_a_quadratic_attacker_is_at_chance_afterwards(groups: int) -> None:
    """Equal means and covariances; LEACE equalises the means alone and leaves it far above chance."""
    x, z = gaussians(0, groups=groups)
    quadratic = QuadraticFitter(D, groups).update(x, z).eraser
    linear = LeaceFitter(D, groups).update(x, z).eraser
    control = random_direction(D, rank=1, mean=x.mean(0), seed=0)
    for edited in (x, linear(x), control(x)):
        assert largest_gaps(edited, z)[1] > 0.1
        assert attack(edited, z) > 1 / groups + 0.15
    assert largest_gaps(x, z)[0] > 0.1
    assert largest_gaps(linear(x), z)[0] < 1e-8
    assert max(largest_gaps(quadratic(x, z), z)) < 1e-8
    assert attack(quadratic(x, z), z) == pytest.approx(1 / groups, abs=0.01)


@few
@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(1, 5))
def test_it_transports_to_the_barycentre(seed: int, groups: int, d: int) -> None:
    """Σ share_g T_g = I for the maps T_g back from the barycentre, which defines it; the mean is kept."""
    x, z = gaussians(seed, groups=groups, n=120, d=d)
    eraser = QuadraticFitter(d, groups).update(x, z).eraser
    maps = torch.eye(d, dtype=torch.float64) - eraser.matrices
    back = torch.linalg.inv(maps).mean(0)
    torch.testing.assert_close(back, torch.eye(d, dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(maps, maps.mT, rtol=0, atol=1e-9)
    assert (torch.linalg.eigvalsh(maps) > 0).all()
    torch.testing.assert_close(eraser(x, z).mean(0), x.mean(0), rtol=0, atol=1e-9)
    assert max(largest_gaps(eraser(x, z), z)) < 1e-8


@few
@given(st.integers(0, 10**6))
def test_no_other_equal_covariance_is_nearer(seed: int) -> None:
    """Optimality: the optimal maps to any other common covariance move the rows further in mean square."""
    x, z = gaussians(seed, n=100, d=3)
    fitter = QuadraticFitter(3, 2).update(x, z)
    cost = (fitter.eraser(x, z) - x).square().sum()
    _, covariances = moments_by_group(x, z)
    rng = np.random.default_rng(seed)
    noise = torch.from_numpy(rng.standard_normal((3, 3))) * rng.choice([0.01, 0.1, 1])
    root = torch.linalg.cholesky(moments_by_group(fitter.eraser(x, z), z)[1][0]) + noise
    moved = 0.0
    for group, covariance in enumerate(covariances):
        own = x[z == group]
        values, vectors = torch.linalg.eigh(covariance)
        half = (vectors * values.sqrt()) @ vectors.T
        values, vectors = torch.linalg.eigh(half @ root @ root.T @ half)
        inverse = torch.linalg.inv(half)
        transport = inverse @ (vectors * values.clamp(min=0).sqrt()) @ vectors.T @ inverse
        moved += float((((own - own.mean(0)) @ transport + x.mean(0)) - own).square().sum())
    assert moved >= cost - 1e-9


def test_streaming_equals_batch_equals_merged() -> None:
    x, z = gaussians(0, groups=3)
    z = torch.where(torch.arange(len(z)) % 5 == 0, -1, z)
    labelled = z >= 0
    batch = QuadraticFitter(D, 3).update(x[labelled], z[labelled])
    streamed, shards = QuadraticFitter(D, 3), [QuadraticFitter(D, 3), QuadraticFitter(D, 3)]
    for place, (rows, index) in enumerate(zip(x.split(70), z.split(70), strict=True)):
        streamed.update(rows, index)
        shards[place % 2].update(rows.numpy(), index.numpy())
    for fitter in (streamed, shards[0].merge(shards[1])):
        edited, expected = (own.eraser(x[labelled], z[labelled]) for own in (fitter, batch))
        torch.testing.assert_close(edited, expected, rtol=0, atol=1e-9)
    assert batch.eraser.details == {"labelled": torch.bincount(z[labelled]).tolist()}


def test_directions_in_which_no_row_varies_are_left_alone() -> None:
    """A constant column and a copied one; fresh rows that leave the support keep what lies outside."""
    x, z = gaussians(0)
    wide = torch.cat([x, x[:, :1], torch.ones(len(x), 1)], dim=1)
    eraser = QuadraticFitter(D + 2, 2).update(wide, z).eraser
    assert max(largest_gaps(wide, z)) > 0.1
    assert max(largest_gaps(eraser(wide, z), z)) < 1e-8
    outside = wide.clone()
    outside[:, -1] += 5
    torch.testing.assert_close(eraser(outside, z) - eraser(wide, z), outside - wide, rtol=0, atol=1e-9)


def test_misfits_are_refused_and_leave_no_trace() -> None:
    x, z = gaussians(0)
    fitter = QuadraticFitter(D, 2)
    with pytest.raises(ValueError, match="z has group 2, expected below 2"):
        fitter.update(x[:3], torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="must be finite"):
        fitter.update(torch.tensor([[0.0] * D, [torch.nan] * D]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="cannot merge 3 groups into 2"):
        fitter.merge(QuadraticFitter(D, 3))
    with pytest.raises(ValueError, match=r"rows of every group, got \[0, 0\] rows per group"):
        _ = fitter.eraser
    few_rows = torch.cat([(z == 0).nonzero()[:, 0], (z == 1).nonzero()[:3, 0]])
    with pytest.raises(ValueError, match=r"group 1 varies in 2 directions on its 3 rows .* together in 4"):
        _ = fitter.update(x[few_rows], z[few_rows]).eraser
