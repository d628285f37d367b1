from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from fairlearn.preprocessing import CorrelationRemover
from torch import Tensor

from debias import LeaceFitter, leace, random_direction
from debias.cells import joint_cells, marginals
from tests.debias.conftest import largest_gap, moments_of

Planted = Callable[..., tuple[Tensor, Tensor]]
D = 12


def two_attributes(planted: Planted) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, their cells and both attributes: one of half the rows, one of a twentieth, not independent."""
    x, cells = planted((0.48, 0.02, 0.47, 0.03), n=2000)
    return x, cells, torch.stack([cells // 2, cells % 2], dim=1)


def largest_correlation(x: Tensor, columns: Tensor) -> float:
    joint = np.corrcoef(np.hstack([x.numpy(), columns.numpy()]).T)
    return float(np.abs(joint[: x.shape[1], x.shape[1] :]).max())


def test_two_attributes_of_different_prevalence_side_by_side(planted: Planted) -> None:
    """Correlations with both go, as with fairlearn ≥ 0.15, which centres each of them by its own mean.

    Before 0.15 all were centred by the mean of all; the same regression with that scalar leaves some.
    """
    x, cells, z = two_attributes(planted)
    assert torch.equal(joint_cells(z, (2, 2)), cells)
    eraser = LeaceFitter(D, 4, design=marginals((2, 2))).update(x, cells).eraser
    theirs = CorrelationRemover(sensitive_feature_ids=[0, 1]).fit_transform(torch.cat([z, x], 1).numpy())
    one_scalar = z.double() - z.double().mean()
    wrong = x - one_scalar @ torch.linalg.lstsq(one_scalar, x).solution
    control = random_direction(D, rank=2, mean=x.mean(0), seed=0)
    for edited in (x, control(x), wrong):
        assert largest_correlation(edited, z) > 0.05
    for edited in (eraser(x), torch.from_numpy(theirs)):
        assert largest_correlation(edited, z) < 1e-8
    assert eraser.rank == 2


def test_joint_cells_lose_more_than_the_attributes_one_by_one(planted: Planted) -> None:
    x, cells, z = two_attributes(planted)
    marginal = LeaceFitter(D, 4, design=marginals((2, 2))).update(x, cells).eraser
    joint = LeaceFitter(D, 4).update(x, cells).eraser
    assert (marginal.rank, joint.rank) == (2, 3)
    assert largest_gap(marginal(x), cells) > 0.1
    for edited in (marginal(x), joint(x)):
        assert max(largest_gap(edited, column) for column in z.mT) < 1e-10
    assert largest_gap(joint(x), cells) < 1e-10


def test_a_design_of_numbers_and_its_scale(planted: Planted) -> None:
    """An age per group: its covariance goes; scale, sign and copies of a column change nothing."""
    x, z = planted((0.4, 0.3, 0.2, 0.1))
    age = torch.tensor([[18.0], [25.0], [40.0], [70.0]], dtype=torch.float64)
    eraser = leace(moments_of(x, z), design=age)
    assert eraser.rank == 1
    assert largest_correlation(x, age[z]) > 0.1
    assert largest_correlation(eraser(x), age[z]) < 1e-8
    same = leace(moments_of(x, z), design=torch.cat([-1e-6 * age, 1e6 * age + 1, torch.ones(4, 1)], dim=1))
    torch.testing.assert_close(same(x), eraser(x), rtol=0, atol=1e-8)
    whole = leace(moments_of(x, z), design=torch.eye(4))
    torch.testing.assert_close(whole(x), leace(moments_of(x, z))(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("design", "expected"),
    [
        (torch.eye(3), r"design has shape \(3, 3\), expected finite \(2, columns\)"),
        (torch.ones(2), r"design has shape \(2,\)"),
        (torch.tensor([[0.0], [torch.nan]]), "expected finite"),
        (torch.ones(2, 3), "no column that differs between groups"),
    ],
)
def test_a_design_that_does_not_fit_is_refused(planted: Planted, design: Tensor, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        leace(moments_of(*planted()), design=design)
