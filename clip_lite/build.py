"""From configuration and corpus to what is trained."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch

from clip_lite.config import TrainConfig
from clip_lite.data.batches import Batches
from clip_lite.data.cache import cache_root
from clip_lite.data.captions import AS_WRITTEN, Speech
from clip_lite.data.pairs import PairTable
from clip_lite.data.transforms import Augment
from clip_lite.distributed import main_first, world_size
from clip_lite.errors import UsageError
from clip_lite.image_towers import load_image_weights
from clip_lite.losses import load_loss
from clip_lite.model import DualEncoder
from clip_lite.negatives import load_negatives
from clip_lite.objective import ExtraTerm, Objective
from clip_lite.step import Step
from clip_lite.text_cache import LiveTexts, TextCache
from clip_lite.text_towers import TextTower


class Built(NamedTuple):
    """What a training consists of.

    ``untrained`` is the model with random image weights, for context; ``weights`` says where the image
    tower's weights come from.
    """

    step: Step
    batches: Batches
    untrained: DualEncoder
    weights: str

    @property
    def model(self) -> DualEncoder:
        """The model that is trained."""
        return self.step.objective.model


def build(
    config: TrainConfig,
    pairs: PairTable,
    device: torch.device,
    *,
    speech: Speech = AS_WRITTEN,
    extra_terms: Sequence[ExtraTerm] = (),
) -> Built:
    """Model, objective, optimiser and batches, on the device; the same weights on every process.

    Args:
        speech: what is made of captions.
        extra_terms: of the objective, beside the contrastive loss.

    Raises:
        UsageError: a tower, loss or batch size that cannot be had.
    """
    check_processes(config, device)
    loss = load_loss(config.objective.loss, config.objective.loss_options)
    negatives = load_negatives(
        config.objective.negatives, k=config.objective.negatives_per_pair, by=config.objective.hard_by
    )
    text_tower = TextTower.load(
        config.model.text_tower,
        training=config.model.text_training,
        pooling=config.model.text_pooling,
        layers=config.model.text_layers,
        seed=config.seed,
    )
    model, untrained, weights = models_of(
        config, text_tower, device, initial_scale=getattr(loss, "initial_scale", 1 / 0.07)
    )
    objective = Objective(
        model,
        loss,
        negatives,
        precision=config.training.precision,
        matched=bool(config.debias and config.mitigation.matched_negatives),
        extra_terms=extra_terms,
    ).to(device)
    if config.training.sync_batch_norm:
        objective = torch.nn.SyncBatchNorm.convert_sync_batchnorm(objective)
    batches = Batches(
        pairs,
        texts_of(text_tower, pairs, speech),
        Augment(
            scale=(config.augment.crop_scale, 1.0), flip=config.augment.flip, jitter=config.augment.jitter
        ),
        batch_size=config.training.batch_size,
        seed=config.seed,
        device=device,
        extra=negatives.k if negatives.uses_cache else 0,
    )
    step = Step(
        objective,
        config.optimizer,
        steps=config.training.epochs * batches.per_epoch,
        accumulation=config.training.accumulation,
        seed=config.seed,
        device=device,
    )
    return Built(step, batches, untrained, weights)


def models_of(
    config: TrainConfig, text_tower: TextTower, device: torch.device, *, initial_scale: float
) -> tuple[DualEncoder, DualEncoder, str]:
    """The model, the same with random image weights, and where the image tower's weights come from.

    Raises:
        UsageError: an image tower or weights that cannot be had.
    """
    torch.manual_seed(config.seed)
    model = DualEncoder(
        text_tower,
        image_tower=config.model.image_tower,
        small_images=config.model.small_images,
        embedding_dim=config.model.embedding_dim,
        image_size=config.data.image_size,
        initial_scale=initial_scale,
    )
    shared = {id(text_tower): text_tower} if text_tower.frozen else {}
    untrained = copy.deepcopy(model, shared).eval()
    weights = load_image_weights(
        model.image_tower, config.model.image_tower, source=config.model.image_weights
    )
    for new in (model, untrained):
        new.to(device).to(memory_format=torch.channels_last)
    return model, untrained, weights


def texts_of(tower: TextTower, pairs: PairTable, speech: Speech) -> TextCache | LiveTexts:
    """Cached features where the tower is frozen and the captions are at hand, else tokens."""
    if not tower.frozen or pairs.streamed:
        return LiveTexts(tower, speech)
    with main_first():
        return TextCache.build(tower, pairs.records, cache=cache_root(), speech=speech)


def check_processes(config: TrainConfig, device: torch.device) -> None:
    """Refuse a batch that the processes cannot share equally, and what only CUDA has.

    Raises:
        UsageError: naming the key.
    """
    training, processes = config.training, world_size()
    if training.batch_size % (processes * training.accumulation):
        raise UsageError(
            f"training.batch_size is {training.batch_size}, expected a multiple of {processes} processes x "
            f"{training.accumulation} parts (training.accumulation)"
        )
    if training.batch_size // (processes * training.accumulation) < 2:
        raise UsageError(
            f"training.batch_size {training.batch_size} leaves a process fewer than two pairs at a time"
        )
    if training.sync_batch_norm and device.type != "cuda":
        raise UsageError("training.sync_batch_norm needs CUDA: on a CPU each process normalises its own part")
