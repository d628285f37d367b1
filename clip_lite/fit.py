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
from clip_lite.precision import autocast, resolve_device
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
        return {
            "epoch": self.epoch,
            "step": self.step,
            "loss": self.loss,
            "pairs_per_second": speed,
            **{f"val_{k}": v for k, v in self.validation.items()},
        }


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
    model: DualEncoder,
    train: PairTable,
    texts: TextCache,
    config: TrainingConfig,
    *,
    seed: int,
    hooks: Hooks,
) -> list[Epoch]:
    """Train image tower, heads and logit scale against the frozen, cached text features.

    Raises:
        UsageError: fewer training pictures than one batch.
        CommandError: the loss is no longer finite; the last good checkpoint stays where ``save`` put it.
    """
    batches = Batches(train, texts, config, seed=seed)
    if batches.per_epoch == 0:
        raise UsageError(
            f"training.batch_size is {config.batch_size}, but only {len(train)} pictures to train on"
        )
    loop = Loop(model, config, total=config.epochs * batches.per_epoch, hooks=hooks)
    epochs: list[Epoch] = []
    with progress_bar("training", loop.total) as advance:
        for number in range(1, config.epochs + 1):
            epochs.append(loop.epoch(number, batches, advance))
            say(_line(epochs[-1], config.epochs))
    return epochs


class Loop:
    """Optimiser, schedule and counters of one training."""

    def __init__(self, model: DualEncoder, config: TrainingConfig, *, total: int, hooks: Hooks) -> None:
        self.model, self.config, self.total, self.hooks = model, config, total, hooks
        self.trained = [p for name, p in model.named_parameters() if not name.startswith("text_tower.")]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in self.trained if p.ndim > 1], "weight_decay": config.weight_decay},
                {"params": [p for p in self.trained if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            fused=True,
        )
        factor = warmup_cosine(total, config.warmup_fraction)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)
        self.done = 0
        self.saved = "none yet"

    def epoch(self, number: int, batches: Batches, advance: Callable[[int, str], None]) -> Epoch:
        """One pass, then validation and checkpoint."""
        self.model.train()
        self.model.text_tower.eval()
        begin, losses = time.perf_counter(), []
        for images, text in batches.epoch(number):
            terms = self.step(images, text)
            self.done += 1
            losses.append(terms["loss"])
            speed = len(losses) * self.config.batch_size / (time.perf_counter() - begin)
            advance(1, f"loss {np.mean(losses[-50:]):.3f}  {speed:.0f} pairs/s")
            if not math.isfinite(terms["loss"] + terms["gradient_norm"]):
                raise CommandError(
                    f"the loss is {terms['loss']} (gradient norm {terms['gradient_norm']}) at step "
                    f"{self.done} of {self.total} (epoch {number}), try "
                    f"a lower training.learning_rate; last good checkpoint: {self.saved}"
                )
            if self.done % LOG_EVERY == 0:
                self.hooks.log({f"train/{name}": value for name, value in terms.items()}, self.done)
        self.model.eval()
        ended = Epoch(number, self.done, float(np.mean(losses)), speed, self.hooks.validate(self.model))
        self.saved = f"{self.hooks.save(self.model)} (epoch {number})"
        numbers = {f"val/{name}": value for name, value in ended.validation.items()}
        self.hooks.log({**numbers, "train/pairs_per_second": speed}, self.done)
        return ended

    def step(self, images: Tensor, text: Tensor) -> dict[str, float]:
        """One update; returns the loss, its terms, the gradient norm, the logit scale and the learning rate.

        A batch whose loss or gradient is not finite changes no weight.
        """
        with autocast(images.device, self.config.precision):
            image = self.model.encode_image(images).embedding
            projected = self.model.project_text(text)
        scale = self.model.logit_scale.exp()
        terms = JSDLoss()(image, projected, shifted(projected), scale)
        loss = torch.stack(list(terms.values())).sum()
        values: dict[str, float] = {name: term.item() for name, term in terms.items()}
        values |= {"loss": loss.item(), "logit_scale": scale.item()}
        values["learning_rate"] = float(self.schedule.get_last_lr()[0])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.trained, self.config.clip_norm)
        values["gradient_norm"] = norm.item()
        if math.isfinite(values["loss"] + values["gradient_norm"]):
            self.optimizer.step()
            self.schedule.step()
        return values


class Batches:
    """Augmented pictures with the features of one caption each; every epoch in a new order."""

    def __init__(self, train: PairTable, texts: TextCache, config: TrainingConfig, *, seed: int) -> None:
        self.train, self.texts, self.config, self.seed = train, texts, config, seed
        self.device = resolve_device(config.device)
        self.per_epoch = len(train) // config.batch_size
        self.augment = Augment(scale=(config.crop_scale, 1.0), flip=config.flip, jitter=config.jitter)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches ``(n, 3, H, W)``, ``(n, f)``; determined by seed and epoch number; no partial batch."""
        rng = np.random.default_rng((self.seed, number))
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        size = self.config.batch_size
        order = rng.permutation(len(self.train))[: self.per_epoch * size]
        for indices in order.reshape(-1, size):
            pixels = self.train.pixels(indices).to(self.device, non_blocking=True)
            images, mirrored = self.augment(pixels, generator)
            yield images, self.texts.draw(indices, mirrored, rng).to(self.device, non_blocking=True)


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
    speed = f"{epoch.pairs_per_second:.0f} pairs/s"
    return f"epoch {epoch.epoch}/{total}  loss {epoch.loss:.3f}  {speed}  val {numbers}"
