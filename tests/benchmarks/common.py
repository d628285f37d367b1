"""What the benchmarks share: a training built as the command builds it, and turns that are taken fairly."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clip_lite.allocator import kept_memory
from clip_lite.build import Built, build
from clip_lite.config import TrainConfig
from clip_lite.data.batches import Batch
from clip_lite.data.corpora import load_corpus
from clip_lite.data.pairs import PairTable
from clip_lite.precision import autocast


def configured(**groups: Mapping[str, Any]) -> TrainConfig:
    """The default configuration (configs/emoji.yaml) with changes by group."""
    config = TrainConfig()
    for name, changes in groups.items():
        setattr(config, name, replace(getattr(config, name), **changes))
    return config


def built_from(config: TrainConfig) -> tuple[Built, PairTable]:
    """Model, step and batches of a configuration, and its training pairs."""
    pairs = load_corpus(config.data).splits["train"]
    built = build(config, pairs, torch.device("cpu"))
    built.step.objective.train()
    return built, pairs


def bare_step(built: Built, batch: Batch, *, project_twice: bool = False) -> Callable[[], None]:
    """Forward, backward and optimiser of the same towers on a batch in memory.

    ``project_twice`` runs the shifted text features through the head once more, as the paper's code does.
    """
    model, step = built.model, built.step
    softplus = nn.functional.softplus

    def run() -> None:
        step.optimizer.zero_grad(set_to_none=True)
        with autocast(torch.device("cpu"), step.objective.precision):
            image = model.encode_image(batch.images).embedding
            text = model.project_text(batch.text)  # type: ignore[arg-type]
            other = text.roll(1, 0)
            if project_twice:
                other = model.project_text(batch.text.roll(1, 0))  # type: ignore[union-attr]
        scale = model.logit_scale.exp()
        positive, negative = (scale * (image * against).sum(-1) for against in (text, other))
        (softplus(-positive).mean() + softplus(negative).mean()).backward()
        step.optimizer.step()

    return run


def whole_step(built: Built, batch: Batch) -> Callable[[], None]:
    """Our step with clipping, schedule and the reading of its numbers, on a batch in memory."""

    def run() -> None:
        terms = built.step(batch, 0)
        torch.stack(list(terms.values())).tolist()

    return run


def loop_steps(built: Built, steps: int) -> Callable[[], None]:
    """``steps`` of the real loop: order, decoding, augmentation, captions, step, numbers."""

    def forever() -> Any:
        epoch = 0
        while True:
            epoch += 1
            yield from built.batches.epoch(epoch)

    batches = forever()

    def run() -> None:
        for _ in range(steps):
            terms = built.step(next(batches), 0)
            torch.stack(list(terms.values())).tolist()

    return run


def take_turns(runs: Mapping[str, Callable[[], None]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each in every round, in an order that turns; one round of warming up."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    with kept_memory():
        for turn in range(rounds + 1):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                begin = time.perf_counter()
                runs[name]()
                if turn:
                    taken[name].append(time.perf_counter() - begin)
    return taken


def ratio(taken: Mapping[str, list[float]], over: str, under: str) -> str:
    """Median over the rounds of ``over`` / ``under``, with the middle half of the rounds.

    A shared machine changes its speed from second to second; neighbours in time share it.
    """
    low, middle, high = statistics.quantiles([a / b for a, b in zip(taken[over], taken[under], strict=True)])
    return f"{middle:.3f} (middle half of {len(taken[over])} rounds {low:.3f} to {high:.3f})"


def machine() -> str:
    """What was measured on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return f"{os.cpu_count()} cores of {cpu}, {torch.get_num_threads()} threads, torch {torch.__version__}"
