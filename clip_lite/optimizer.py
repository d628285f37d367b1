"""Optimisers, their parameter groups, LookAhead and the schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from clip_lite.config import OptimizerConfig


def make_optimizer(module: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW or SGD over an ``Objective``: towers and heads at their own rates, matrices alone decayed."""
    groups = list(parameter_groups(module, config))
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, fused=True)
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def parameter_groups(module: nn.Module, config: OptimizerConfig) -> Iterator[dict[str, Any]]:
    """Groups of trained parameters by rate and decay: no decay on bias, norm and logit scale."""
    base = config.learning_rate
    rates = {
        "model.image_tower.": base,
        "model.text_tower.": config.text_learning_rate or base,
        "": config.head_learning_rate or base,
    }
    members: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            room = next(prefix for prefix in rates if name.startswith(prefix))
            members.setdefault((room, parameter.ndim > 1), []).append(parameter)
    for (room, decayed), parameters in members.items():
        yield {
            "params": parameters,
            "lr": rates[room],
            "weight_decay": config.weight_decay if decayed else 0.0,
        }


class Lookahead:
    """Slow weights that follow the fast ones (Zhang et al. 2019, algorithm 1).

    After every ``k`` steps of the optimiser the slow weights move ``alpha`` of the way to the fast ones,
    which then start again from there. Slow weights begin as the initial weights.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, alpha: float, k: int) -> None:
        self.fast: list[Tensor] = list(parameters)
        self.slow = [parameter.detach().clone() for parameter in self.fast]
        self.alpha, self.k, self.steps = alpha, k, 0

    @torch.no_grad()
    def step(self) -> None:
        """Count one step of the optimiser."""
        self.steps += 1
        if self.steps % self.k == 0:
            torch._foreach_lerp_(self.slow, self.fast, self.alpha)
            torch._foreach_copy_(self.fast, self.slow)

    def state_dict(self) -> dict[str, Any]:
        """Slow weights and the count."""
        return {"slow": self.slow, "steps": self.steps}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        saved: list[Tensor] = state["slow"]
        for own, value in zip(self.slow, saved, strict=True):
            own.copy_(value)
        self.steps = state["steps"]


def warmup_cosine(total: int, warmup_fraction: float) -> Callable[[int], float]:
    """Factor of the learning rate by step: linear from 1/warm-up to 1, then cosine to 0."""
    warmup = round(total * warmup_fraction)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

    return factor
