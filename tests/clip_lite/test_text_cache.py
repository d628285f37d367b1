"""Caption features on disk: right, computed once, never half."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from clip_lite import text_cache
from clip_lite.data.captions import Speech, caption_key
from clip_lite.data.pairs import PairTable, Record
from clip_lite.errors import UsageError
from clip_lite.text_cache import LiveTexts, TextCache
from clip_lite.text_towers import TextTower, pooled_texts

RECORDS = [
    Record("a", ("man role1", "left thing"), {}, "a"),
    Record("b", ("A woman-role2!",), {}, "b"),
    Record("c", ("thing", "man role1", "dark tone"), {}, "c"),
]
TABLE = PairTable(np.zeros((3, 3, 8, 8), dtype=np.uint8), RECORDS, np.arange(3))


@pytest.fixture
def tower(text_folder: Path) -> TextTower:
    return TextTower.load(str(text_folder), training="frozen")


def test_draws_own_captions_with_the_towers_features(tower: TextTower, tmp_path: Path) -> None:
    cache = TextCache.build(tower, RECORDS, cache=tmp_path)
    own = pooled_texts(tower, ["man role1", "left thing", "right thing", "a woman role2"])
    rows = np.array([0, 0, 0, 1])
    drawn = cache.draw(
        TABLE, rows, mirrored=np.array([False, False, True, False]), chance=np.array([0.49, 0.5, 0.99, 0.7])
    )
    assert isinstance(drawn.text, torch.Tensor)
    assert torch.allclose(drawn.text, own, atol=1e-6)
    names = ("man role1", "left thing", "left thing", "woman role2")
    assert drawn.caption.tolist() == [caption_key(name) for name in names]
    assert drawn.own[3].tolist() == [caption_key("woman role2"), -1]
    assert set(drawn.own[0].tolist()) == {caption_key("man role1"), caption_key("thing left")}


def test_features_are_memory_mapped_and_computed_once(
    tower: TextTower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def counted(tower: TextTower, texts: Sequence[str]) -> torch.Tensor:
        calls.append(len(texts))
        return pooled_texts(tower, texts)

    monkeypatch.setattr(text_cache, "pooled_texts", counted)
    monkeypatch.setattr(text_cache, "BLOCK", 2)
    first = TextCache.build(tower, RECORDS, cache=tmp_path)
    assert max(calls) == 2
    assert isinstance(first.features, np.memmap)
    calls.clear()
    again = TextCache.build(tower, RECORDS, cache=tmp_path)
    assert calls == []
    assert np.array_equal(first.features, again.features)

    TextCache.build(tower, RECORDS[:2], cache=tmp_path)
    assert calls
    calls.clear()
    with torch.no_grad():
        next(tower.parameters()).add_(1.0)
    moved = TextCache.build(tower, RECORDS, cache=tmp_path)
    assert calls
    assert not np.array_equal(first.features, moved.features)


def test_an_interrupted_build_leaves_nothing(
    tower: TextTower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> torch.Tensor:
        raise KeyboardInterrupt

    monkeypatch.setattr(text_cache, "pooled_texts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        TextCache.build(tower, RECORDS, cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_live_texts_draw_the_same_captions(tower: TextTower, tmp_path: Path) -> None:
    cache, live = TextCache.build(tower, RECORDS, cache=tmp_path), LiveTexts(tower)
    rng = np.random.default_rng(0)
    rows = rng.integers(3, size=40)
    how = {"mirrored": rng.random(40) < 0.5, "chance": rng.random(40)}
    a, b = cache.draw(TABLE, rows, **how), live.draw(TABLE, rows, **how)
    assert torch.equal(a.caption, b.caption)
    assert torch.equal(a.own, b.own)
    assert isinstance(a.text, torch.Tensor)
    assert torch.allclose(a.text, tower(b.text), atol=1e-5)


def test_samples_follow_how_often_a_caption_occurs(tower: TextTower, tmp_path: Path) -> None:
    cache = TextCache.build(tower, RECORDS, cache=tmp_path)
    sampled = cache.sample(6000, np.random.default_rng(0))
    assert sampled.text.shape == (6000, tower.dim)
    share = (sampled.caption == caption_key("man role1")).double().mean().item()
    assert share == pytest.approx(2 / 6, abs=0.03)
    assert caption_key("right thing") == caption_key("left thing")  # a mirrored form is no caption of its own


def test_live_texts_cannot_be_sampled(tower: TextTower) -> None:
    with pytest.raises(UsageError, match=r"objective.negatives cached .*take shifted, rolled or hard"):
        LiveTexts(tower).sample(3, np.random.default_rng(0))


@pytest.mark.parametrize("cached", [True, False])
def test_captions_are_reworded_before_anything_is_made_of_them(
    tower: TextTower, tmp_path: Path, cached: bool
) -> None:
    """Features, keys and own keys are of the neutral captions, groups of the written ones."""
    speech = Speech(
        reword=lambda text: text.replace("A woman", "person").replace("man", "person"),
        group=lambda captions: [r.captions for r in RECORDS].index(tuple(captions)) - 1,
    )
    texts = (
        TextCache.build(tower, RECORDS, cache=tmp_path, speech=speech) if cached else LiveTexts(tower, speech)
    )
    rows = np.array([0, 1, 2])
    drawn = texts.draw(TABLE, rows, mirrored=np.zeros(3, dtype=bool), chance=np.array([0.0, 0.0, 0.5]))
    heard = ["person role1", "person role2", "person role1"]
    features = drawn.text if isinstance(drawn.text, torch.Tensor) else tower(drawn.text)
    assert torch.allclose(features, pooled_texts(tower, heard), atol=1e-5)
    assert drawn.caption.tolist() == [caption_key(text) for text in heard]
    assert caption_key("person role1") in drawn.own[2].tolist()
    assert drawn.group is not None
    assert drawn.group.tolist() == [-1, 0, 1]


def test_sampled_captions_know_their_pictures_group(tower: TextTower, tmp_path: Path) -> None:
    speech = Speech(group=lambda captions: len(captions))
    sampled = TextCache.build(tower, RECORDS, cache=tmp_path, speech=speech).sample(
        200, np.random.default_rng(0)
    )
    groups = {"man role1": {2, 3}, "left thing": {2, 3}, "woman role2": {1}, "dark tone": {3}}
    assert sampled.group is not None
    for key, group in zip(sampled.caption.tolist(), sampled.group.tolist(), strict=True):
        name = next(name for name in groups if caption_key(name) == key)
        assert group in groups[name]
    assert set(sampled.group.tolist()) == {1, 2, 3}
