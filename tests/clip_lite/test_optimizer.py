"""Parameter groups, LookAhead, schedule."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from clip_lite.config import OptimizerConfig
from clip_lite.optimizer import Lookahead, make_optimizer, parameter_groups, warmup_cosine


class Whole(nn.Module):
    """The names of an objective's parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.image_tower = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
        self.model.text_tower = nn.Linear(3, 3)
        self.model.text_head = nn.Linear(3, 3)
        self.model.frozen = nn.Linear(3, 3).requires_grad_(False)
        self.model.logit_scale = nn.Parameter(torch.tensor(1.0))


def test_towers_and_heads_have_their_rates_and_only_matrices_decay() -> None:
    module = Whole()
    config = OptimizerConfig(
        learning_rate=0.2, text_learning_rate=0.01, head_learning_rate=0.03, weight_decay=0.5
    )
    where = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in parameter_groups(module, config)
        for parameter in group["params"]
    }
    model = module.model
    assert where[id(model.image_tower[0].weight)] == (0.2, 0.5)
    assert where[id(model.image_tower[0].bias)] == (0.2, 0.0)
    assert where[id(model.image_tower[1].weight)] == (0.2, 0.0)
    assert where[id(model.text_tower.weight)] == (0.01, 0.5)
    assert where[id(model.text_head.bias)] == (0.03, 0.0)
    assert where[id(model.logit_scale)] == (0.03, 0.0)
    assert len(where) == sum(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_the_named_optimiser_moves_weights(name: str, kind: type) -> None:
    module = Whole()
    optimizer = make_optimizer(module, OptimizerConfig(name=name, learning_rate=0.1))  # type: ignore[arg-type]
    assert isinstance(optimizer, kind)
    before = module.model.text_head.weight.detach().clone()
    module.model.text_head(torch.ones(2, 3)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(before, module.model.text_head.weight)


def test_lookahead_follows_its_recursion() -> None:
    """By hand: three fast steps of 1, then the slow weights go half of the way; twice."""
    weight = nn.Parameter(torch.tensor([0.0]))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    lookahead = Lookahead([weight], alpha=0.5, k=3)
    seen = []
    for _ in range(6):
        weight.grad = torch.tensor([-1.0])
        optimizer.step()
        lookahead.step()
        seen.append(weight.item())
    assert seen == [1.0, 2.0, 1.5, 2.5, 3.5, 3.0]


def test_lookahead_goes_on_from_its_state() -> None:
    def run(weight: nn.Parameter, lookahead: Lookahead, steps: int) -> None:
        for _ in range(steps):
            with torch.no_grad():
                weight.mul_(1.1).add_(0.3)
            lookahead.step()

    straight = nn.Parameter(torch.tensor([1.0, 2.0]))
    run(straight, Lookahead([straight], alpha=0.5, k=5), 13)
    first = nn.Parameter(torch.tensor([1.0, 2.0]))
    before = Lookahead([first], alpha=0.5, k=5)
    run(first, before, 7)
    second = nn.Parameter(first.detach().clone())
    after = Lookahead([second], alpha=0.5, k=5)
    after.load_state_dict(before.state_dict())
    run(second, after, 6)
    assert torch.equal(straight, second)


def test_schedule_climbs_then_falls_to_zero() -> None:
    factor = warmup_cosine(100, 0.1)
    assert [factor(s) for s in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert factor(10) == pytest.approx(1.0)
    assert factor(55) == pytest.approx(0.5)
    assert factor(100) == pytest.approx(0.0)
    assert warmup_cosine(10, 0.0)(0) == 1.0
    assert warmup_cosine(1, 0.0)(1) == pytest.approx(0.5 * (1 + math.cos(math.pi)))
