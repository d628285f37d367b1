"""Training batches: whole, disjoint, seeded, and the same from any batch on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from clip_lite.data.batches import Batch, Batches
from clip_lite.data.captions import caption_key
from clip_lite.data.pairs import Corpus, PairTable
from clip_lite.data.reading import Reading
from clip_lite.data.sources.coco import load_coco
from clip_lite.data.transforms import Augment
from clip_lite.errors import UsageError
from clip_lite.text_cache import LiveTexts, TextCache
from clip_lite.text_towers import TextTower
from tests.clip_lite.coco_folder import write_coco_folder

CPU = torch.device("cpu")
VARIED = Augment(scale=(0.5, 1.0), flip=0.5, jitter=(0.2, 0.2, 0.2, 0.05))


@pytest.fixture
def tower(text_folder: Path) -> TextTower:
    return TextTower.load(str(text_folder), training="frozen")


@pytest.fixture
def coco(tmp_path: Path) -> Corpus:
    root = write_coco_folder(tmp_path / "coco", train=60, val=8)
    return load_coco(root, Reading(size=32))


def batches(table: PairTable, texts: TextCache | LiveTexts, **changes: int) -> Batches:
    settings = {"batch_size": 16, "seed": 3, "extra": 0, **changes}
    return Batches(table, texts, VARIED, device=CPU, **settings)


def equal(a: Batch, b: Batch) -> bool:
    return torch.equal(a.images, b.images) and torch.equal(a.caption, b.caption) and torch.equal(a.own, b.own)


@pytest.mark.parametrize("source", ["array", "encoded"])
def test_batches_are_seeded_and_can_begin_anywhere(
    source: str, tower: TextTower, corpus: Corpus, coco: Corpus
) -> None:
    table = (corpus if source == "array" else coco).splits["train"]
    first, again, other = (
        list(batches(table, LiveTexts(tower)).epoch(number, start))
        for number, start in ((1, 0), (1, 1), (2, 0))
    )
    assert len(first) == len(table) // 16
    assert all(equal(a, b) for a, b in zip(first[1:], again, strict=True))
    assert not torch.equal(first[0].images, other[0].images)
    assert first[0].images.shape == (16, 3, 32, 32)
    assert first[0].images.is_contiguous(memory_format=torch.channels_last)


def test_cached_and_live_captions_are_the_same(tower: TextTower, corpus: Corpus, tmp_path: Path) -> None:
    table = corpus.splits["train"]
    cache = TextCache.build(tower, table.records, cache=tmp_path)
    for cached, live in zip(
        batches(table, cache).epoch(1), batches(table, LiveTexts(tower)).epoch(1), strict=True
    ):
        assert equal(cached, live)
        assert isinstance(live.text, dict)
        assert torch.allclose(cached.text, tower(live.text), atol=1e-5)


def test_keys_name_every_caption_of_the_picture(tower: TextTower, coco: Corpus) -> None:
    table = coco.splits["train"]
    made = batches(table, LiveTexts(tower))
    turn = next(made.order.turns(1))
    batch = next(made.epoch(1))
    for row, drawn, own in zip(turn.rows, batch.caption, batch.own, strict=True):
        expected = {caption_key(text) for text in table.records[row].captions}
        assert set(own.tolist()) - {-1} == expected
        assert drawn.item() in expected


def test_extra_captions_come_from_the_whole_corpus(tower: TextTower, corpus: Corpus, tmp_path: Path) -> None:
    table = corpus.splits["train"]
    cache = TextCache.build(tower, table.records, cache=tmp_path)
    batch = next(batches(table, cache, extra=64).epoch(1))
    assert batch.extra is not None
    assert batch.extra_caption is not None
    assert batch.extra.shape == (64, tower.dim)
    known = {caption_key(text) for record in table.records for text in record.captions}
    assert set(batch.extra_caption.tolist()) <= known
    assert len(set(batch.extra_caption.tolist()) - set(batch.own.flatten().tolist())) > 10


def test_parts_are_the_batch_in_order(tower: TextTower, corpus: Corpus) -> None:
    batch = next(batches(corpus.splits["train"], LiveTexts(tower)).epoch(1))
    parts = list(batch.parts(4))
    assert [len(part) for part in parts] == [4] * 4
    assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
    assert torch.equal(torch.cat([part.text["input_ids"] for part in parts]), batch.text["input_ids"])


def test_mirrored_pictures_have_mirrored_captions(tower: TextTower, coco: Corpus) -> None:
    """Every second caption of the folder says *left*; those of mirrored pictures say *right*."""
    table = coco.splits["train"]
    said = LiveTexts(tower).draw(table, np.arange(8), mirrored=np.arange(8) % 2 == 1, chance=np.full(8, 0.3))
    words = tower.tokenizer.batch_decode(said.text["input_ids"], skip_special_tokens=True)
    assert ["right" in text for text in words] == [False, True] * 4
    assert ["left" in text for text in words] == [True, False] * 4


def test_fewer_shards_than_processes_are_refused(tower: TextTower, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sharded:
        shard_counts = np.array([30, 0, 0])

        def __getitem__(self, rows: object) -> np.ndarray:
            raise AssertionError

    monkeypatch.setattr("clip_lite.data.batches.world_size", lambda: 2)
    table = PairTable(Sharded(), [], np.arange(30))
    with pytest.raises(UsageError, match="holds 1 training shards for 2 processes"):
        batches(table, LiveTexts(tower))
