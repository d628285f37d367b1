"""Audit a saved model on any data: ``python -m evaluation.audit``."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from textwrap import fill, indent
from typing import Literal, NamedTuple

import torch

from clip_lite.cli import guarded, parse
from clip_lite.config import AuditConfig, DataConfig, TrackingConfig, TrainConfig
from clip_lite.config_checks import problems
from clip_lite.data.corpora import load_corpus
from clip_lite.data.pairs import Corpus
from clip_lite.describe import describe_model, describe_run
from clip_lite.distributed import is_main, main_first, process_group
from clip_lite.editable import EditableEncoder
from clip_lite.errors import CommandError, UsageError
from clip_lite.precision import resolve_device
from clip_lite.pretrained import ACCEPTED, load_encoder
from clip_lite.progress import console, say
from clip_lite.runs import AUDIT, CONFIG, REPORT
from clip_lite.tracking import tracked_run
from debias.attributes import ProtectedAttribute
from debias.eraser import Eraser
from evaluation.embedding_store import stored_embeddings
from evaluation.inference import Inference
from evaluation.measure import audit_result, measure
from evaluation.metrics import NEED_TEXT, Metric, chosen_metrics, describe_metrics
from evaluation.population import check_auditable
from evaluation.prompt_file import PromptSet, available_prompt_sets
from evaluation.report.html import write_report
from evaluation.report.table import print_summary
from evaluation.results import AuditResult
from evaluation.systems import TEXT, Bench, Subject

PROG = "python -m evaluation.audit"
DESCRIPTION = f"""Audit a model: what it can do, what it tells about a protected attribute, and how sure
that is. Writes audit.json and report.html, prints a table, and logs a run to MLflow.

  {PROG} --model runs/NAME/model --attribute gender
      the embedded emoji corpus; the eraser stored in the model, off and on, against a random control
  {PROG} --model hf:openai/clip-vit-base-patch32 --data.source coco --data.root /data/coco
      a model of transformers, from a hub; --model takes
{indent(fill(ACCEPTED, 100), " " * 6)}
  {PROG} --config configs/audit_fairface.yaml --model DIR --data.root /data/fairface
      one of the configurations of published benchmarks
  {PROG} --model DIR --attribute gender --eraser erasers/hsic
      an eraser of python -m debias.fit in place of the stored one; --on text edits prompts alone
  {PROG} --model DIR --attribute gender --metrics '[leakage, my_metrics.own_caption]'
      some metrics, one of them your own: my_metrics.py in the current folder holds
      def own_caption(bench, attribute) and returns a list of evaluation.results.Estimate
  torchrun --nproc-per-node 8 -m evaluation.audit --model DIR ...
      pictures are embedded by all processes, measured by the first

Embeddings are kept in the cache folder (CLIP_LITE_CACHE) under a digest of model, data and transform: another
audit of the same model starts at once.

Metrics:
{describe_metrics()}

Exit codes: 0 done, 1 failed, or a metric failed (the others are written), 2 wrong usage.
"""


@dataclass
class AuditCommand:
    """Audit a model.

    Attributes:
        model: folder of a model, ours or of transformers or open_clip, or a name as above.
        attribute: a shipped name (gender), an intersection (gender*skin_tone) or the path of a YAML file;
            null audits utility alone.
        output: new folder for audit.json and report.html; null makes audits/<model>-<time>.
        eraser: folder of an eraser in place of those stored in the model.
        on: what that eraser edits.
        data: pictures with captions, at the model's size.
        metrics: names, see above: leakage or [leakage, retrieval]; null takes all.
        prompts: of labelling: shipped names (people_labels, professions ...) or paths of YAML files in the
            form of configs/prompts/professions.yaml; null takes all shipped ones.
        interval: "bca" where a metric is a smooth function of sums, or "percentile" throughout.
        resamples: bootstrap resamples, clustered by stem (emoji) or picture.
        permutations: label permutations of the null.
        examples: test pictures shown in the report.
        track: log to MLflow.
        tracking: where MLflow finds the audit.
        device: "auto" takes CUDA where there is one.
        seed: of attackers, bootstrap and permutations.
    """

    model: str
    attribute: str | None = "gender"
    output: Path | None = None
    eraser: Path | None = None
    on: Literal["embedding", "features", "text"] = "embedding"
    data: DataConfig = field(default_factory=DataConfig)
    metrics: list[str] | str | None = None
    prompts: list[str] | str | None = None
    interval: Literal["bca", "percentile"] = "bca"
    resamples: int = 1000
    permutations: int = 1000
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
    output: Path


def main(argv: Sequence[str]) -> None:
    """Configure → model → data → embeddings → metrics → write → tell."""
    config, config_text = parse(AuditCommand, argv, prog=PROG, description=DESCRIPTION)
    request = checked(config)
    with process_group(resolve_device(config.device, key="--device")) as device:
        corpus = load(request)
        if is_main():
            request.output.mkdir(parents=True, exist_ok=True)
        bench = prepare(request, corpus, device)
        if not is_main():
            return
        measured = measure(bench, request.attribute, request.metrics, examples=config.examples)
        result = audit_result(
            measured,
            bench,
            request.attribute,
            model=describe_model(request.model) | fitted_for(request),
            run=describe_run(argv, prog=PROG, draws=asdict(bench.inference), mlflow={}),
        )
        publish(result, request, config_text)
    if measured.failed:
        raise CommandError(f"metrics failed, the others are written: {', '.join(measured.failed)}")


def checked(config: AuditCommand) -> Request:
    """Everything that can be refused before any picture is read.

    Raises:
        UsageError: naming the key.
    """
    audit = AuditConfig(
        resamples=config.resamples, permutations=config.permutations, examples=config.examples
    )
    wrong = problems(TrainConfig(data=config.data, seed=config.seed, audit=audit))
    if said := [line.replace("audit.", "") for line in wrong]:
        raise UsageError("; ".join(said))
    try:
        attribute = ProtectedAttribute.load(config.attribute) if config.attribute else None
    except ValueError as error:
        raise UsageError(f"--attribute: {error}") from error
    prompts = [PromptSet.load(name) for name in listed(config.prompts) or available_prompt_sets()]
    chosen = chosen_metrics(listed(config.metrics), key="--metrics", attribute=attribute)
    model = load_encoder(config.model)
    metrics = answerable(chosen, model, asked=config.metrics is not None)
    erasers = chosen_erasers(config, model)
    output = config.output or Path("audits") / f"{short_name(config.model)}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    if (output / AUDIT).exists():
        raise UsageError(f"--output {output} holds another audit: choose a new folder")
    if taken := next(
        (path for path in (output, *output.parents) if path.exists() and not path.is_dir()), None
    ):
        raise UsageError(f"--output {output}: {taken} is a file, choose a new folder")
    return Request(config, attribute, metrics, prompts, model, erasers, output)


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


def load(request: Request) -> Corpus:
    """The corpus at the model's size, if it can be audited as asked.

    Raises:
        UsageError, CommandError: it is not there, or shows too little of the attribute.
    """
    data = replace(request.config.data, image_size=request.model.image_size)
    with main_first():
        corpus = load_corpus(data, prepare=request.model.prepare).limited(train=data.fit_pictures)
    try:
        check_auditable(corpus, request.attribute)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return corpus


def prepare(request: Request, corpus: Corpus, device: torch.device) -> Bench:
    """The model, embedded, as it is and under its edits; every process takes part."""
    config, model = request.config, request.model.to(device)
    model.erase = False
    subject = Subject(
        encoder=model,
        erasers=request.erasers,
        untrained=model.fresh(config.seed),
        device=device,
    )
    inference = Inference(
        resamples=config.resamples,
        permutations=config.permutations,
        seed=config.seed,
        interval_kind=config.interval,
    )
    return Bench.prepare(
        subject,
        corpus,
        inference,
        embedder=lambda table, words: stored_embeddings(model, table, words, device=device),
        prompts=request.prompts,
    )


def fitted_for(request: Request) -> dict[str, str]:
    """Whose difference the eraser was fitted to remove, where it knows and that is not what is audited."""
    labelled = [set(eraser.details.get("labelled", ())) for eraser in request.erasers.values()]
    audited = set(request.attribute.groups) if request.attribute else set()
    other = sorted({", ".join(sorted(groups)) for groups in labelled if groups and groups != audited})
    if other:
        say(f"note: the eraser was fitted for {'; '.join(other)}, which is not what is audited")
    return {"eraser_fitted_for": "; ".join(other)} if other else {}


def publish(result: AuditResult, request: Request, config_text: str) -> None:
    """Write audit and report to disk, tell the person, then log both to MLflow."""
    output, config = request.output, request.config
    (output / CONFIG).write_text(config_text, encoding="utf-8")
    result.save(output / AUDIT)
    write_report(result, output / REPORT)
    print_summary(result, console)
    say(f"report: {(output / REPORT).resolve()}")
    if not config.track:
        return
    tags = {"audit": config.model, "attribute": config.attribute or "none", "corpus": config.data.source}
    name = config.tracking.run_name or output.name
    with tracked_run(experiment=config.tracking.experiment, name=name, tags=tags) as run:
        run.log_params(asdict(config))
        run.log_metrics(result.metrics())
        for file in (AUDIT, REPORT, CONFIG):
            run.log_artifact(output / file)
    say(f"compare runs: {run.how_to_open()}")


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
