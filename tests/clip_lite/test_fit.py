"""The loop: schedule, batches, learning, divergence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from clip_lite.config import TrainingConfig
from clip_lite.data.pairs import Corpus, Record
from clip_lite.errors import CommandError, UsageError
from clip_lite.fit import Batches, Epoch, Hooks, Loop, fit, warmup_cosine
from clip_lite.model import DualEncoder
from clip_lite.text_cache import TextCache
from clip_lite.towers import TextTower, pooled_texts


@pytest.fixture
def model(text_folder: Path) -> DualEncoder:
    torch.manual_seed(0)
    tower = TextTower.pretrained(str(text_folder)).eval().requires_grad_(False)
    return DualEncoder(tower, embedding_dim=32, image_size=32)


def settings(**changes: object) -> TrainingConfig:
    return TrainingConfig(
        **{"epochs": 2, "batch_size": 32, "precision": "float32", "device": "cpu", **changes}
    )  # type: ignore[arg-type]


def run(model: DualEncoder, corpus: Corpus, config: TrainingConfig) -> tuple[list[Epoch], list[str]]:
    saved: list[str] = []

    def save(_: DualEncoder) -> str:
        saved.append("saved")
        return "folder"

    hooks = Hooks(validate=lambda _: {"recall": 0.5}, save=save, log=lambda numbers, step: None)
    train = corpus.splits["train"]
    return fit(
        model, train, TextCache.build(model.text_tower, train.records), config, seed=0, hooks=hooks
    ), saved


def test_schedule_climbs_then_falls_to_zero() -> None:
    factor = warmup_cosine(100, 0.1)
    assert [factor(s) for s in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert factor(10) == pytest.approx(1.0)
    assert factor(55) == pytest.approx(0.5)
    assert factor(100) == pytest.approx(0.0)
    assert warmup_cosine(10, 0.0)(0) == 1.0


def test_text_cache_equals_the_tower_and_draws_own_captions(model: DualEncoder) -> None:
    records = [
        Record("a", ("man role1", "left thing"), {}, "a"),
        Record("b", ("woman role2",), {}, "b"),
    ]
    cache = TextCache.build(model.text_tower, records)
    rng = np.random.default_rng(0)
    own = pooled_texts(model.text_tower, ["man role1", "left thing", "right thing", "woman role2"])
    seen = set()
    for _ in range(40):
        drawn = cache.draw(np.array([0, 1]), torch.tensor([True, False]), rng)
        assert torch.allclose(drawn[1], own[3], atol=1e-6)
        seen.add(int(torch.cdist(drawn[:1], own).argmin()))
    assert seen == {0, 2}  # the mirrored picture never gets "left thing"


def test_batches_are_whole_disjoint_and_seeded(model: DualEncoder, corpus: Corpus) -> None:
    train = corpus.splits["train"]
    texts = TextCache.build(model.text_tower, train.records)
    first, again = (list(Batches(train, texts, settings(), seed=3).epoch(1)) for _ in range(2))
    other = list(Batches(train, texts, settings(), seed=3).epoch(2))
    assert len(first) == len(train) // 32
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0][0], other[0][0])


def test_loss_falls_and_the_text_tower_stays(model: DualEncoder, corpus: Corpus) -> None:
    frozen = {name: p.clone() for name, p in model.text_tower.named_parameters()}
    epochs, saved = run(model, corpus, settings(epochs=6))
    assert epochs[-1].loss < 0.8 * epochs[0].loss
    assert saved == ["saved"] * 6
    assert epochs[-1].step == 6 * (len(corpus.splits["train"]) // 32)
    assert all(torch.equal(p, frozen[name]) for name, p in model.text_tower.named_parameters())


def test_same_seed_same_weights(text_folder: Path, corpus: Corpus) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(0)
        tower = TextTower.pretrained(str(text_folder)).eval().requires_grad_(False)
        model = DualEncoder(tower, embedding_dim=32, image_size=32)
        run(model, corpus, settings(epochs=1))
        states.append(model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_bfloat16_step_stays_near_float32(text_folder: Path, corpus: Corpus) -> None:
    """From equal weights and one batch: nearly the same loss, and not the same arithmetic."""
    losses = []
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        tower = TextTower.pretrained(str(text_folder)).eval().requires_grad_(False)
        model = DualEncoder(tower, embedding_dim=32, image_size=32).train()
        config = settings(precision=precision)
        train = corpus.splits["train"]
        batches = Batches(train, TextCache.build(tower, train.records), config, seed=0)
        hooks = Hooks(validate=lambda _: {}, save=lambda _: "", log=lambda numbers, step: None)
        images, text = next(batches.epoch(1))
        losses.append(Loop(model, config, total=1, hooks=hooks).step(images, text)["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1] != losses[0]


def test_divergence_stops_and_names_the_last_good_checkpoint(
    model: DualEncoder, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Mapping[str, torch.Tensor]] = []

    def poison(current: DualEncoder) -> str:
        saved.append({name: p.detach().clone() for name, p in current.named_parameters()})
        with torch.no_grad():
            current.logit_scale.fill_(math.nan)
        return "runs/x/model"

    train = corpus.splits["train"]
    hooks = Hooks(validate=lambda _: {}, save=poison, log=lambda numbers, step: None)
    texts = TextCache.build(model.text_tower, train.records)
    with pytest.raises(
        CommandError, match=r"loss is nan .* at step \d+ of \d+ \(epoch 2\).*runs/x/model \(epoch 1\)"
    ):
        fit(model, train, texts, settings(), seed=0, hooks=hooks)
    assert len(saved) == 1
    assert all(torch.isfinite(value).all() for value in saved[0].values())


def test_too_few_pictures_for_a_batch(model: DualEncoder, corpus: Corpus) -> None:
    with pytest.raises(UsageError, match=r"training.batch_size is 4096, but only \d+ pictures"):
        run(model, corpus, settings(batch_size=4096))
