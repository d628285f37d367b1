from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from debias import LeaceFitter, StreamingMoments, expected_residual, leace, random_direction

Planted = Callable[..., tuple[Tensor, Tensor]]
Probe = Callable[..., float]
D = 12


def moments_of(x: Tensor, z: Tensor) -> StreamingMoments:
    return StreamingMoments(x.shape[1], int(z.max()) + 1).update(x, z)


def largest_gap(x: Tensor, z: Tensor) -> float:
    means = moments_of(x, z).group_means
    return float((means[:, None] - means[None]).abs().max())


def library(x: Tensor, z: Tensor, *, svd_tol: float) -> Callable[[Tensor], Tensor]:
    """concept-erasure's closed form, without its shrinkage and trace constraint: the paper's has neither."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "`torch.jit.script`", FutureWarning
        )  # on its import, with torch 2.14
        from concept_erasure import LeaceEraser
    return LeaceEraser.fit(x, z, shrinkage=False, constrain_cov_trace=False, svd_tol=svd_tol)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.1), (0.5, 0.3, 0.2), (0.3, 0.3, 0.2, 0.1, 0.1)])
def test_no_linear_probe_finds_the_group_afterwards(
    planted: Planted, least_squares: Probe, logistic: Probe, shares: tuple[float, ...]
) -> None:
    """Cov(r(x), z) = 0 on the fitted rows: equal means, zero regression, a constant logistic probe."""
    x, z = planted(shares)
    chance = 1 / len(shares)
    eraser = leace(moments_of(x, z))
    control = random_direction(D, rank=eraser.rank, mean=eraser.mean, seed=0)
    assert 1 <= eraser.rank <= len(shares) - 1
    for edited in (x, control(x)):
        assert largest_gap(edited, z) > 0.5
        assert least_squares(edited, z) > 0.05
        assert logistic(edited, z) > chance + 0.2
    assert largest_gap(eraser(x), z) < 1e-10
    assert least_squares(eraser(x), z) < 1e-6
    assert logistic(eraser(x), z) == pytest.approx(chance, abs=0.01)


def test_fresh_rows_lose_most_of_it_and_other_directions_stay(planted: Planted, logistic: Probe) -> None:
    x, z = planted(n=6000)
    fresh_x, fresh_z = x[3000:], z[3000:]
    eraser = leace(moments_of(x[:3000], z[:3000]))
    control = random_direction(D, rank=1, mean=eraser.mean, seed=0)
    assert logistic(fresh_x, fresh_z) > 0.85
    assert logistic(control(fresh_x), fresh_z) > 0.85
    assert logistic(eraser(fresh_x), fresh_z) < 0.55
    assert torch.linalg.matrix_rank(eraser(fresh_x) - eraser.mean) == D - 1


def test_it_is_an_idempotent_map_that_keeps_the_mean(planted: Planted) -> None:
    """r(r(x)) = r(x), on rows it has never seen too, and r(μ) = μ."""
    x, z = planted((0.5, 0.3, 0.2))
    eraser = leace(moments_of(x, z))
    fresh = torch.from_numpy(np.random.default_rng(1).standard_normal((50, D)))
    once = eraser(fresh)
    assert (once - fresh).abs().max() > 0.1
    torch.testing.assert_close(eraser(once), once, rtol=0, atol=1e-10)
    torch.testing.assert_close(eraser(x).mean(0), x.mean(0), rtol=0, atol=1e-10)
    assert leace(moments_of(eraser(x), z)).rank == 0


def test_it_moves_rows_less_than_the_orthogonal_projection(planted: Planted) -> None:
    """Optimality: projecting out the column space of Σxz also makes the means equal, but costs more."""
    x, z = planted()
    moments = moments_of(x, z)
    eraser = leace(moments)
    direction = moments.cross_covariance[:, :1] / moments.cross_covariance[:, 0].norm()
    projected = x - (x - moments.mean) @ direction @ direction.T
    assert largest_gap(projected, z) < 1e-10
    assert (eraser(x) - x).square().mean() < 0.95 * (projected - x).square().mean()


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.5, 0.3, 0.2)])
def test_it_agrees_with_the_authors_library(planted: Planted, shares: tuple[float, ...]) -> None:
    """The same x − W⁺ P W (x − μ), where the library's absolute tolerance cuts nothing."""
    x, z = planted(shares)
    theirs = library(x, torch.eye(len(shares), dtype=torch.float64)[z], svd_tol=1e-2)
    torch.testing.assert_close(leace(moments_of(x, z))(x), theirs(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("share", [0.01, 0.001])
def test_a_rare_group_is_not_skipped(
    planted: Planted, least_squares: Probe, logistic: Probe, share: float
) -> None:
    """concept-erasure 0.2.4 drops singular values of W Σxz below 0.01; they are p(1 − p) · a distance."""
    x, z = planted((1 - share, share), n=6000, shift=0.5)
    eraser = leace(moments_of(x, z))
    skipped = library(x, z, svd_tol=0.01)
    control = random_direction(D, rank=1, mean=eraser.mean, seed=0)
    for edited in (x, skipped(x), control(x)):
        assert largest_gap(edited, z) > 0.5
        assert logistic(edited, z) > 0.6
    assert eraser.rank == 1
    assert largest_gap(eraser(x), z) < 1e-10
    assert least_squares(eraser(x), z) < 1e-6
    assert logistic(eraser(x), z) == pytest.approx(0.5, abs=0.01)
    torch.testing.assert_close(eraser(x), library(x, z, svd_tol=1e-12)(x), rtol=0, atol=1e-6)


def test_a_rare_group_beside_two_frequent_ones_is_not_skipped(planted: Planted) -> None:
    x, z = planted((0.6, 0.399, 0.001), n=6000)
    eraser = leace(moments_of(x, z))
    assert largest_gap(x, z) > 0.5
    assert eraser.rank == 2
    assert largest_gap(eraser(x), z) < 1e-10


def test_a_faint_trace_is_not_skipped(planted: Planted) -> None:
    """Means about 1e-5 deviations apart, far below the noise of sampling, are not taken for rounding."""
    x, z = planted()
    faint = x - moments_of(x, z).group_means[z] + 1e-5 * z[:, None]
    eraser = leace(moments_of(faint, z))
    assert largest_gap(faint, z) > 0.9e-5
    assert eraser.rank == 1
    assert largest_gap(eraser(faint), z) < 1e-10


def test_a_group_without_rows_is_none(planted: Planted) -> None:
    x, z = planted()
    gap = StreamingMoments(D, 3).update(x, 2 * z)
    torch.testing.assert_close(leace(gap)(x), leace(moments_of(x, z))(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("spread", [1e-4, 1e4])
def test_columns_of_very_different_scale_and_copies(
    planted: Planted, least_squares: Probe, spread: float
) -> None:
    """A singular, badly scaled Σxx: the pseudo-inverse keeps its support only."""
    x, z = planted()
    x = torch.cat([x * torch.logspace(0, np.log10(spread), D, dtype=torch.float64), x[:, :3]], dim=1)
    eraser = leace(moments_of(x, z))
    scale = x.std(0)
    assert largest_gap(x / scale, z) > 0.5
    assert largest_gap(eraser(x) / scale, z) < 1e-8
    assert least_squares(eraser(x) / scale, z) < 1e-6 < least_squares(x / scale, z)


def test_fewer_rows_than_dimensions(planted: Planted) -> None:
    x, z = planted(n=20, d=50)
    assert largest_gap(x, z) > 0.5
    assert largest_gap(leace(moments_of(x, z))(x), z) < 1e-9


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rows_count_at_their_exact_values(
    planted: Planted, least_squares: Probe, dtype: torch.dtype
) -> None:
    """concept-erasure 0.2.4 keeps its statistics in the input's dtype."""
    x, z = planted()
    low = x.to(dtype)
    from_low, from_exact = leace(moments_of(low, z)), leace(moments_of(low.double(), z))
    assert torch.equal(from_low.left, from_exact.left)
    assert torch.equal(from_low.right, from_exact.right)
    assert least_squares(from_low(low.double()), z) < 1e-6 < least_squares(low.double(), z)


def test_streaming_equals_batch_equals_merged(planted: Planted) -> None:
    x, z = planted((0.5, 0.3, 0.2))
    batch = LeaceFitter(D, 3).update(x, z)
    streamed, shards = LeaceFitter(D, 3), [LeaceFitter(D, 3), LeaceFitter(D, 3)]
    for place, (rows, index) in enumerate(zip(x.split(70), z.split(70), strict=True)):
        streamed.update(rows, index)
        shards[place % 2].update(rows, index)
    merged = shards[0].merge(shards[1])
    for fitter in (streamed, merged):
        torch.testing.assert_close(fitter.eraser(x), batch.eraser(x), rtol=0, atol=1e-10)
    assert batch.eraser.spec() == {
        "method": "leace",
        "dim": D,
        "rank": 2,
        "changes_images": True,
        "details": {"labelled": [300, 180, 120]},
    }


@pytest.mark.parametrize("z", [[-1, -1, -1], [1, 1, -1]])
def test_fewer_than_two_groups_are_refused(z: list[int]) -> None:
    fitter = LeaceFitter(4, 2).update(torch.eye(3, 4), torch.tensor(z))
    for fit in (lambda: fitter.eraser, lambda: expected_residual(fitter.moments)):
        with pytest.raises(ValueError, match=r"at least two groups, got \[0, [02]\] rows per group"):
            fit()


@pytest.mark.parametrize(("n", "distance"), [(60, 1.0), (120, 2.0), (400, 0.5), (800, 1.0)])
def test_expected_residual_is_what_fresh_rows_keep(n: int, distance: float) -> None:
    """Known Σ = I and δ: the share of δᵀΣ⁻¹δ that survives r, in the edited Σ's own metric, is d/(d + κ̂)."""
    rng = np.random.default_rng(0)
    d, kept, expected = 20, [], []
    gap = torch.zeros(d, dtype=torch.float64)
    gap[0] = distance
    for _ in range(40):
        z = torch.from_numpy(rng.integers(2, size=n))
        moments = moments_of(torch.from_numpy(rng.standard_normal((n, d))) + z[:, None] * gap, z)
        eraser = leace(moments)
        matrix = torch.eye(d, dtype=torch.float64) - eraser.left @ eraser.right.T
        residual = matrix @ gap
        metric = torch.linalg.pinv(matrix @ matrix.T, hermitian=True, rtol=1e-10)
        kept.append(float(residual @ metric @ residual) / distance**2)
        expected.append(expected_residual(moments))
    assert np.mean(expected) == pytest.approx(np.mean(kept), rel=0.2)
    assert 0 < np.mean(kept) < 0.75


def test_expected_residual_at_its_ends(planted: Planted) -> None:
    x, z = planted()
    assert expected_residual(moments_of(leace(moments_of(x, z))(x), z)) == 1
    separated = torch.cat([x, z[:, None].double()], dim=1)
    assert expected_residual(moments_of(separated, z)) == pytest.approx(0, abs=1e-9)
    assert expected_residual(moments_of(x[: D + 3], z[: D + 3])) is None
    three, groups = planted((0.5, 0.3, 0.2))
    assert expected_residual(moments_of(three, groups)) is None
