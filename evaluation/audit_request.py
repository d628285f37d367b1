"""What an audit is asked for, refused before any picture is read: ``python -m evaluation.audit``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from clip_lite.config import AuditConfig, DataConfig, TrackingConfig, TrainConfig
from clip_lite.config_checks import problems
from clip_lite.editable import EditableEncoder
from clip_lite.errors import UsageError
from clip_lite.pretrained import load_encoder
from clip_lite.progress import say
from clip_lite.runs import AUDIT
from clip_lite.tracking import logged_model_id
from debias.attributes import ProtectedAttribute
from debias.eraser import Eraser
from evaluation.gate import Gate
from evaluation.metrics import NEED_TEXT, Metric, chosen_metrics, families
from evaluation.prompt_file import PromptSet, available_prompt_sets
from evaluation.report.files import FORMATS
from evaluation.systems import TEXT


@dataclass
class AuditCommand:
    """Audit a model.

    Attributes:
        model: folder of a model, ours or of transformers or open_clip, or a name as above.
        attribute: a shipped name (gender), an intersection (gender*skin_tone) or the path of a YAML file;
            null audits utility alone.
        output: new folder for audit.json and what is made from it; null makes audits/<model>-<time>.
        format: html (report.html), card (README.md, a model card for a hub) or several; json: neither.
        eraser: folder of an eraser in place of those stored in the model.
        on: what that eraser edits.
        data: pictures with captions, at the model's size.
        metrics: names, see above: leakage or [leakage, retrieval]; null takes all.
        prompts: of labelling: shipped names (people_labels, professions ...) or paths of YAML files in the
            form of configs/prompts/professions.yaml; null takes all shipped ones.
        interval: "bca" where a metric is a smooth function of sums, or "percentile" throughout.
        resamples: bootstrap resamples, clustered by stem (emoji) or picture.
        permutations: label permutations of the null.
        fail_if: a rule of a release gate; give the flag once for each.
        baseline: an audited RUN (a folder or an MLflow run id) that rules with "- baseline" compare with.
        examples: test pictures shown in the report.
        track: log to MLflow.
        tracking: where MLflow finds the audit.
        device: "auto" takes CUDA where there is one.
        seed: of attackers and permutations; bootstrap resamples are the same in all audits, which pairs them.
    """

    model: str
    attribute: str | None = "gender"
    output: Path | None = None
    format: list[str] | str = field(default_factory=lambda: list(FORMATS))
    eraser: Path | None = None
    on: Literal["embedding", "features", "text"] = "embedding"
    data: DataConfig = field(default_factory=DataConfig)
    metrics: list[str] | str | None = None
    prompts: list[str] | str | None = None
    interval: Literal["bca", "percentile"] = "bca"
    resamples: int = 1000
    permutations: int = 1000
    fail_if: list[str] = field(default_factory=list)
    baseline: str | None = None
    examples: int = 12
    track: bool = True
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    device: str = "auto"
    seed: int = 0


class Request(NamedTuple):
    """A request that can be served."""

    config: AuditCommand
    attribute: ProtectedAttribute | None
    metrics: Mapping[str, Metric]
    prompts: Sequence[PromptSet]
    model: EditableEncoder
    erasers: Mapping[str, Eraser]
    gate: Gate
    logged_model: str | None
    output: Path


def checked(config: AuditCommand) -> Request:
    """Everything that can be refused before any picture is read.

    Raises:
        UsageError: naming the key.
    """
    audit = AuditConfig(
        resamples=config.resamples, permutations=config.permutations, examples=config.examples
    )
    if unknown := [name for name in listed(config.format) or () if name not in FORMATS]:
        raise UsageError(f"--format: there is no {unknown[0]!r}, expected some of {', '.join(FORMATS)}")
    wrong = problems(TrainConfig(data=config.data, seed=config.seed, audit=audit))
    if said := [line.replace("audit.", "") for line in wrong]:
        raise UsageError("; ".join(said))
    try:
        attribute = ProtectedAttribute.load(config.attribute) if config.attribute else None
    except ValueError as error:
        raise UsageError(f"--attribute: {error}") from error
    prompts = [PromptSet.load(name) for name in listed(config.prompts) or available_prompt_sets()]
    chosen = chosen_metrics(listed(config.metrics), key="--metrics", attribute=attribute)
    gate = Gate.checked(config.fail_if, config.baseline, families=families(chosen))
    model = load_encoder(config.model)
    logged_model = logged_model_id(config.model)
    if config.tracking.register and logged_model is None:
        raise UsageError(f"--tracking.register: {config.model} is no LoggedModel of MLflow")
    metrics = answerable(chosen, model, asked=config.metrics is not None)
    erasers = chosen_erasers(config, model)
    output = config.output or Path("audits") / f"{short_name(config.model)}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    if (output / AUDIT).exists():
        raise UsageError(f"--output {output} holds another audit: choose a new folder")
    if taken := next(
        (path for path in (output, *output.parents) if path.exists() and not path.is_dir()), None
    ):
        raise UsageError(f"--output {output}: {taken} is a file, choose a new folder")
    return Request(config, attribute, metrics, prompts, model, erasers, gate, logged_model, output)


def listed(names: list[str] | str | None) -> list[str] | None:
    """One name, or several."""
    return [names] if isinstance(names, str) else names


def short_name(model: str) -> str:
    """Of a model, for a folder."""
    path = Path(model).resolve() if Path(model).exists() else Path(re.sub(r"[^\w./-]+", "-", model))
    return path.parent.name if path.name == "model" and path.parent.name else path.name


def answerable(metrics: Mapping[str, Metric], model: EditableEncoder, *, asked: bool) -> Mapping[str, Metric]:
    """The metrics that a model can answer.

    Raises:
        UsageError: some that it cannot are asked for by name.
    """
    if model.has_text or not (without := [name for name in metrics if name in NEED_TEXT]):
        return metrics
    if asked:
        raise UsageError(f"--metrics: {', '.join(without)} cannot be had: the model has no text tower")
    say(f"no text tower: {', '.join(without)} are left out")
    return {name: metric for name, metric in metrics.items() if name not in NEED_TEXT}


def chosen_erasers(config: AuditCommand, model: EditableEncoder) -> Mapping[str, Eraser]:
    """What is compared with the unedited model: the stored erasers, or the one of ``--eraser``.

    Raises:
        UsageError: no eraser there, or one that does not fit the model.
    """
    if config.eraser is None:
        if config.on != "embedding":
            raise UsageError(f"--on {config.on} says what --eraser edits: give --eraser DIR too")
        return model.attached
    try:
        eraser = Eraser.load(config.eraser)
        if config.on != TEXT:
            model.attach({config.on: eraser})
        elif (eraser.kind, eraser.dim) != ("affine", model.embedding_dim):
            raise ValueError(f"{eraser.kind} of dim {eraser.dim}, expected affine of {model.embedding_dim}")
    except ValueError as error:
        raise UsageError(f"--eraser {config.eraser}: {error}") from error
    return {config.on: eraser}
