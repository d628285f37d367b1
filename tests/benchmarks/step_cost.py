"""A step against open_clip's and against projecting twice: ``python tests/benchmarks/step_cost.py``.

The same towers, batch (64, in memory) and bfloat16 autocast. Ours: clipping, schedule, numbers read. Theirs:
``open_clip_train.train.train_one_epoch`` with its ClipLoss, clipping and logging, 2 batches a call. Twice:
our towers with the shifted text features run through the text head again, bare. About 3 minutes.
"""

from __future__ import annotations

import logging
import statistics
import sys
import types
import warnings
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from common import bare_step, built_from, configured, machine, ratio, take_turns, whole_step

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from open_clip.loss import ClipLoss
    from open_clip_train.train import train_one_epoch

STEPS = 2


class Theirs(nn.Module):
    """Our towers as open_clip's trainer expects a model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.logit_scale = model.logit_scale

    def forward(self, images: torch.Tensor, texts: torch.Tensor) -> dict[str, torch.Tensor]:
        return {
            "image_features": self.model.encode_image(images).embedding,
            "text_features": self.model.project_text(texts),
            "logit_scale": self.logit_scale.exp(),
        }


class Batches(list):  # type: ignore[type-arg]
    """A dataloader of one batch again and again."""

    @property
    def num_batches(self) -> int:
        return len(self)

    @property
    def num_samples(self) -> int:
        return sum(len(images) for images, _ in self)


def main() -> None:
    """Print seconds and ratios."""
    logging.disable(logging.INFO)
    precision = "amp_bf16"
    built, _ = built_from(configured(training={"precision": "bfloat16"}))
    other, _ = built_from(configured(training={"precision": "bfloat16"}))
    batch = next(built.batches.epoch(1))
    arguments = types.SimpleNamespace(
        device="cpu", precision=precision, distill=False, accum_freq=1, skip_scheduler=True, horovod=False,
        grad_clip_norm=10.0, rank=0, local_rank=0, world_size=1, batch_size=64, log_every_n_steps=100,
        wandb=False,
        log_local=False, distributed=False,
    )  # fmt: skip
    loader = Batches([(batch.images, batch.text)] * STEPS)
    data = {"train": types.SimpleNamespace(dataloader=loader, set_epoch=lambda _: None)}
    model, loss, optimizer = Theirs(other.model), ClipLoss(), other.step.optimizer

    def repeated(one: object) -> object:
        return lambda: [one() for _ in range(STEPS)]  # type: ignore[operator]

    taken = take_turns(
        {
            "ours": repeated(whole_step(built, batch)),
            "open_clip": lambda: train_one_epoch(
                model, data, loss, 0, optimizer, None, None, None, arguments
            ),
            "projecting twice": repeated(bare_step(built, batch, project_twice=True)),
        },  # type: ignore[dict-item]
        rounds=20,
    )
    for name, seconds in taken.items():
        print(f"{name}: {statistics.median(seconds) / STEPS * 1e3:.1f} ms a step")
    for name in ("open_clip", "projecting twice"):
        print(f"our step / {name}: {ratio(taken, 'ours', name)}, goal 1.0")


if __name__ == "__main__":
    print(machine())
    main()
