"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from clip_lite.config import TrainingConfig
from clip_lite.data.pairs import PairTable
from clip_lite.data.transforms import Augment
from clip_lite.errors import CommandError, UsageError
from clip_lite.losses import JSDLoss
from clip_lite.model import DualEncoder
from clip_lite.negatives import shifted
from clip_lite.precision import autocast
from clip_lite.progress import progress_bar, say
from clip_lite.text_cache import TextCache

LOG_EVERY = 10


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training pictures gave."""

    epoch: int
    step: int
    loss: float
    pairs_per_second: float
    validation: Mapping[str, float]

    def summary(self) -> dict[str, float]:
        """Flat numbers for a curve."""
        speed = round(self.pairs_per_second, 1)
        return {"epoch": self.epoch, "step": self.step, "loss": self.loss, "pairs_per_second": speed, **{f"val_{k}": v for k, v in self.validation.items()}}


@dataclass(frozen=True)
class Hooks:
    """What the composition root adds to the loop.

    Attributes:
        validate: the model, in evaluation mode → named numbers, after every epoch.
        save: keep the model as the last good checkpoint; returns where it lies.
        log: named numbers at a step.
    """

    validate: Callable[[DualEncoder], Mapping[str, float]]
    save: Callable[[DualEncoder], str]
    log: Callable[[Mapping[str, float], int], None]


def fit(
    model: DualEncoder, train: PairTable, texts: TextCache, config: TrainingConfig, *, seed: int, hooks: Hooks
) -> list[Epoch]:
    """Train image tower, heads and logit scale against the frozen, cached text features.

    Raises:
        UsageError: fewer training pictures than one batch.
        CommandError: the loss is no longer finite; the last good checkpoint stays where ``save`` put it.
    """
    steps_per_epoch = len(train) // config.batch_size
    if steps_per_epoch == 0:
        raise UsageError(f"training.batch_size is {config.batch_size}, but only {len(train)} pictures to train on")
    trained = [p for name, p in model.named_parameters() if not name.startswith("text_tower.")]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        fused=True,
    )
    total = config.epochs * steps_per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(total, config.warmup_fraction))
    batches = Batches(train, texts, config, seed=seed)
    epochs: list[Epoch] = []
    saved = "no checkpoint yet"
    with progress_bar("training", total) as advance:
        for number in range(1, config.epochs + 1):
            model.train()
            model.text_tower.eval()
            begin, losses = time.perf_counter(), []
            for images, text in batches.epoch(number):
                terms = step(model, images, text, trained, optimizer, config)
                schedule.step()
                losses.append(terms["loss"])
                done = (number - 1) * steps_per_epoch + len(losses)
                if not math.isfinite(terms["loss"]):
                    raise CommandError(
                        f"training.learning_rate {config.learning_rate} diverged: the loss is {terms['loss']} at "
                        f"step {done} of {total} (epoch {number}); last good checkpoint: {saved}"
                    )
                speed = len(losses) * config.batch_size / (time.perf_counter() - begin)
                advance(1, f"loss {np.mean(losses[-50:]):.3f}  {speed:.0f} pairs/s")
                if done % LOG_EVERY == 0:
                    rate = schedule.get_last_lr()[0]
                    hooks.log({**{f"train/{k}": v for k, v in terms.items()}, "train/learning_rate": rate}, done)
            model.eval()
            ended = Epoch(number, done, float(np.mean(losses)), speed, hooks.validate(model))
            saved = f"{hooks.save(model)} (epoch {number})"
            hooks.log({**{f"val/{k}": v for k, v in ended.validation.items()}, "train/pairs_per_second": speed}, done)
            say(_line(ended, config.epochs))
            epochs.append(ended)
    return epochs


def step(
    model: DualEncoder,
    images: Tensor,
    text: Tensor,
    trained: list[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    config: TrainingConfig,
) -> dict[str, float]:
    """One update; returns the terms of the loss, their sum and the gradient norm.

    A batch whose loss is not finite changes nothing.
    """
    with autocast(images.device, config.precision):
        image = model.encode_image(images).embedding
        projected = model.project_text(text)
    terms = JSDLoss()(image, projected, shifted(projected), model.logit_scale.exp())
    loss = torch.stack(list(terms.values())).sum()
    values = {name: term.item() for name, term in terms.items()} | {"loss": loss.item()}
    if math.isfinite(values["loss"]):
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        values["gradient_norm"] = nn.utils.clip_grad_norm_(trained, config.clip_norm).item()
        optimizer.step()
    return values | {"logit_scale": model.logit_scale.exp().item()}


class Batches:
    """Augmented pictures with the features of one caption each; every epoch in a new order."""

    def __init__(self, train: PairTable, texts: TextCache, config: TrainingConfig, *, seed: int) -> None:
        self.train, self.texts, self.config, self.seed = train, texts, config, seed
        self.device = torch.device(resolve_device(config.device))
        self.augment = Augment(scale=(config.crop_scale, 1.0), flip=config.flip, jitter=config.jitter)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches ``(n, 3, H, W)``, ``(n, f)``; determined by seed and epoch number; no partial batch."""
        rng = np.random.default_rng((self.seed, number))
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        order = rng.permutation(len(self.train))
        size = self.config.batch_size
        for start in range(0, len(order) - size + 1, size):
            indices = order[start : start + size]
            pixels = self.train.pixels(indices).to(self.device, non_blocking=True)
            images, mirrored = self.augment(pixels, generator)
            yield images, self.texts.draw(indices, mirrored, rng).to(self.device, non_blocking=True)


def resolve_device(name: str) -> str:
    """``auto`` → ``cuda`` where there is one, else ``cpu``."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def warmup_cosine(total: int, warmup_fraction: float) -> Callable[[int], float]:
    """Factor of the learning rate by step: linear from 1/warm-up to 1, then cosine to 0."""
    warmup = round(total * warmup_fraction)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

    return factor


def _line(epoch: Epoch, total: int) -> str:
    numbers = "  ".join(f"{name} {value:.3f}" for name, value in epoch.validation.items())
    return f"epoch {epoch.epoch}/{total}  loss {epoch.loss:.3f}  {epoch.pairs_per_second:.0f} pairs/s  val {numbers}"
