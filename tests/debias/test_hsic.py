from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import Tensor

from debias.eraser import Eraser
from debias.methods.hsic import HsicFitter, hsic_test
from debias.methods.leace import leace
from debias.methods.random_direction import random_direction

D, N = 24, 6000
Edit = Callable[[Tensor], Tensor]


def rotated(latent: np.ndarray, rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(latent @ np.linalg.qr(rng.standard_normal((D, D))).Q)


def xor(n: int = N, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, group = sign(x₁) · sign(x₂) and a noisy task in x₃, all rotated."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, D))
    z = latent[:, 0] * latent[:, 1] > 0
    task = latent[:, 2] + 0.3 * rng.standard_normal(n) > 0
    return rotated(latent, rng), torch.from_numpy(z).long(), torch.from_numpy(task).long()


def ring(n: int = 4000) -> tuple[Tensor, Tensor]:
    """Three groups around the same mean, each at its own distance in a plane."""
    rng = np.random.default_rng(0)
    z, angle = rng.integers(0, 3, n), rng.uniform(0, 2 * np.pi, n)
    latent = rng.standard_normal((n, D))
    latent[:, :2] = (0.5 + z)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.2 * latent[:, :2]
    return rotated(latent, rng), torch.from_numpy(z)


def attack(model: object, x: Tensor, z: Tensor) -> float:
    """Balanced accuracy on the second half of what the attacker learnt on the first."""
    half = len(x) // 2
    attacker = make_pipeline(StandardScaler(), model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        attacker.fit(x[:half].numpy(), z[:half].numpy())
    return float(balanced_accuracy_score(z[half:].numpy(), attacker.predict(x[half:].numpy())))


def linear(x: Tensor, z: Tensor) -> float:
    return attack(LogisticRegression(class_weight="balanced"), x, z)


def rbf(x: Tensor, z: Tensor) -> float:
    return attack(SVC(C=3, class_weight="balanced"), x, z)


def mlp(x: Tensor, z: Tensor) -> float:
    return attack(MLPClassifier((64,), alpha=0.01, max_iter=40, random_state=0), x, z)


@pytest.fixture(scope="module")
def fitted() -> HsicFitter:
    x, z, _ = xor()
    return HsicFitter(D, 2, steps=100).update(x[: N // 2], z[: N // 2])


@pytest.fixture(scope="module")
def eraser(fitted: HsicFitter) -> Eraser:
    return fitted.eraser


def test_planted_xor_leak(fitted: HsicFitter, eraser: Eraser) -> None:
    """On rows it has not seen: RBF and MLP attackers fall to near chance, the task in x₃ stays readable."""
    x, z, task = (column[N // 2 :] for column in xor())
    control = random_direction(D, rank=eraser.rank, mean=eraser.mean, seed=0)
    keeps: list[Edit] = [lambda rows: rows, leace(fitted.rows.moments), control]
    for keep, kernel_finds, mlp_finds in zip(keeps, (0.7, 0.7, 0.56), (0.75, 0.75, 0.6), strict=True):
        assert linear(keep(x), z) < 0.53
        assert rbf(keep(x), z) > kernel_finds
        assert mlp(keep(x), z) > mlp_finds
    for attacker in (linear, rbf, mlp):
        assert attacker(eraser(x), z) < 0.53
    assert linear(eraser(x), task) == pytest.approx(linear(x, task), abs=0.02)
    assert linear(x, task) > 0.85


def test_three_groups_on_a_ring() -> None:
    x, z = ring()
    eraser = HsicFitter(D, 3, steps=40).update(x[::2], z[::2]).eraser
    fresh, z = x[1::2], z[1::2]
    control = random_direction(D, rank=eraser.rank, mean=eraser.mean, seed=0)
    assert linear(fresh, z) < 1 / 3 + 0.04
    for attacker in (rbf, mlp):
        assert attacker(fresh, z) > 0.6
        assert attacker(control(fresh), z) > 0.55
        assert attacker(eraser(fresh), z) < 1 / 3 + 0.05


def test_a_rare_group_counts_as_much_as_a_frequent_one() -> None:
    """3% of rows, told by their spread along one direction alone."""
    rng = np.random.default_rng(0)
    z = rng.permutation(np.repeat([0, 1], [3880, 120]))
    latent = rng.standard_normal((4000, D))
    latent[:, 0] *= 1 + 9 * z
    x, z = rotated(latent, rng), torch.from_numpy(z)
    eraser = HsicFitter(D, 2, steps=40).update(x[::2], z[::2]).eraser
    fresh, z = x[1::2], z[1::2]
    control = random_direction(D, rank=eraser.rank, mean=eraser.mean, seed=0)
    assert rbf(fresh, z) > 0.65
    assert rbf(control(fresh), z) > 0.6
    assert rbf(eraser(fresh), z) < 0.56


def test_details_and_the_saved_file(eraser: Eraser, tmp_path: Path) -> None:
    x, z, _ = xor()
    details = eraser.details
    assert (eraser.method, eraser.changes_images, eraser.invertible) == ("hsic", True, False)
    assert details["labelled"] == torch.bincount(z[: N // 2]).tolist()
    assert details["rank"] == eraser.rank - 1 == sum(each["directions"] for each in details["searches"])
    assert details["options"] == {"rank": 8, "steps": 100, "seed": 0, "limit": 20_000}
    first, last = details["searches"][0], details["searches"][-1]
    assert first["hsic"] > 10 * first["hsic_permuted"]
    assert last["hsic"] <= last["hsic_permuted"]
    assert details["hsic_after"] < details["hsic_permuted"] < details["hsic_before"]
    eraser.save(tmp_path)
    assert torch.equal(Eraser.load(tmp_path)(x), eraser(x))


def test_group_means_stay_equal(fitted: HsicFitter, eraser: Eraser) -> None:
    """What LEACE did on the fitted rows is not undone by what follows, and the mean stays."""
    x, z, _ = (column[: N // 2] for column in xor())
    gap = lambda rows: float((rows[z == 0].mean(0) - rows[z == 1].mean(0)).norm())  # noqa: E731
    assert gap(x) > 0.05
    assert gap(eraser(x)) < 1e-10
    torch.testing.assert_close(eraser(x).mean(0), x.mean(0), rtol=0, atol=1e-10)
    torch.testing.assert_close(eraser(eraser(x)), eraser(x), rtol=0, atol=1e-8)


def test_it_removes_nothing_beyond_leace_where_there_is_nothing() -> None:
    x, unrelated = xor(1000)[0], torch.arange(1000) % 2
    eraser = HsicFitter(D, 2, steps=10).update(x, unrelated).eraser
    assert (eraser.details["rank"], eraser.rank) == (0, 1)
    assert len(eraser.details["searches"]) == 1


def test_shards_in_any_order_give_the_same_eraser_and_the_seed_decides() -> None:
    x, z, _ = xor(800)
    once, other = (HsicFitter(D, 2, rank=2, steps=10, seed=seed).update(x, z).eraser for seed in (0, 1))
    shards = [HsicFitter(D, 2, rank=2, steps=10).update(x[part::2], z[part::2]) for part in (0, 1)]
    merged = shards[1].merge(shards[0]).eraser
    torch.testing.assert_close(merged(x), once(x), rtol=0, atol=1e-6)
    assert (other(x) - once(x)).abs().max() > 1e-3


def test_strength_rank_and_misfits() -> None:
    x, z, _ = xor(800)
    full, half = (HsicFitter(D, 2, rank=1, steps=2, strength=s).update(x, z).eraser for s in (1.0, 0.5))
    assert full.details["rank"] <= 1
    torch.testing.assert_close(half(x), (x + full(x)) / 2, rtol=0, atol=1e-10)
    assert half.invertible
    for options in ({"rank": 0}, {"steps": 0}):
        with pytest.raises(ValueError, match="rank and steps must be at least 1"):
            HsicFitter(D, 2, **options)
    with pytest.raises(ValueError, match="at least two groups"):
        _ = HsicFitter(D, 2).update(x, torch.zeros_like(z)).eraser


def test_hsic_is_its_definition() -> None:
    """Mean kernel within groups, between groups and overall, groups counted alike, no row with itself."""
    rows = torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = torch.tensor([0, 0, 1, 1, 1, 1, 2, 2, 2])
    squares = torch.cdist(rows, rows).square()
    kernel = torch.exp(-squares / squares.median())
    means = [
        [
            np.mean([kernel[i, j] for i in range(9) for j in range(9) if i != j and (z[i], z[j]) == (a, b)])
            for a in range(3)
        ]
        for b in range(3)
    ]
    value, _ = hsic_test(rows, z, torch.Generator())
    assert value == pytest.approx((np.trace(means) / 3 - np.mean(means)) / 3, abs=1e-12)


def test_hsic_sees_a_group_of_two_rows_among_thousands() -> None:
    rows = torch.randn(3002, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = (torch.arange(3002) >= 3000).long()
    value, permuted = hsic_test(rows + 3 * z[:, None], z, torch.Generator().manual_seed(0))
    assert value > permuted > 0


def test_hsic_exceeds_its_permuted_value_as_often_as_it_says() -> None:
    """Independent groups: 5% of the time, and 0 on average; dependent ones: every time."""
    generator = torch.Generator().manual_seed(0)
    results = []
    for _ in range(200):
        rows = torch.randn(60, 2, dtype=torch.float64, generator=generator)
        results.append(hsic_test(rows, torch.randint(2, (60,), generator=generator), generator))
    values, permuted = torch.tensor(results).unbind(1)
    assert 0.01 <= (values > permuted).double().mean() <= 0.1
    assert abs(values.mean()) < 3 * values.std() / 200**0.5
    value, limit = hsic_test(rows, (rows[:, 0] > 0).long(), generator)
    assert value > 3 * limit


@settings(derandomize=True, deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_hsic_does_not_change_with_rotation_scale_and_shift(seed: int, scale: float, shift: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(41, 4, dtype=torch.float64, generator=generator)
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=generator)).Q
    z = torch.arange(41) % 3
    moved = shift + scale * rows @ turn
    same = [hsic_test(each, z, torch.Generator().manual_seed(0)) for each in (rows, moved)]
    assert same[1] == pytest.approx(same[0], abs=1e-9)
    assert abs(hsic_test(rows**3, z, torch.Generator().manual_seed(0))[0] - same[0][0]) > 1e-6
