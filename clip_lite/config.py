"""The configuration: YAML files and command-line flags are two spellings of these dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

SourceName = Literal[
    "emoji",
    "coco",
    "webdataset",
    "flickr30k",
    "folder",
    "voc",
    "cifar",
    "imagenet",
    "refcoco",
    "fairface",
    "utkface",
    "celeba",
    "waterbirds",
    "facet",
    "phase",
    "coco_gender",
]


@dataclass
class DataConfig:
    """What to train on.

    Attributes:
        source: "emoji" is fetched from the npm registry once and cached; every other one is a folder in the
            form in which it is published: python -m clip_lite.data.prepare sources lists them.
        root: that folder.
        annotations: a file besides that folder: Karpathy's splits (coco, flickr30k), one of several files of
            expressions (refcoco), or the table in place of that of folder, facet, waterbirds or coco_gender.
        labels: CSV, JSONL or Parquet whose first column names pictures by id, file name or number; its other
            columns are labels of theirs.
        skip_limit: share of pictures that may be left out, for they are missing, damaged or say nothing.
        image_size: side of the square pictures in pixels.
        val_fraction: share kept for validation after every epoch (emoji: of the stems, coco: of train2017).
        test_fraction: share kept for the audit (emoji: of the stems), where a source has no test split.
        split_seed: seed of the split; independent of the training seed.
        fraction: share of the training pictures that is used.
        workers: threads that decode pictures, per process.
        pixel_cache: decode once and keep the pixels, memory-mapped, in the cache folder.
        fit_pictures: erasers and audit read at most so many training pictures.
    """

    source: SourceName = "emoji"
    root: Path | None = None
    annotations: Path | None = None
    labels: Path | None = None
    skip_limit: float = 0.01
    image_size: int = 64
    val_fraction: float = 0.1
    test_fraction: float = 0.25
    split_seed: int = 0
    fraction: float = 1.0
    workers: int = 2
    pixel_cache: bool = False
    fit_pictures: int = 20_000


@dataclass
class ModelConfig:
    """What to train.

    Attributes:
        image_tower: a torchvision classifier (resnet18, resnet50, vit_b_16 ...) or timm/NAME.
        image_weights: "random", or "pretrained" on ImageNet (timm/tf_efficientnet_lite0 needs no network).
        small_images: 3x3 stem in place of a ResNet's 7x7, for pictures of 32 to 96 px.
        text_tower: "all-MiniLM-L6-v2" (installed with this package), a local folder or a hub name.
        text_training: "frozen" towers are run once per caption and cached; "trained" starts from the
            tower's weights; "scratch" from random ones.
        text_pooling: "mean" over tokens, or the model's own "pooler" (the paper's choice with BERT).
        text_layers: keep only the first so many layers of the text tower.
        embedding_dim: width of the shared space.
    """

    image_tower: str = "resnet18"
    image_weights: Literal["random", "pretrained"] = "random"
    small_images: bool = True
    text_tower: str = "all-MiniLM-L6-v2"
    text_training: Literal["frozen", "trained", "scratch"] = "frozen"
    text_pooling: Literal["mean", "pooler"] = "mean"
    text_layers: int | None = None
    embedding_dim: int = 512


@dataclass
class ObjectiveConfig:
    """What is minimised.

    Attributes:
        loss: "jsd" (the paper), "infonce" (CLIP), "siglip", or your own as package.module.Class.
        loss_options: keyword arguments of the loss; jsd: {reduction: mean or sum} over several negatives.
        negatives: "shifted": the next caption of the batch (the paper); "rolled": the next k; "hard": the k
            hardest of up to 64 in the batch; "cached": k captions from the whole corpus (frozen text tower).
            Never the picture's own or a near-same caption. infonce and siglip use the whole batch instead.
        negatives_per_pair: k.
        hard_by: "hard" ranks by the score with the picture or by the similarity of the texts.
    """

    loss: str = "jsd"
    loss_options: dict[str, Any] = field(default_factory=dict)
    negatives: Literal["shifted", "rolled", "hard", "cached"] = "shifted"
    negatives_per_pair: int = 1
    hard_by: Literal["score", "text"] = "score"


@dataclass
class OptimizerConfig:
    """How weights move.

    Attributes:
        name: "adamw", or "sgd" with momentum.
        learning_rate: peak of the schedule.
        text_learning_rate: peak for the text tower; null takes learning_rate.
        head_learning_rate: peak for heads, logit scale and a loss's own weights; null takes learning_rate.
        momentum: of sgd.
        weight_decay: on weight matrices only (not on bias, norm and logit scale).
        lookahead: average slow and fast weights every lookahead_steps steps (Zhang et al. 2019).
        lookahead_alpha: how far the slow weights move.
        lookahead_steps: k.
        warmup_fraction: share of the steps in which the rate climbs linearly; then cosine to 0.
        clip_norm: gradients are scaled down to this global norm.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    text_learning_rate: float | None = None
    head_learning_rate: float | None = None
    momentum: float = 0.9
    weight_decay: float = 0.05
    lookahead: bool = False
    lookahead_alpha: float = 0.5
    lookahead_steps: int = 5
    warmup_fraction: float = 0.1
    clip_norm: float = 10.0


@dataclass
class AugmentConfig:
    """How training pictures are varied.

    Attributes:
        crop_scale: smallest area of the random crop as a share of the picture.
        flip: probability of mirroring a picture (left and right change places in its caption).
        jitter: strength of brightness, contrast, saturation and hue changes.
    """

    crop_scale: float = 0.6
    flip: float = 0.5
    jitter: tuple[float, float, float, float] = (0.2, 0.2, 0.2, 0.02)


@dataclass
class TrainingConfig:
    """How long, on what, in which precision.

    Attributes:
        epochs: passes over the training pictures; one caption is drawn per picture and pass.
        batch_size: pairs per step, over all processes together.
        accumulation: a step runs in so many parts; jsd takes its negatives inside a part, infonce and siglip
            still see the whole batch (parts are run twice).
        precision: "auto" is bfloat16 autocast where the hardware has it, else float32; "float16" scales
            the loss.
        sync_batch_norm: batch norm over all processes (CUDA) in place of each process's own part.
        device: "auto" takes CUDA where there is one.
    """

    epochs: int = 10
    batch_size: int = 64
    accumulation: int = 1
    precision: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    sync_batch_norm: bool = False
    device: str = "auto"


@dataclass
class CheckpointConfig:
    """What is kept to continue from.

    Attributes:
        every_steps: write a checkpoint after so many steps, besides every epoch's end; null: epochs only.
        keep: so many newest checkpoints stay; the best one stays besides.
        best_by: validation number, higher is better, that decides which one is the best.
    """

    every_steps: int | None = None
    keep: int = 2
    best_by: str = "i2t_recall_10"


@dataclass
class MitigationConfig:
    """How the attribute of --debias is suppressed: in training by captions, and after it by an eraser.

    Attributes:
        neutral_captions: train on captions in which the attribute's neutral words stand for those of its
            groups ("a person waves" for "a man waves"); the model rewords what it is asked in the same way.
        matched_negatives: take negatives from pictures whose captions name the same group, so that the group
            never helps to tell pairs apart; infonce and siglip, which contrast with the whole batch, do not.
        term: a term beside the loss: "hsic", or your own as package.module.Class; null for none.
        term_options: keyword arguments of the term; hsic: {weight: 1.0}.
        method: what is fitted on the trained model and stored in it. "caption_leace" reads groups from
            captions and removes what a linear probe could use, from features and embedding; "text_pca" is the
            paper's edit, the top text direction, from the embedding alone; "none"; python -m debias.fit
            --help explains the others.
        strength: how much of the edit is made, from 0, the unedited model, to 1; below 1 a linear attacker
            who trains anew loses nothing. All methods take it but pareto_shrink and random_direction.
        options: further keyword arguments of the method; text_pca: {k: 1}.
        force: store an eraser although the gate abstains, because it removes hardly anything or does harm.
    """

    neutral_captions: bool = True
    matched_negatives: bool = True
    term: str | None = None
    term_options: dict[str, Any] = field(default_factory=dict)
    method: str = "caption_leace"
    strength: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    force: bool = False


@dataclass
class AuditConfig:
    """What the audit at the end measures.

    Attributes:
        attribute: protected attribute to audit when --debias names none; null audits utility alone.
        metrics: names, e.g. [retrieval, leakage]; null takes all of retrieval, zero_shot, probe, grounding,
            context, leakage, geometry, ranking, association, editing, labelling, groups, amplification. Your
            own is package.module.function: (bench, attribute) in, a list of evaluation.results.Estimate out.
        interval: "bca" where a metric is a smooth function of sums, or "percentile" throughout.
        resamples: bootstrap resamples, clustered by stem (emoji) or picture.
        permutations: label permutations of the null.
        examples: test pictures shown in the report.
    """

    attribute: str | None = "gender"
    metrics: list[str] | None = None
    interval: Literal["bca", "percentile"] = "bca"
    resamples: int = 1000
    permutations: int = 1000
    examples: int = 12


@dataclass
class TrackingConfig:
    """Where MLflow finds the run. The store is MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.

    Attributes:
        experiment: MLflow experiment.
        run_name: MLflow run; null names it after corpus, attribute, method and seed.
        parent: id of the MLflow run in which this one is nested.
        register: registered model of which the model becomes a version, with what the audit found.
    """

    experiment: str = "clip-lite"
    run_name: str | None = None
    parent: str | None = None
    register: str | None = None


@dataclass
class TrainConfig:
    """Train CLIP-Lite, suppress a protected attribute, audit the result, log and report it.

    Attributes:
        debias: protected attribute to suppress: a shipped name (gender), the path of a YAML file, or an
            intersection (gender*skin_tone).
        output: folder for checkpoints/, model/, audit.json and report.html; null makes
            runs/<run name>-<time>.
        resume: "auto" continues the run in --output, else the newest unfinished one in runs/ with this
            configuration, and starts a new one where there is none; or the folder of a run.
        trained: folder of a run whose finished training is taken over, for another eraser or audit: only
            mitigation.method, strength, options and force may differ, and what is no part of training.
        seed: of initialisation, batches, augmentation, attackers and permutations.
    """

    debias: str | None = None
    output: Path | None = None
    resume: str | None = None
    trained: Path | None = None
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    mitigation: MitigationConfig = field(default_factory=MitigationConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
