from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from debias import StreamingMoments
from debias import moments as module
from debias.cells import joint_cells, marginals
from tests.clip_lite.two_ranks import two_ranks

Planted = Callable[..., tuple[Tensor, Tensor]]
SHARES = (0.5, 0.3, 0.2)


def rows_of(seed: int, *, n: int = 60, dim: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, groups (a third unlabelled) and weights."""
    rng = np.random.default_rng(seed)
    x, z, weights = 3 + rng.standard_normal((n, dim)), rng.integers(-1, 2, size=n), rng.uniform(0, 2, size=n)
    return torch.from_numpy(x), torch.from_numpy(z), torch.from_numpy(weights)


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


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.data(), st.booleans())
def test_streaming_equals_batch_equals_merged_in_any_order(data: st.DataObject, weighted: bool) -> None:
    x, z, weights = rows_of(data.draw(st.integers(0, 1000)))

    def summed(rows: Tensor) -> StreamingMoments:
        own = weights[rows] if weighted else None
        return StreamingMoments(4, 2).update(x[rows], z[rows], weights=own)

    batch = summed(torch.arange(60))
    order = torch.tensor(data.draw(st.permutations(range(60))))
    cuts = sorted(data.draw(st.lists(st.integers(0, 60), max_size=6)))
    parts = list(order.tensor_split(cuts))
    streamed, merged = StreamingMoments(4, 2), StreamingMoments(4, 2)
    for rows in parts:
        streamed.update(x[rows], z[rows], weights=weights[rows] if weighted else None)
    for part in data.draw(st.permutations([summed(rows) for rows in parts])):
        before = part.state_dict()
        merged.merge(part)
        assert all(torch.equal(before[name], tensor) for name, tensor in part.state_dict().items())
    assert_same(streamed, batch)
    assert_same(merged, batch)


def test_a_chunk_longer_than_a_block_is_taken_in_pieces(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, z = planted(SHARES)
    whole = StreamingMoments(12, 3).update(x, z)
    monkeypatch.setattr(module, "BLOCK", 12 * 70)
    assert_same(StreamingMoments(12, 3).update(x[:50], z[:50]).update(x[50:], z[50:]), whole)
    monkeypatch.setattr(module, "BLOCK", 1)
    assert_same(StreamingMoments(12, 3).update(x, z, weights=torch.ones(600)), whole)


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


@pytest.mark.parametrize("chunk", [600, 50])
def test_a_mean_a_million_deviations_away(planted: Planted, chunk: int) -> None:
    """Against numpy's two passes; and where groups are as far apart as that and come one by one."""
    x, z = planted(SHARES)
    apart = x + 1e6 * z[:, None]
    order = z.argsort(stable=True)
    for rows, index in ((x + 1e6, z), (apart[order], z[order])):
        moments = StreamingMoments(12, 3)
        for part, own in zip(rows.split(chunk), index.split(chunk), strict=True):
            moments.update(part, own)
        expected = np.cov(rows.numpy().T, bias=True)
        np.testing.assert_allclose(moments.covariance, expected, rtol=1e-6)
        np.testing.assert_allclose(moments.mean, rows.numpy().mean(0), rtol=1e-12)


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


def test_saved_moments_go_on(planted: Planted) -> None:
    x, z = planted(SHARES)
    half = StreamingMoments(12, 3).update(x[:300], z[:300])
    saved = half.state_dict()
    half.update(x[300:], z[300:])
    assert_same(StreamingMoments.from_state(saved).update(x[300:], z[300:]), half)
    assert not torch.equal(saved["scatter"], half.state_dict()["scatter"])
    for broken in ({}, saved | {"means": saved["means"][:2]}, saved | {"scatter": saved["scatter"][:5]}):
        with pytest.raises(ValueError, match=r"expected counts \(g,\), means \(g, d\), scatter \(d, d\)"):
            StreamingMoments.from_state(broken)


def test_all_processes_end_up_with_what_merging_gives(tmp_path: Path) -> None:
    """Bit for bit, on both of two real processes; the second of them saw no row of group 1."""
    found = two_ranks("tests.debias.test_moments", tmp_path)
    expected = StreamingMoments(4, 2).merge(moments_of_rank(0)).merge(moments_of_rank(1)).state_dict()
    assert expected["counts"].tolist() != moments_of_rank(0).counts.tolist()
    for state in found:
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


def test_one_process_keeps_what_it_has() -> None:
    moments, x = moments_of_rank(0), rows_of(0)
    assert not dist.is_initialized()
    assert moments.all_reduce() is moments
    assert_same(moments, StreamingMoments(4, 2).update(*x[:2], weights=x[2]))


def moments_of_rank(rank: int) -> StreamingMoments:
    x, z, weights = rows_of(rank)
    return StreamingMoments(4, 2).update(x, z.clamp(max=1 - rank), weights=weights)


def test_cells_of_two_attributes() -> None:
    """Cell (a, b) is a · groups of b + b; any unknown makes it unknown; marginals give both one-hots back."""
    a, b = torch.tensor([0, 0, 1, 1, -1, 1, -1]), torch.tensor([0, 2, 0, 2, 1, -1, -1])
    cells = joint_cells(torch.stack([a, b], dim=1), (2, 3))
    assert cells.tolist() == [0, 2, 3, 5, -1, -1, -1]
    design = marginals((2, 3))[cells[:4]]
    assert torch.equal(design[:, :2], torch.eye(2, dtype=torch.float64)[a[:4]])
    assert torch.equal(design[:, 2:], torch.eye(3, dtype=torch.float64)[b[:4]])
    assert torch.equal(joint_cells(a[:, None].numpy(), (2,)), a)
    assert torch.equal(marginals((3,)), torch.eye(3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("z", "expected"),
    [
        (torch.zeros(3, 1, dtype=torch.long), r"z has shape \(3, 1\), expected \(n, 2\)"),
        (torch.tensor([[0, 3]]), "z has group 3, expected below 3"),
        (torch.zeros(3, 2), "expected integers"),
    ],
)
def test_misfit_cells_are_refused(z: Tensor, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        joint_cells(z, (2, 3))


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
        (
            {"x": torch.eye(3, 4, dtype=torch.float64) * 1e200},
            "must be finite, and so must the squares of x",
        ),
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


if __name__ == "__main__":
    place, folder = int(os.environ["RANK"]), Path(sys.argv[1])
    dist.init_process_group("gloo")
    torch.save(moments_of_rank(place).all_reduce().state_dict(), folder / f"{place}.pt")
    dist.destroy_process_group()
