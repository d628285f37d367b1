"""The loop: learning, stopping and going on, divergence."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from clip_lite.data.pairs import Corpus
from clip_lite.errors import CommandError, UsageError
from clip_lite.stopping import Stopped
from tests.clip_lite.conftest import Configure, Recorder, training_of


def losses(hooks: Recorder) -> dict[int, float]:
    return {step: numbers["train/loss"] for step, numbers in hooks.logged.items() if "train/loss" in numbers}


def test_loss_falls_and_the_frozen_text_tower_stays(configure: Configure, corpus: Corpus) -> None:
    hooks = Recorder()
    training, built = training_of(configure(training={"epochs": 6}), corpus, hooks)
    frozen = {name: p.clone() for name, p in built.model.text_tower.named_parameters()}
    epochs = training.run()
    assert epochs[-1].loss < 0.8 * epochs[0].loss
    assert epochs[-1].step == 6 * (200 // 32)
    assert [step for step, _, _ in hooks.states] == [epoch.step for epoch in epochs]
    assert all(torch.equal(p, frozen[name]) for name, p in built.model.text_tower.named_parameters())
    assert not any("text_tower" in name for name in hooks.states[-1][2]["step"]["weights"])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": {"name": "sgd", "lookahead": True, "learning_rate": 0.05}},
        {"model": {"text_training": "trained"}, "training": {"epochs": 2, "accumulation": 2}},
        {"objective": {"loss": "siglip"}, "training": {"epochs": 2, "precision": "float16"}},
        {
            "objective": {
                "negatives": "cached",
                "negatives_per_pair": 8,
                "loss_options": {"reduction": "sum"},
            }
        },
    ],
    ids=["default", "sgd+lookahead", "trained text, accumulated", "siglip, float16", "cached negatives"],
)
def test_stopped_in_mid_epoch_and_continued_is_bit_equal(
    configure: Configure, corpus: Corpus, changes: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every later loss and every weight, with the dropout of a trained text tower on."""
    monkeypatch.setattr("clip_lite.fit.LOG_EVERY", 1)
    config = configure(**changes)
    straight = Recorder()
    training, whole = training_of(config, corpus, straight)
    training.run()
    per_epoch = whole.batches.per_epoch
    assert per_epoch >= 3

    first = Recorder(stop_at=per_epoch + 1)  # asked once per step but for the last of an epoch
    training, _ = training_of(config, corpus, first)
    with pytest.raises(Stopped, match=rf"step \d+ of {2 * per_epoch}"):
        training.run()
    step, best, saved = first.states[-1]
    assert per_epoch < step < 2 * per_epoch
    assert not best

    second = Recorder()
    training, resumed = training_of(config, corpus, second, saved)
    epochs = training.run()
    assert losses(second) == {s: loss for s, loss in losses(straight).items() if s > step}
    own, other = resumed.step.objective.state_dict(), whole.step.objective.state_dict()
    assert all(torch.equal(own[name], other[name]) for name in own)
    assert [e.epoch for e in epochs] == [1, 2]
    assert (
        epochs[-1].loss
        == math.fsum(losses(straight)[s + 1] for s in range(per_epoch, 2 * per_epoch)) / per_epoch
    )


def test_resuming_from_another_step_is_not_equal(configure: Configure, corpus: Corpus) -> None:
    """The comparison above can fail: a checkpoint whose position is wrong by one step gives other losses."""
    config = configure(training={"epochs": 1})
    straight = Recorder()
    training, whole = training_of(config, corpus, straight)
    training.run()
    first = Recorder(stop_at=1)
    training, _ = training_of(config, corpus, first)
    with pytest.raises(Stopped):
        training.run()
    saved = first.states[-1][2]
    saved["progress"]["step"] += 1
    training, resumed = training_of(config, corpus, Recorder(), saved)
    training.run()
    own, other = resumed.step.objective.state_dict(), whole.step.objective.state_dict()
    assert not all(torch.equal(own[name], other[name]) for name in own)


def test_same_seed_same_weights_and_another_seed_others(configure: Configure, corpus: Corpus) -> None:
    states = []
    for seed in (0, 0, 1):
        training, built = training_of(configure(seed=seed, training={"epochs": 1}), corpus, Recorder())
        training.run()
        states.append(built.model.image_tower.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["conv1.weight"], states[2]["conv1.weight"])


def test_checkpoints_every_few_steps_and_the_best_epoch_is_marked(
    configure: Configure, corpus: Corpus
) -> None:
    hooks = Recorder(recalls=[0.2, 0.4, 0.3])
    training, built = training_of(
        configure(training={"epochs": 3}, checkpoint={"every_steps": 2}), corpus, hooks
    )
    training.run()
    ends = [n * built.batches.per_epoch for n in (1, 2, 3)]
    expected = {s for s in range(1, ends[-1] + 1) if s % 2 == 0} | set(ends)
    assert {step for step, _, _ in hooks.states} == expected
    assert [step for step, best, _ in hooks.states if best] == ends[:2]


def test_divergence_stops_and_names_the_last_good_checkpoint(configure: Configure, corpus: Corpus) -> None:
    class Poison(Recorder):
        model: Any = None

        def keep(self, state: Any, step: int, *, best: bool) -> str:
            where = super().keep(state, step, best=best)
            with torch.no_grad():
                self.model.logit_scale.fill_(math.nan)
            return where

    hooks = Poison()
    training, built = training_of(configure(), corpus, hooks)
    hooks.model = built.model
    with pytest.raises(
        CommandError, match=r"loss is nan .* at step \d+ of \d+ \(epoch 2\).*checkpoint: runs/x/step-\d+"
    ):
        training.run()
    assert len(hooks.states) == 1
    assert all(torch.isfinite(w).all() for w in hooks.states[0][2]["step"]["weights"].values())


def test_too_few_pictures_for_a_batch(configure: Configure, corpus: Corpus) -> None:
    with pytest.raises(UsageError, match=r"training.batch_size is 4096, but only \d+ pictures"):
        training_of(configure(training={"batch_size": 4096}), corpus, Recorder())


def test_bfloat16_step_stays_near_float32(configure: Configure, corpus: Corpus) -> None:
    """From equal weights and one batch: nearly the same loss, and not the same arithmetic."""
    found = []
    for precision in ("float32", "bfloat16"):
        _, built = training_of(configure(training={"precision": precision}), corpus, Recorder())
        built.step.objective.train()
        found.append(built.step(next(built.batches.epoch(1)), 0)["loss"].item())
    assert found[1] == pytest.approx(found[0], rel=0.02)
    assert found[1] != found[0]
