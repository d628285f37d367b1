"""What a configuration may hold: every value out of range, all at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from clip_lite.config import TrainConfig

# Below, a ResNet's last stage sees 1x1 maps, for which oneDNN's bfloat16 weight gradients are garbage (2.14).
MIN_IMAGE_SIZE = 32

# key → (smallest, largest) allowed value; an open bound is None
INCLUSIVE: dict[str, tuple[float | None, float | None]] = {
    "seed": (0, None),
    "data.image_size": (MIN_IMAGE_SIZE, None),
    "data.workers": (1, None),
    "data.fit_pictures": (100, None),
    "model.text_layers": (1, None),
    "model.embedding_dim": (2, None),
    "objective.negatives_per_pair": (1, None),
    "optimizer.momentum": (0, 1),
    "optimizer.weight_decay": (0, None),
    "optimizer.lookahead_alpha": (0, 1),
    "optimizer.lookahead_steps": (1, None),
    "augment.flip": (0, 1),
    "training.epochs": (1, None),
    "training.batch_size": (2, None),
    "training.accumulation": (1, None),
    "checkpoint.every_steps": (1, None),
    "checkpoint.keep": (1, None),
    "mitigation.strength": (0, 1),
    "audit.resamples": (100, None),
    "audit.permutations": (100, None),
    "audit.examples": (0, None),
}
ABOVE_ZERO = (
    "optimizer.learning_rate",
    "optimizer.text_learning_rate",
    "optimizer.head_learning_rate",
    "optimizer.clip_norm",
)
WHOLE_BATCH = ("infonce", "siglip")
VALIDATION = ("i2t_recall_10", "t2i_recall_10")


def problems(config: TrainConfig) -> Iterator[str]:
    """Every value out of range or at odds with another, as ``key is value, expected …``."""
    nested = asdict(config)
    for key, (low, high) in INCLUSIVE.items():
        value = _value(nested, key)
        if value is not None and not ((low is None or value >= low) and (high is None or value <= high)):
            expected = f"at least {low}" if high is None else f"from {low} to {high}"
            yield f"{key} is {value}, expected {expected}"
    for key in ABOVE_ZERO:
        value = _value(nested, key)
        if value is not None and value <= 0:
            yield f"{key} is {value}, expected above 0"
    yield from _shares(config)
    yield from _contradictions(config)


def _value(nested: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        nested = nested[part]
    return nested


def _shares(config: TrainConfig) -> Iterator[str]:
    data, augment, warmup = config.data, config.augment, config.optimizer.warmup_fraction
    for key, value in (("val", data.val_fraction), ("test", data.test_fraction)):
        if not 0 < value < 0.5:
            yield f"data.{key}_fraction is {value}, expected between 0 and 0.5"
    if not 0 <= data.skip_limit < 1:
        yield f"data.skip_limit is {data.skip_limit}, expected from 0 to below 1"
    if not 0 < data.fraction <= 1:
        yield f"data.fraction is {data.fraction}, expected above 0, up to 1"
    if not 0 < augment.crop_scale <= 1:
        yield f"augment.crop_scale is {augment.crop_scale}, expected above 0, up to 1"
    if not all(0 <= strength <= 1 for strength in augment.jitter):
        yield f"augment.jitter is {augment.jitter}, expected four values from 0 to 1"
    if not 0 <= warmup < 1:
        yield f"optimizer.warmup_fraction is {warmup}, expected from 0 to below 1"


def _contradictions(config: TrainConfig) -> Iterator[str]:
    objective, training = config.objective, config.training
    if objective.loss in WHOLE_BATCH and (objective.negatives, objective.negatives_per_pair) != (
        "shifted",
        1,
    ):
        yield (
            f"objective.loss {objective.loss} contrasts with the whole batch: objective.negatives and "
            "negatives_per_pair have no effect, leave them at shifted and 1"
        )
    if objective.negatives == "shifted" and objective.negatives_per_pair != 1:
        yield "objective.negatives shifted is one negative per pair: for several take rolled, hard or cached"
    if objective.negatives == "cached" and config.model.text_training != "frozen":
        yield "objective.negatives cached needs model.text_training frozen, whose captions are cached"
    if config.checkpoint.best_by not in VALIDATION:
        yield f"checkpoint.best_by is {config.checkpoint.best_by!r}, expected {' or '.join(VALIDATION)}"
    if training.batch_size % training.accumulation:
        yield (
            f"training.accumulation is {training.accumulation}, expected a divisor of "
            f"training.batch_size {training.batch_size}"
        )
    elif training.batch_size // training.accumulation < 2:
        yield f"training.accumulation is {training.accumulation}, expected parts of at least two pairs"
