"""One rank's step of the whole objective: ``python -m tests.clip_lite.step_worker FOLDER`` under torchrun."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from clip_lite.build import build
from clip_lite.config import DataConfig, ModelConfig, ObjectiveConfig, TrainConfig, TrainingConfig
from clip_lite.data.reading import Reading
from clip_lite.data.sources.coco import load_coco
from clip_lite.distributed import average, process_group, rank

LOSSES = ("jsd", "infonce", "siglip")
PARTS = {"jsd": 1, "infonce": 2, "siglip": 1}  # of each rank's share; the one process of jsd runs two


def gradients(folder: Path, loss: str, *, accumulation: int) -> dict[str, Any]:
    """Loss and gradients of the first batch; batch norm in evaluation mode, for a rank sees its part only."""
    config = TrainConfig(
        data=DataConfig(source="coco", root=folder / "coco", image_size=32),
        model=ModelConfig(
            image_tower="resnet18", text_tower=str(folder / "text"), text_training="trained", embedding_dim=16
        ),
        objective=ObjectiveConfig(loss=loss),
        training=TrainingConfig(batch_size=16, accumulation=accumulation, precision="float32", device="cpu"),
    )
    corpus = load_coco(folder / "coco", Reading(size=32))
    built = build(config, corpus.splits["train"], torch.device("cpu"))
    built.step.objective.eval()
    batch = next(built.batches.epoch(1))
    terms = built.step._backward(batch, 0)
    named = built.step.objective.named_parameters()
    return {
        "terms": {name: average(term) for name, term in terms.items()},
        "gradients": {name: p.grad for name, p in named if p.grad is not None},
        "captions": batch.caption,
    }


def main(folder: Path) -> None:
    """Leave ``RANK.pt``: what ``gradients`` gives for every loss."""
    with process_group(torch.device("cpu")):
        found = {loss: gradients(folder, loss, accumulation=PARTS[loss]) for loss in LOSSES}
        torch.save(found, folder / f"{rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
