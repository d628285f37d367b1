"""Which pairs make up which batch."""

from __future__ import annotations

import numpy as np
import pytest

from clip_lite.data.order import GlobalOrder, Order, ShardOrder

COUNTS = np.array([7, 5, 9, 4, 6, 8] * 4)


def shards(rank: int = 0, world_size: int = 1, seed: int = 0) -> ShardOrder:
    return ShardOrder(counts=COUNTS, batch_size=12, seed=seed, rank=rank, world_size=world_size)


def table(rank: int = 0, world_size: int = 1, seed: int = 0) -> GlobalOrder:
    return GlobalOrder(pairs=100, batch_size=12, seed=seed, rank=rank, world_size=world_size)


@pytest.mark.parametrize("make", [table, shards])
def test_an_epoch_never_repeats_and_depends_on_seed_and_epoch(make: type) -> None:
    order: Order = make()
    rows = [np.concatenate([turn.rows for turn in order.turns(epoch)]) for epoch in (1, 1, 2)]
    assert len(rows[0]) == order.per_epoch * 12
    assert len(set(rows[0].tolist())) == len(rows[0])
    assert np.array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])
    other = np.concatenate([turn.rows for turn in make(seed=1).turns(1)])
    assert not np.array_equal(rows[0], other)


@pytest.mark.parametrize("make", [table, shards])
def test_starting_in_the_middle_gives_the_rest(make: type) -> None:
    whole = list(make().turns(3))
    rest = list(make().turns(3, start=5))
    assert len(rest) == len(whole) - 5
    for before, after in zip(whole[5:], rest, strict=True):
        assert np.array_equal(before.rows, after.rows)
        assert before.rng.random() == after.rng.random()


def test_processes_share_each_global_batch_and_its_draws() -> None:
    for alone, *shared in zip(table().turns(1), table(0, 2).turns(1), table(1, 2).turns(1), strict=True):
        assert np.array_equal(alone.rows, np.concatenate([turn.rows for turn in shared]))
        drawn = alone.rng.random(alone.total)
        assert np.array_equal(
            drawn, np.concatenate([turn.rng.random(turn.total)[turn.part] for turn in shared])
        )


def test_processes_read_different_shards_and_make_equally_many_steps() -> None:
    orders = [shards(rank, 4) for rank in range(4)]
    seen = [np.concatenate([turn.rows for turn in order.turns(1)]) for order in orders]
    assert len({len(rows) for rows in seen}) == 1
    of_row = np.repeat(np.arange(len(COUNTS)), COUNTS)
    dealt = [set(of_row[rows].tolist()) for rows in seen]
    assert all(dealt[a].isdisjoint(dealt[b]) for a in range(4) for b in range(a))


def test_a_process_passes_empty_shards_over() -> None:
    """One that is dealt nothing but empty shards would wait for ever."""
    order = ShardOrder(counts=np.array([0, 8, 0, 8]), batch_size=8, seed=0, rank=1, world_size=2)
    assert [len(turn.rows) for turn in order.turns(1)] == [4, 4]
