"""LEACE where numbers are hard: against its authors' library, rare groups, scales, half precision."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from debias import StreamingMoments, leace, random_direction
from tests.debias.conftest import largest_gap, moments_of, one_hot

Planted = Callable[..., tuple[Tensor, Tensor]]
Probe = Callable[..., float]
D = 12


def library(x: Tensor, z: Tensor, *, svd_tol: float = 0.01) -> Any:
    """concept-erasure's statistics, without its shrinkage and trace constraint: the paper has neither."""
    with warnings.catch_warnings():
        # on its import, with torch 2.14
        warnings.filterwarnings("ignore", "`torch.jit.script`", FutureWarning)
        from concept_erasure import LeaceFitter as Theirs
    return Theirs.fit(x, z, shrinkage=False, constrain_cov_trace=False, svd_tol=svd_tol)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.5, 0.3, 0.2)])
def test_it_agrees_with_the_authors_library(planted: Planted, shares: tuple[float, ...]) -> None:
    """The same x − W⁺ P W (x − μ), where the library's absolute tolerance cuts nothing."""
    x, z = planted(shares)
    torch.testing.assert_close(
        leace(moments_of(x, z))(x), library(x, one_hot(z)).eraser(x), rtol=0, atol=1e-6
    )


def test_integer_labels_of_three_groups_are_not_one_ordinal_column(planted: Planted) -> None:
    """concept-erasure 0.2.4 regresses on 0, 1, 2 as a number: one direction goes, the means stay apart."""
    x, z = planted((0.5, 0.3, 0.2))
    eraser, ordinal = leace(moments_of(x, z)), library(x, z).eraser
    assert eraser.rank == 2
    assert largest_gap(ordinal(x), z) > 0.5
    assert largest_gap(eraser(x), z) < 1e-10


@pytest.mark.parametrize("share", [0.01, 0.001])
def test_a_rare_group_is_not_skipped(
    planted: Planted, least_squares: Probe, logistic: Probe, share: float
) -> None:
    """concept-erasure 0.2.4 drops singular values of W Σxz below 0.01; they are p(1 − p) · a distance."""
    x, z = planted((1 - share, share), n=6000, shift=0.5)
    eraser = leace(moments_of(x, z))
    skipped = library(x, z).eraser
    control = random_direction(D, rank=1, mean=eraser.mean, seed=0)
    for edited in (x, skipped(x), control(x)):
        assert largest_gap(edited, z) > 0.5
        assert logistic(edited, z) > 0.6
    assert eraser.rank == 1
    assert largest_gap(eraser(x), z) < 1e-10
    assert least_squares(eraser(x), z) < 1e-6
    assert logistic(eraser(x), z) == pytest.approx(0.5, abs=0.01)
    torch.testing.assert_close(eraser(x), library(x, z, svd_tol=1e-12).eraser(x), rtol=0, atol=1e-6)


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
    x, z = planted()
    low = x.to(dtype)
    from_low, from_exact = leace(moments_of(low, z)), leace(moments_of(low.double(), z))
    assert torch.equal(from_low.left, from_exact.left)
    assert torch.equal(from_low.right, from_exact.right)
    assert least_squares(from_low(low.double()), z) < 1e-6 < least_squares(low.double(), z)


@pytest.mark.parametrize(("dtype", "wrong_by"), [(torch.float16, torch.inf), (torch.bfloat16, 0.01)])
def test_statistics_do_not_take_the_dtype_of_the_rows(
    planted: Planted, dtype: torch.dtype, wrong_by: float
) -> None:
    """concept-erasure 0.2.4 keeps them in it: squares overflow in float16 and drop digits in bfloat16."""
    x, z = planted()
    low = (30 * x).to(dtype)
    exact = torch.cov(low.double().T, correction=0)

    def error(covariance: Tensor) -> float:
        return float(((covariance.double() - exact).abs().max() / exact.abs().max()).nan_to_num(torch.inf))

    assert error(library(low, one_hot(z).to(dtype)).sigma_xx_ / len(x)) >= wrong_by
    assert error(moments_of(low, z).covariance) < 1e-12
