from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from debias.rows import LabelledRows

D = 5


def planted(n: int, *, groups: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.standard_normal((n, D))), torch.from_numpy(rng.integers(-1, groups, n))


@settings(derandomize=True, deadline=None, max_examples=30)
@given(order=st.permutations(range(60)), cut=st.integers(0, 60), chunk=st.integers(1, 60))
def test_the_sample_depends_on_the_rows_alone(order: list[int], cut: int, chunk: int) -> None:
    """Any order, any chunks, any two shards: bit for bit the sample of one update."""
    x, z = planted(60)
    once = LabelledRows(D, 3, limit=20, seed=4).update(x, z)
    shards = [LabelledRows(D, 3, limit=20, seed=4) for _ in range(2)]
    for shard, part in zip(shards, (order[:cut], order[cut:]), strict=True):
        for rows in torch.tensor(part, dtype=torch.long).split(chunk):
            shard.update(x[rows], z[rows])
    merged = shards[0].merge(shards[1])
    assert torch.equal(merged.x, once.x)
    assert torch.equal(merged.z, once.z)
    torch.testing.assert_close(merged.moments.covariance, once.moments.covariance, rtol=0, atol=1e-12)
    assert len(once.x) < int((z >= 0).sum())


def test_every_row_is_equally_likely_to_be_kept() -> None:
    """Inclusion frequencies over seeds follow the binomial."""
    x = torch.arange(40.0)[:, None]
    kept = torch.zeros(40)
    for seed in range(400):
        kept[LabelledRows(1, 1, limit=10, seed=seed).update(x, torch.zeros(40).long()).x[:, 0].long()] += 1
    assert kept.sum() == 4000
    error = (kept - 100) / (400 * 0.25 * 0.75) ** 0.5
    assert error.abs().max() < 4
    assert 0.5 < error.square().mean() < 2


def test_a_rare_group_is_kept_whole_and_unlabelled_rows_are_not() -> None:
    z = torch.tensor([0] * 500 + [1] * 5 + [-1] * 100)
    x = torch.randn(len(z), D, generator=torch.Generator().manual_seed(0))
    rows = LabelledRows(D, 2, limit=40).update(x, z)
    assert rows.z.bincount().tolist() == [20, 5]
    assert rows.moments.counts.tolist() == [500, 5]
    assert all((row == x[500:505].double()).all(1).any() for row in rows.x[rows.z == 1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_rows_count_at_their_exact_values(dtype: torch.dtype) -> None:
    x, z = planted(50)
    low, exact = (LabelledRows(D, 3).update(rows, z) for rows in (x.to(dtype), x.to(dtype).double()))
    assert torch.equal(low.x, exact.x)
    assert torch.equal(LabelledRows(D, 3).update(x.to(dtype).float().numpy(), z.numpy()).x, exact.x)
    assert low.x.dtype == torch.float64


def test_split_holds_out_a_quarter_of_each_group() -> None:
    x = torch.arange(100.0)[:, None]
    z = torch.tensor([0, 2] * 40 + [2] * 20)
    split = LabelledRows(1, 3, seed=1).update(x, z).split()
    assert split.held_z.bincount().tolist() == [10, 15]
    assert split.z.bincount().tolist() == [30, 45]
    assert sorted(torch.cat([split.x, split.held_x])[:, 0].tolist()) == x[:, 0].tolist()
    assert torch.equal(split.held_z * 2, z[split.held_x[:, 0].long()])


@pytest.mark.parametrize("z", [[0] * 20, [0] * 20 + [1] * 7])
def test_split_refuses_too_few_rows(z: list[int]) -> None:
    rows = LabelledRows(1, 2).update(torch.arange(float(len(z)))[:, None], torch.tensor(z))
    with pytest.raises(
        ValueError, match=r"at least 8 rows of each of at least two groups, but keeps \[20, [07]\] rows"
    ):
        rows.split()


def test_misfits_are_refused_and_leave_nothing_behind() -> None:
    rows, (x, z) = LabelledRows(D, 3), planted(10)
    for bad_x, bad_z, message in (
        (x[:, :2], z, "x has shape"),
        (x, z[:4], "z has shape"),
        (x, z + 3, "z has group 5"),
        (x, z.double(), "expected integers"),
        (x * float("nan"), z, "must be finite"),
        (x * 1e200, z, "too large for float32"),
    ):
        with pytest.raises(ValueError, match=message):
            rows.update(bad_x, bad_z)
    assert (len(rows.x), rows.moments.n) == (0, 0)
    with pytest.raises(ValueError, match="limit is 2, expected at least one row for each of 3 groups"):
        LabelledRows(D, 3, limit=2)
    with pytest.raises(
        ValueError, match="cannot merge rows of limit 20000 and seed 1 into limit 20000 and seed 0"
    ):
        rows.merge(LabelledRows(D, 3, seed=1))
    with pytest.raises(ValueError, match="cannot merge moments of dim 4"):
        rows.merge(LabelledRows(4, 3))
