from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from debias import Eraser, LeaceFitter, random_direction
from debias.methods.splince import SplinceFitter

Probe = Callable[..., float]
D, N = 10, 800
Rows = tuple[Tensor, Tensor, Tensor]


def make_rows(*, groups: int = 2, tasks: int = 2, agreement: float = 0.8, seed: int = 0) -> Rows:
    """Task labels follow the group in a share ``agreement`` of rows; each label shifts x its own way."""
    rng = np.random.default_rng(seed)
    z = rng.integers(groups, size=N)
    y = np.where(rng.random(N) < agreement, z % tasks, rng.integers(tasks, size=N))
    directions = np.linalg.qr(rng.standard_normal((D, groups + tasks))).Q.T
    mixing = rng.standard_normal((D, D)) / D**0.5 + np.eye(D)
    x = 3 + (rng.standard_normal((N, D)) + 2 * directions[z] + 2 * directions[groups + y]) @ mixing
    return torch.from_numpy(x), torch.from_numpy(z), torch.from_numpy(y)


def covariance(x: Tensor, labels: Tensor) -> Tensor:
    one_hot = torch.nn.functional.one_hot(labels).double()
    return (x - x.mean(0)).mT @ (one_hot - one_hot.mean(0)) / len(x)


def matrix(eraser: Eraser) -> Tensor:
    return torch.eye(eraser.dim, dtype=torch.float64) - eraser.left @ eraser.right.mT


@settings(derandomize=True, deadline=None, max_examples=12)
@given(
    groups=st.integers(2, 3), tasks=st.integers(2, 4), agreement=st.floats(0, 0.9), seed=st.integers(0, 99)
)
def test_it_removes_the_groups_covariance_and_keeps_the_tasks(
    groups: int, tasks: int, agreement: float, seed: int
) -> None:
    """Cov(x', z) = 0 and Cov(x', y) = Cov(x, y), where LEACE changes Cov(x, y); it costs more than LEACE."""
    x, z, y = make_rows(groups=groups, tasks=tasks, agreement=agreement, seed=seed)
    edited = SplinceFitter(D, groups, tasks=tasks).update(x, z, y).eraser(x)
    leace = LeaceFitter(D, groups).update(x, z).eraser(x)
    assert covariance(x, z).abs().max() > 0.05
    assert covariance(edited, z).abs().max() < 1e-8
    torch.testing.assert_close(covariance(edited, y), covariance(x, y), rtol=0, atol=1e-8)
    assert (covariance(leace, y) - covariance(x, y)).abs().max() > 1e-4
    assert (edited - x).square().mean() > (leace - x).square().mean()


@given(seed=st.integers(0, 99))
@settings(derandomize=True, deadline=None, max_examples=12)
def test_no_other_map_that_does_both_moves_x_less(seed: int) -> None:
    """Competitors P + N with N zero on both covariances keep the two properties and cost more."""
    x, z, y = make_rows(groups=3, tasks=3)
    eraser = SplinceFitter(D, 3, tasks=3).update(x, z, y).eraser
    centred, spans = x - x.mean(0), torch.cat([covariance(x, z), covariance(x, y)], dim=1)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(D, D, generator=generator, dtype=torch.float64)
    noise = 0.01 * (noise - noise @ spans @ torch.linalg.pinv(spans, rtol=1e-10))
    assert (noise @ spans).abs().max() < 1e-10 < noise.abs().max()

    def distortion(edit: Tensor) -> float:
        return float((centred @ edit.mT - centred).square().mean())

    assert distortion(matrix(eraser)) < distortion(matrix(eraser) + noise)


def test_probes_lose_the_group_and_keep_the_task(least_squares: Probe, logistic: Probe) -> None:
    x, z, y = make_rows()
    eraser = SplinceFitter(D, 2, tasks=2).update(x, z, y).eraser
    control = random_direction(D, rank=eraser.rank, mean=eraser.mean, seed=0)
    for edited in (x, control(x)):
        assert least_squares(edited, z) > 0.05
        assert logistic(edited, z) > 0.8
    assert least_squares(eraser(x), z) < 1e-6
    assert logistic(eraser(x), z) == pytest.approx(0.5, abs=0.01)
    leace = LeaceFitter(D, 2).update(x, z).eraser
    assert logistic(x, y) > 0.8
    assert logistic(eraser(x), y) >= logistic(leace(x), y)


def test_it_is_a_projection_of_the_smallest_rank_that_keeps_the_mean() -> None:
    x, z, y = make_rows(groups=3, tasks=3)
    eraser = SplinceFitter(D, 3, tasks=3).update(x, z, y).eraser
    torch.testing.assert_close(eraser(eraser(x)), eraser(x), rtol=0, atol=1e-9)
    torch.testing.assert_close(eraser(x).mean(0), x.mean(0), rtol=0, atol=1e-9)
    assert eraser.rank == 2
    assert eraser.details["labelled"] == z.bincount().tolist()
    assert eraser.details["tasks"] == y.bincount().tolist()
    assert 0 < eraser.details["overlap"] < 1


def test_it_is_leace_where_the_spans_are_at_right_angles() -> None:
    """A balanced design with uncorrelated noise: keeping the task then costs nothing."""
    z, y = torch.tensor([0, 0, 1, 1]).repeat(N // 4), torch.tensor([0, 1, 0, 1]).repeat(N // 4)
    noise, _ = torch.linalg.qr(torch.randn(N // 4, D, generator=torch.Generator().manual_seed(0)).double())
    x = (noise - noise.mean(0)).repeat_interleave(4, 0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(x.mT @ x / N).mT)
    x[:, 0] += z
    x[:, 1] += y
    eraser = SplinceFitter(D, 2, tasks=2).update(x, z, y).eraser
    assert eraser.details["overlap"] < 1e-9
    torch.testing.assert_close(eraser(x), LeaceFitter(D, 2).update(x, z).eraser(x), rtol=0, atol=1e-9)


def test_a_task_inside_the_attribute_is_refused() -> None:
    x, z, _ = make_rows(groups=3)
    for task in (z, (z > 0).long()):
        with pytest.raises(ValueError, match="lies in the attribute's"):
            _ = SplinceFitter(D, 3, tasks=3).update(x, z, task).eraser
    many = torch.arange(N) % 12
    with pytest.raises(ValueError, match="lies in the attribute's"):
        _ = SplinceFitter(D, 3, tasks=12).update(x, z, many).eraser


def test_a_singular_and_badly_scaled_covariance() -> None:
    """Copies of columns, scales from 1 to 10⁴."""
    x, z, y = make_rows(tasks=3)
    x = torch.cat([x * torch.logspace(0, 4, D, dtype=torch.float64), x[:, :3]], dim=1)
    edited, scale = SplinceFitter(D + 3, 2, tasks=3).update(x, z, y).eraser(x) / x.std(0), x.std(0)
    assert covariance(x / scale, z).abs().max() > 0.05
    assert covariance(edited, z).abs().max() < 1e-8
    torch.testing.assert_close(covariance(edited, y), covariance(x / scale, y), rtol=0, atol=1e-8)


def test_only_rows_with_both_labels_enter_in_any_chunks() -> None:
    x, z, y = make_rows(groups=3, tasks=3)
    z, y = z.masked_fill(torch.arange(N) % 5 == 0, -1), y.masked_fill(torch.arange(N) % 7 == 0, -1)
    both = (z >= 0) & (y >= 0)
    batch = SplinceFitter(D, 3, tasks=3).update(x[both], z[both], y[both]).eraser
    shards = [SplinceFitter(D, 3, tasks=3), SplinceFitter(D, 3, tasks=3)]
    for place, (rows, groups, tasks) in enumerate(zip(x.split(90), z.split(90), y.split(90), strict=True)):
        shards[place % 2].update(rows.numpy(), groups.numpy(), tasks.numpy())
    eraser = shards[0].merge(shards[1]).eraser
    torch.testing.assert_close(eraser(x), batch(x), rtol=0, atol=1e-9)
    assert eraser.details["labelled"] == z[both].bincount().tolist()


def test_strength_scales_what_is_left() -> None:
    x, z, y = make_rows()
    edited = SplinceFitter(D, 2, tasks=2, strength=0.75).update(x, z, y).eraser(x)
    torch.testing.assert_close(covariance(edited, z), 0.25 * covariance(x, z), rtol=0, atol=1e-9)
    torch.testing.assert_close(covariance(edited, y), covariance(x, y), rtol=0, atol=1e-9)


def test_misfits_are_refused_and_leave_no_trace() -> None:
    fitter = SplinceFitter(4, 2, tasks=3)
    rows, ones = torch.zeros(3, 4), torch.tensor([0, 1, 1])
    with pytest.raises(ValueError, match=r"y, which is checked like z: z has shape \(2,\), expected \(3,\)"):
        fitter.update(rows, ones, ones[:2])
    with pytest.raises(ValueError, match="y, which is checked like z: z has group 3, expected below 3"):
        fitter.update(rows, ones, torch.tensor([0, 1, 3]))
    other = SplinceFitter(4, 2, tasks=2).update(rows, ones, ones)
    with pytest.raises(ValueError, match=r"cannot merge \(dim, groups, tasks\) \(4, 2, 2\) into \(4, 2, 3\)"):
        fitter.merge(other)
    assert fitter.moments.n == fitter.task_moments.n == 0
    with pytest.raises(ValueError, match=r"at least two groups, got \[0, 0\]"):
        _ = fitter.eraser
    fitter.update(torch.eye(3, 4), ones, torch.tensor([1, 1, 1]))
    with pytest.raises(ValueError, match=r"at least two tasks, got \[0, 3, 0\]"):
        _ = fitter.eraser
