"""Model, loss and negatives as one module; the batch in parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from clip_lite.build import build
from clip_lite.data.captions import Speech
from clip_lite.data.pairs import Corpus
from clip_lite.errors import UsageError
from clip_lite.losses.jsd import JSDLoss
from clip_lite.objective import total
from tests.clip_lite.conftest import CPU, Configure, Recorder, training_of


def gradients(configure: Configure, corpus: Corpus, **groups: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What one batch leaves on the weights, in evaluation mode: batch norm would see the parts."""
    _, built = training_of(configure(**groups), corpus, Recorder())
    built.step.objective.eval()
    built.step._backward(next(built.batches.epoch(1)), 0)
    return {n: p.grad for n, p in built.step.objective.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("loss", ["infonce", "siglip"])
@pytest.mark.parametrize("text", ["frozen", "trained"])
def test_parts_of_a_batch_give_the_gradient_of_the_whole(
    configure: Configure, corpus: Corpus, loss: str, text: str
) -> None:
    groups = {"objective": {"loss": loss}, "model": {"text_training": text}}
    whole = gradients(configure, corpus, **groups)
    parts = gradients(configure, corpus, **groups, training={"accumulation": 4})
    assert whole.keys() == parts.keys()
    assert any("logit_scale" in name for name in whole)
    for name, gradient in whole.items():
        scale = gradient.abs().max()
        assert torch.allclose(parts[name], gradient, atol=float(1e-4 * scale + 1e-7)), name


def test_jsd_takes_its_negatives_inside_a_part(configure: Configure, corpus: Corpus) -> None:
    """The mean over the parts' own losses, each with its own shift."""
    _, built = training_of(configure(training={"accumulation": 2}), corpus, Recorder())
    objective = built.step.objective.eval()
    batch = next(built.batches.epoch(1))
    with torch.no_grad():
        expected = sum(total(objective(part)) for part in batch.parts(2)) / 2
    built.step.optimizer.zero_grad()
    assert total(built.step._backward(batch, 0)).item() == pytest.approx(float(expected), abs=1e-6)


def test_parts_leave_running_statistics_as_one_pass_does(configure: Configure, corpus: Corpus) -> None:
    """The second run of the towers must not count twice."""
    _, built = training_of(
        configure(objective={"loss": "infonce"}, training={"accumulation": 2}), corpus, Recorder()
    )
    batch = next(built.batches.epoch(1))
    objective = built.step.objective.train()
    before = {n: b.clone() for n, b in objective.named_buffers()}
    with torch.no_grad():
        for part in batch.parts(2):
            objective.project(part)
    once = {n: b.clone() for n, b in objective.named_buffers() if "running" in n}
    for name, buffer in objective.named_buffers():
        buffer.copy_(before[name])
    built.step(batch, 0)
    assert all(torch.equal(b, once[n]) for n, b in objective.named_buffers() if "running" in n)
    assert any(not torch.equal(once[n], before[n]) for n in once)


class OwnLoss:
    """A person's loss: squared distance of pairs minus that of the negatives."""

    def __init__(self, margin: float = 1.0) -> None:
        self.margin = margin

    def __call__(
        self, image: torch.Tensor, text: torch.Tensor, negatives: torch.Tensor, scale: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        near = (image - text).square().sum(-1)
        far = (image[:, None] - negatives).square().sum(-1).mean(1)
        return {"triplet": torch.relu(near - far + self.margin).mean() * scale}


def test_a_loss_of_ones_own_is_a_class_path(configure: Configure, corpus: Corpus) -> None:
    config = configure(
        objective={
            "loss": "tests.clip_lite.test_objective.OwnLoss",
            "loss_options": {"margin": 0.5},
            "negatives": "rolled",
            "negatives_per_pair": 3,
        }
    )
    hooks = Recorder()
    training, built = training_of(config, corpus, hooks)
    assert built.step.objective.loss.margin == 0.5
    epochs = training.run()
    assert epochs[1].loss < epochs[0].loss


def test_jsd_is_the_default_with_one_shifted_negative(configure: Configure, corpus: Corpus) -> None:
    objective = build(configure(), corpus.splits["train"], CPU).step.objective
    assert isinstance(objective.loss, JSDLoss)
    assert objective.negatives.k == 1
    assert not objective.uses_batch


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"training": {"batch_size": 32, "accumulation": 5}}, "expected a multiple of 1 processes x 5 parts"),
        ({"training": {"batch_size": 32, "accumulation": 32}}, "fewer than two pairs"),
        ({"training": {"sync_batch_norm": True}}, "sync_batch_norm needs CUDA"),
        ({"objective": {"loss": "jsx"}}, "objective.loss is 'jsx'"),
        ({"objective": {"loss_options": {"k": 3}}}, "jsd has no k"),
    ],
)
def test_what_cannot_be_built_is_refused(
    configure: Configure, corpus: Corpus, groups: dict[str, dict[str, Any]], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        build(configure(**groups), corpus.splits["train"], CPU)


def groups_of(corpus: Corpus) -> Speech:
    return Speech(group=lambda captions: sum("woman" in c for c in captions) and 1)


def test_matched_negatives_come_from_the_own_group(configure: Configure, corpus: Corpus) -> None:
    config = replace(
        configure(mitigation={"matched_negatives": True}, training={"batch_size": 64}), debias="gender"
    )
    built = build(config, corpus.splits["train"], CPU, speech=groups_of(corpus))
    plain = build(
        configure(training={"batch_size": 64}), corpus.splits["train"], CPU, speech=groups_of(corpus)
    )
    seen = {}
    for name, made in (("matched", built), ("plain", plain)):
        batch = next(made.batches.epoch(1))
        chooser, chosen = made.step.objective.negatives, []
        made.step.objective.negatives = lambda view, c=chooser, to=chosen: to.append(c(view)) or to[0]
        made.step.objective(batch)
        rows, other = (chosen[0][:, 0] >= 0), chosen[0][:, 0]
        assert batch.group is not None
        assert rows.double().mean() > 0.9
        seen[name] = (batch.group[other[rows]] == batch.group[rows]).double().mean().item()
    assert seen["matched"] == 1.0
    assert seen["plain"] < 0.9


class Pull:
    """A term that only sees what it is given."""

    def __call__(self, image: torch.Tensor, group: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"pull": image[group == 1].sum() * 0.5}


@pytest.mark.parametrize("loss", ["jsd", "infonce"])
def test_a_term_of_groups_is_added_and_backpropagated(
    configure: Configure, corpus: Corpus, loss: str
) -> None:
    """In parts too, where infonce takes the towers twice."""
    config = configure(objective={"loss": loss}, training={"accumulation": 2})
    with_term = build(config, corpus.splits["train"], CPU, speech=groups_of(corpus), extra_terms=[Pull()])
    without = build(config, corpus.splits["train"], CPU, speech=groups_of(corpus))
    bias = []
    for built in (with_term, without):
        built.step.objective.eval()
        terms = built.step._backward(next(built.batches.epoch(1)), 0)
        bias.append((terms, built.model.image_head.norm.bias.grad))
    assert set(bias[0][0]) - set(bias[1][0]) == {"pull"}
    assert not torch.allclose(bias[0][1], bias[1][1])


def test_a_term_without_groups_is_an_error(configure: Configure, corpus: Corpus) -> None:
    built = build(configure(), corpus.splits["train"], CPU, extra_terms=[Pull()])
    with pytest.raises(ValueError, match="needs batches that number them"):
        built.step.objective(next(built.batches.epoch(1)))
