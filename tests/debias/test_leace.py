from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from debias import LeaceFitter, expected_residual, leace, random_direction
from tests.debias.conftest import largest_gap, moments_of, one_hot

Planted = Callable[..., tuple[Tensor, Tensor]]
Probe = Callable[..., float]
D = 12
seeds = st.integers(0, 10**6)
few = settings(derandomize=True, deadline=None, max_examples=40)


def drawn(seed: int, groups: int, *, n: int = 150, d: int = 6) -> tuple[Tensor, Tensor]:
    """Rows of groups with any shares, a mean each, correlated noise and an offset."""
    rng = np.random.default_rng(seed)
    z = np.concatenate(
        [np.arange(groups), rng.choice(groups, size=n - groups, p=rng.dirichlet([2] * groups))]
    )
    noise = rng.standard_normal((n, d)) @ (np.eye(d) + 0.5 * rng.standard_normal((d, d)))
    x = 10 * rng.standard_normal(d) + noise + rng.standard_normal((groups, d))[z]
    return torch.from_numpy(x), torch.from_numpy(z)


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


@few
@given(seeds, st.integers(2, 5))
def test_means_are_equal_and_the_map_is_an_idempotent_of_low_rank(seed: int, groups: int) -> None:
    """Cov(r(x), z) = 0; r(r(x)) = r(x), on rows it has never seen too; r(μ) = μ; rank ≤ groups − 1."""
    x, z = drawn(seed, groups)
    eraser = leace(moments_of(x, z))
    fresh = x.mean(0) + torch.from_numpy(np.random.default_rng(seed).standard_normal((50, 6)))
    once = eraser(fresh)
    assert largest_gap(x, z) > 0.1
    assert largest_gap(eraser(x), z) < 1e-8
    assert 1 <= eraser.rank <= groups - 1
    assert not eraser.invertible
    assert (once - fresh).abs().max() > 1e-3
    torch.testing.assert_close(eraser(once), once, rtol=0, atol=1e-8)
    torch.testing.assert_close(eraser(x).mean(0), x.mean(0), rtol=0, atol=1e-8)
    assert leace(moments_of(eraser(x), z)).rank == 0


@few
@given(seeds, st.integers(2, 4))
def test_no_linear_probe_has_a_coefficient(seed: int, groups: int) -> None:
    """The unpenalised regression of the one-hot group: zero after the edit, not after a random one."""
    x, z = drawn(seed, groups)

    def probe(rows: Tensor) -> float:
        centred = rows - rows.mean(0)
        return float(torch.linalg.lstsq(centred, one_hot(z) - one_hot(z).mean(0)).solution.abs().max())

    eraser = leace(moments_of(x, z))
    pseudo_inverse = torch.linalg.pinv(eraser(x) - x.mean(0), rtol=1e-9)
    control = random_direction(6, rank=1, mean=x.mean(0), seed=seed)
    assert probe(x) > 1e-3
    assert float((torch.linalg.pinv(control(x) - x.mean(0), rtol=1e-9) @ one_hot(z)).abs().max()) > 1e-3
    assert float((pseudo_inverse @ one_hot(z)).abs().max()) < 1e-6


def competitors(c: Tensor, best: Tensor, rng: np.random.Generator) -> Iterator[Tensor]:
    """Matrices A with A c = 0: projections of several kinds, and maps that are no projection."""
    d = len(c)

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(rng.standard_normal(shape))

    orthogonal = torch.eye(d, dtype=torch.float64) - c @ torch.linalg.pinv(c)
    yield orthogonal
    for _ in range(5):
        metric = normal(d, d)
        metric = metric @ metric.T
        yield torch.eye(d, dtype=torch.float64) - c @ torch.linalg.solve(c.T @ metric @ c, c.T @ metric)
        wider = torch.cat([c, normal(d, 1)], dim=1)
        yield torch.eye(d, dtype=torch.float64) - wider @ torch.linalg.pinv(wider)
        yield (torch.eye(d, dtype=torch.float64) + 0.1 * normal(d, d)) @ orthogonal
        yield best + float(rng.choice([1e-3, 1e-2, 0.1, 1])) * normal(d, d) @ orthogonal


@few
@given(seeds, st.integers(2, 4))
def test_no_competitor_moves_rows_less(seed: int, groups: int) -> None:
    """Least squares: nearest in mean square among affine maps with Cov(r(x), z) = 0, shifted or not."""
    x, z = drawn(seed, groups)
    moments = moments_of(x, z)
    eraser, centred = leace(moments), x - moments.mean
    cost = float((eraser(x) - x).square().sum())
    directions = torch.linalg.svd(moments.cross_covariance, full_matrices=False).U[:, : groups - 1]
    best = torch.eye(6, dtype=torch.float64) - eraser.left @ eraser.right.T
    rng = np.random.default_rng(seed)
    for matrix in competitors(directions, best, rng):
        assert float((matrix @ moments.cross_covariance).abs().max()) < 1e-6
        for shift in (0.0, 0.1 * torch.from_numpy(rng.standard_normal(6))):
            assert float((centred @ matrix.T + shift - centred).square().sum()) >= cost * (1 - 1e-9)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_strength_is_the_share_of_the_gap_that_goes(planted: Planted, strength: float) -> None:
    x, z = planted()
    eraser = leace(moments_of(x, z)).at_strength(strength)
    assert largest_gap(eraser(x), z) == pytest.approx((1 - strength) * largest_gap(x, z), abs=1e-9)
    assert eraser.invertible == (strength < 1)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.data())
def test_streaming_equals_batch_equals_merged_in_any_order(data: st.DataObject) -> None:
    x, z = drawn(data.draw(seeds), 3)
    cuts = sorted(data.draw(st.lists(st.integers(1, 149), min_size=1, max_size=5)))
    order = torch.tensor(data.draw(st.permutations(range(150))))
    parts = [(x[rows], z[rows]) for rows in order.tensor_split(cuts)]
    streamed, merged = LeaceFitter(6, 3), LeaceFitter(6, 3)
    for rows, index in parts:
        streamed.update(rows, index)
    for rows, index in data.draw(st.permutations(parts)):
        merged.merge(LeaceFitter(6, 3).update(rows.numpy(), index.numpy()))
    batch = LeaceFitter(6, 3).update(x, z)
    for fitter in (streamed, merged):
        torch.testing.assert_close(fitter.eraser(x), batch.eraser(x), rtol=0, atol=1e-8)
        assert fitter.eraser.spec() == batch.eraser.spec()


def test_the_spec_says_what_was_fitted(planted: Planted) -> None:
    x, z = planted((0.5, 0.3, 0.2))
    expected = {
        "kind": "affine",
        "method": "leace",
        "dim": D,
        "rank": 2,
        "changes_images": True,
        "details": {"labelled": [300, 180, 120], "strength": 1.0},
    }
    assert LeaceFitter(D, 3).update(x, z).eraser.spec() == expected
    design = torch.tensor([[0.0], [1.0], [1.0]])
    coarse = LeaceFitter(D, 3, design=design).update(x, z).eraser
    details = {"labelled": [300, 180, 120], "design": [[0], [1], [1]], "strength": 1.0}
    assert coarse.spec() == expected | {"rank": 1, "details": details}


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
