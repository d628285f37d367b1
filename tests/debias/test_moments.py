from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from debias import StreamingMoments

Planted = Callable[..., tuple[Tensor, Tensor]]
SHARES = (0.5, 0.3, 0.2)


def assert_same(a: StreamingMoments, b: StreamingMoments) -> None:
    for name in ("counts", "group_means", "mean", "covariance", "cross_covariance"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-12, atol=1e-12, msg=name)


def test_moments_are_numpys(planted: Planted) -> None:
    """Σxx = E[(x − μ)(x − μ)ᵀ] and Σxz = E[(x − μ)(z − E z)ᵀ] with the one-hot z."""
    x, z = planted(SHARES)
    moments = StreamingMoments(12, 3).update(x, z)
    one_hot = np.eye(3)[z.numpy()]
    joint = np.cov(np.hstack([x.numpy(), one_hot]).T, bias=True)
    assert moments.n == 600
    assert moments.counts.tolist() == [300, 180, 120]
    np.testing.assert_allclose(moments.mean, x.numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.group_means[1], x.numpy()[z.numpy() == 1].mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, joint[:12, :12], atol=1e-12)
    np.testing.assert_allclose(moments.cross_covariance, joint[:12, 12:], atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 7, 250])
def test_streaming_equals_batch_equals_merged(planted: Planted, chunk: int) -> None:
    x, z = planted(SHARES)
    batch = StreamingMoments(12, 3).update(x, z)
    streamed = StreamingMoments(12, 3)
    shards = [StreamingMoments(12, 3) for _ in range(3)]
    for place, (rows, index) in enumerate(zip(x.split(chunk), z.split(chunk), strict=True)):
        streamed.update(rows, index)
        shards[place % 2].update(rows, index)
    assert_same(streamed, batch)
    before = shards[1].covariance
    assert_same(shards[0].merge(shards[1]).merge(shards[2]), batch)
    assert torch.equal(shards[1].covariance, before)


def test_groups_that_arrive_one_after_the_other(planted: Planted) -> None:
    x, z = planted(SHARES)
    order = z.argsort()
    sorted_in = StreamingMoments(12, 3)
    for rows, index in zip(x[order].split(50), z[order].split(50), strict=True):
        sorted_in.update(rows, index)
    assert_same(sorted_in, StreamingMoments(12, 3).update(x, z))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_input_counts_at_its_exact_values(planted: Planted, dtype: torch.dtype) -> None:
    x, z = planted()
    low = x.to(dtype)
    from_low, from_exact = (StreamingMoments(12, 2).update(rows, z) for rows in (low, low.double()))
    assert from_low.covariance.dtype == torch.float64
    assert torch.equal(from_low.covariance, from_exact.covariance)
    assert not torch.equal(from_low.covariance, StreamingMoments(12, 2).update(x, z).covariance)


def test_numpy_equals_torch_and_read_only_arrays_are_fine(planted: Planted) -> None:
    x, z = planted()
    expected = StreamingMoments(12, 2).update(x.half(), z).covariance
    for dtype in (np.float16, np.float64):
        array, index = x.half().numpy().astype(dtype), z.numpy().astype(np.int32)
        array.flags.writeable = index.flags.writeable = False
        assert torch.equal(StreamingMoments(12, 2).update(array, index).covariance, expected)


def test_a_large_offset_costs_no_digits(planted: Planted) -> None:
    """Raw sums of squares would lose a unit variance under an offset of 2^30: 2^60 has an ulp of 256."""
    x, z = planted(SHARES)
    x = (x * 2**10).round() / 2**10  # so that adding the offset is exact
    near, far = (StreamingMoments(12, 3) for _ in range(2))
    for rows, index in zip(x.split(100), z.split(100), strict=True):
        near.update(rows, index)
        far.update(rows + 2.0**30, index)
    torch.testing.assert_close(far.covariance, near.covariance, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(far.cross_covariance, near.cross_covariance, rtol=1e-6, atol=1e-6)


def test_unlabelled_rows_enter_nothing(planted: Planted) -> None:
    x, z = planted()
    z = torch.where(torch.arange(len(z)) % 3 == 0, -1, z)
    moments = StreamingMoments(12, 2).update(x, z)
    assert moments.n == int((z >= 0).sum()) < len(z)
    assert_same(moments, StreamingMoments(12, 2).update(x[z >= 0], z[z >= 0]))
    assert_same(moments, StreamingMoments(12, 2).update(x[:0], z[:0]).merge(moments))


def test_a_weight_counts_a_row_as_that_many(planted: Planted) -> None:
    x, z = planted()
    times = torch.arange(len(x)) % 4
    weighted = StreamingMoments(12, 2).update(x, z, weights=times)
    repeated = StreamingMoments(12, 2).update(x.repeat_interleave(times, 0), z.repeat_interleave(times))
    assert weighted.n == int(times.sum())
    assert_same(weighted, repeated)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"x": torch.zeros(3, 5)}, r"x has shape \(3, 5\), expected \(n, 4\)"),
        ({"x": torch.zeros(())}, r"x has shape \(\), expected \(n, 4\)"),
        ({"z": torch.zeros(2, dtype=torch.long)}, r"z has shape \(2,\), expected \(3,\)"),
        ({"z": torch.zeros(3)}, "z has dtype torch.float32, expected integers"),
        ({"z": torch.zeros(3, dtype=torch.bool)}, "z has dtype torch.bool, expected integers"),
        ({"z": torch.tensor([0, 2, 1])}, "z has group 2, expected below 2"),
        ({"x": torch.full((3, 4), torch.nan)}, "must be finite"),
        ({"x": torch.full((3, 4), torch.inf).half(), "z": torch.full((3,), -1)}, "must be finite"),
        ({"weights": torch.ones(4)}, r"weights has shape \(4,\), expected \(3,\)"),
        ({"weights": -torch.ones(3)}, "must not be negative"),
        ({"weights": torch.full((3,), torch.inf)}, "must be finite"),
    ],
)
def test_bad_rows_are_refused_and_leave_no_trace(arguments: dict[str, Tensor], expected: str) -> None:
    moments = StreamingMoments(4, 2)
    with pytest.raises(ValueError, match=expected):
        moments.update(**{"x": torch.zeros(3, 4), "z": torch.tensor([0, 1, 1]), **arguments})
    assert moments.n == 0


def test_undefined_moments_and_misfits_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        StreamingMoments(0, 2)
    with pytest.raises(
        ValueError, match="cannot merge moments of dim 5 and 2 groups into dim 4 and 2 groups"
    ):
        StreamingMoments(4, 2).merge(StreamingMoments(5, 2))
    for name in ("mean", "covariance", "cross_covariance"):
        with pytest.raises(ValueError, match="no labelled row yet"):
            getattr(StreamingMoments(4, 2), name)
