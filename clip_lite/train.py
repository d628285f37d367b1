"""Train CLIP-Lite, suppress a protected attribute, audit, track, report: ``python -m clip_lite.train``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch

from clip_lite.build import Built, build
from clip_lite.cli import guarded, parse, shipped_config
from clip_lite.config import TrainConfig
from clip_lite.config_checks import problems
from clip_lite.data.captions import Speech
from clip_lite.data.corpora import load_corpus
from clip_lite.data.pairs import Corpus, PairTable
from clip_lite.describe import Clock, describe_model, describe_run, describe_training
from clip_lite.distributed import is_main, main_first, on_main, process_group
from clip_lite.errors import CommandError, UsageError
from clip_lite.fit import Epoch, Training
from clip_lite.mitigate import (
    Fitted,
    check_mitigation,
    describe_mitigation,
    extra_terms,
    fit_erasers,
    speech_of,
)
from clip_lite.model import DualEncoder
from clip_lite.precision import resolve_device
from clip_lite.progress import console, say
from clip_lite.runs import AUDIT, CONFIG, MODEL, REPORT, RunFolder, open_run, resume_flags, run_name
from clip_lite.stopping import Stopped, stop_on_sigterm
from clip_lite.tracking import Run, tracked_run
from debias.attributes import ProtectedAttribute
from evaluation.embed import caption_index, embed
from evaluation.inference import Inference
from evaluation.measure import audit_result, measure
from evaluation.metrics import Metric, chosen_metrics
from evaluation.population import check_auditable, check_named
from evaluation.report.html import write_report
from evaluation.report.table import print_summary
from evaluation.results import AuditResult
from evaluation.systems import Bench, Subject
from evaluation.utility.retrieval import recall_at

PROG = "python -m clip_lite.train"
DESCRIPTION = f"""Train CLIP-Lite on image-text pairs with one negative each, suppress a protected
attribute using text alone, audit what remains and what it cost, and write a report.

  {PROG} --debias gender
      the embedded emoji corpus; about 5 minutes of training on 2 CPU cores
      captions are reworded ("a man waves" becomes "a person waves") and an eraser is fitted and stored
  {PROG} --debias gender --mitigation.neutral_captions false --mitigation.method text_pca
      the paper's own edit instead: the top text direction, from embeddings only
  {PROG} --debias 'gender*skin_tone'
      an intersection; or --debias my.yaml, a file in the form of configs/attributes/gender.yaml
  {PROG} --config my.yaml --training.epochs 30
      YAML first; flags after it override it
  {PROG} --debias gender --print_config
      the complete configuration, to start a file from

Exit codes: 0 done, 1 failed while running, 2 wrong usage. Errors are one line.
"""


def main(argv: Sequence[str]) -> None:
    """Configure → data → model → fit → erase → audit → report."""
    config, config_text = parse(
        TrainConfig, argv, prog=PROG, description=DESCRIPTION, default_config=shipped_config("emoji.yaml")
    )
    attribute = checked_attribute(config)
    metrics = chosen_metrics(config.audit.metrics, key="audit.metrics", attribute=attribute)
    with process_group(resolve_device(config.training.device)) as device:
        name = config.tracking.run_name or run_name(config)
        folder: RunFolder = on_main(lambda: open_run(config, config_text, name))
        if folder.finished:
            say(f"nothing to resume, the run is complete: {(folder.path / REPORT).resolve()}")
            return
        saved = folder.checkpoints(config.checkpoint.keep).newest() if config.resume else None
        try:
            with stop_on_sigterm() as asked, tracking(config, attribute, name, saved) as run:
                work(Job(config, argv, attribute, metrics, device, folder, saved, asked, run))
        except Stopped as stopped:
            if is_main():
                say(f"stopped at {stopped}; go on with: {PROG} {resume_flags(argv, folder)}")


class Job(NamedTuple):
    """One invocation: what was asked for, where it runs, what it goes on from.

    ``run`` is None on every process but the first, which alone logs, audits and reports.
    """

    config: TrainConfig
    argv: Sequence[str]
    attribute: ProtectedAttribute | None
    metrics: Mapping[str, Metric]
    device: torch.device
    folder: RunFolder
    saved: Mapping[str, Any] | None
    asked_to_stop: Callable[[], bool]
    run: Run | None


def work(job: Job) -> None:
    """The run from data to report."""
    config, attribute, device, clock = job.config, job.attribute, job.device, Clock()
    speech, terms = speech_of(attribute, config), extra_terms(config)
    with clock.stage("data"):
        corpus, pairs = load(config, attribute)
        if job.run:
            job.run.log_params(asdict(config))
            job.run.log_corpus(corpus)
    with clock.stage("model and captions"):
        built = build(config, pairs, device, speech=speech, extra_terms=terms)
        built.model.neutral = attribute.neutral_words if attribute and speech.reword else None
        mitigation = describe_mitigation(speech, corpus.splits["train"], built.step.objective, config)
        for what, words in mitigation.items():
            say(f"{what}: {words}")
    with clock.stage("training"):
        epochs = train(job, built, corpus, speech)
    if job.run is None:
        return
    model = built.model
    with clock.stage("erasing"):
        fitted = Fitted({}, {})
        if attribute and config.debias:
            fitted = fit_erasers(model, corpus, attribute, config, device)
            for name, verdict in fitted.verdicts.items():
                say(f"{name}: {verdict}")
        model.attach(fitted.erasers)
        model.save_pretrained(job.folder.path / MODEL)
    with clock.stage("audit"):
        bench = Bench.prepare(
            audited_subject(model, built.untrained, device),
            corpus,
            Inference(
                resamples=config.audit.resamples,
                permutations=config.audit.permutations,
                seed=config.seed,
                interval_kind=config.audit.interval,
            ),
        )
        measured = measure(bench, attribute, job.metrics, examples=config.audit.examples)
    result = audit_result(
        measured,
        bench,
        attribute,
        model=describe_model(model)
        | {"image_weights": built.weights}
        | {"gate": {name: verdict.to_json() for name, verdict in fitted.verdicts.items()}},
        training=describe_training(config, [e.summary() for e in epochs], clock, device=device) | mitigation,
        run=describe_run(job.argv, prog=PROG, draws=asdict(bench.inference), mlflow=job.run.where()),
    )
    publish(result, job.folder.path, job.run)
    if measured.failed:
        raise CommandError(f"metrics failed, the others are written: {', '.join(measured.failed)}")


def tracking(
    config: TrainConfig, attribute: ProtectedAttribute | None, name: str, saved: Mapping[str, Any] | None
) -> AbstractContextManager[Run | None]:
    """The MLflow run, a new one or the one of the checkpoint; none but on the first process."""
    if not is_main():
        return nullcontext()
    tags = {
        "debias": attribute.name if attribute and config.debias else "none",
        "seed": str(config.seed),
        "corpus": config.data.source,
        "loss": config.objective.loss,
    }
    resume = saved["mlflow_run"] if saved else None
    return tracked_run(experiment=config.tracking.experiment, name=name, tags=tags, resume=resume)


def checked_attribute(config: TrainConfig) -> ProtectedAttribute | None:
    """The attribute to audit; ``--debias`` names it and asks for its suppression.

    Raises:
        UsageError: listing everything that is out of range, or an attribute that cannot be loaded.
    """
    if wrong := list(problems(config)):
        raise UsageError("; ".join(wrong))
    chosen = config.debias or config.audit.attribute
    key = "--debias" if config.debias else "audit.attribute"
    if chosen is None:
        return None
    try:
        return ProtectedAttribute.load(chosen)
    except ValueError as error:
        raise UsageError(f"{key}: {error}") from error


def load(config: TrainConfig, attribute: ProtectedAttribute | None) -> tuple[Corpus, PairTable]:
    """The corpus for erasers and audit, and all pairs to train on.

    Raises:
        UsageError, CommandError: the corpus is not there, or cannot be audited as asked.
    """
    with main_first():
        corpus = load_corpus(config.data)
    if not corpus.captioned:
        raise UsageError(
            f"data.source {config.data.source} has no captions to train on, only labels to audit"
        )
    pairs = corpus.splits["train"]
    corpus = corpus.limited(train=config.data.fit_pictures)
    check_request(corpus, attribute, config)
    return corpus, pairs


def check_request(corpus: Corpus, attribute: ProtectedAttribute | None, config: TrainConfig) -> None:
    """Refuse before training what eraser or audit would refuse after it.

    Raises:
        UsageError: the corpus cannot be audited, or the mitigation cannot be had.
    """
    try:
        check_auditable(corpus, attribute)
        if attribute:
            check_named(corpus, attribute)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if attribute and config.debias:
        check_mitigation(attribute, corpus, config)


def train(job: Job, built: Built, corpus: Corpus, speech: Speech) -> list[Epoch]:
    """Fit with a validation retrieval and a checkpoint after every epoch."""
    config = job.config
    training = Training(
        built.step,
        built.batches,
        epochs=config.training.epochs,
        batch_size=config.training.batch_size,
        checkpoint=config.checkpoint,
        hooks=Keeper(job, corpus.splits["val"].where(corpus.canonical), speech),
        saved=job.saved,
    )
    return training.run()


class Keeper:
    """The loop's hooks: validates by retrieval, logs to MLflow, writes checkpoints."""

    def __init__(self, job: Job, table: PairTable, speech: Speech) -> None:
        self.job, self.table = job, table
        heard = [[speech.heard(caption) for caption in record.captions] for record in table.records]
        self.captions, self.relevant = caption_index(heard)
        self.checkpoints = job.folder.checkpoints(job.config.checkpoint.keep)

    def validate(self, model: DualEncoder) -> Mapping[str, float]:
        """Any-hit recall on the canonical validation pictures, by captions as training hears them."""
        image = embed(model, self.table, "validating", device=self.job.device).embedding
        return recall_at(image, model.encode_text(self.captions).cpu().numpy(), self.relevant, ks=(10,))

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Numbers of a step, to MLflow."""
        if self.job.run:
            self.job.run.log_metrics(numbers, step)

    def keep(self, state: Mapping[str, Any], step: int, *, best: bool) -> str:
        """Write a checkpoint that knows its MLflow run."""
        run = self.job.run.run_id if self.job.run else None
        return str(self.checkpoints.save({**state, "mlflow_run": run}, step, best=best))

    def stopping(self) -> bool:
        """Whether SIGTERM has arrived."""
        return self.job.asked_to_stop()


def audited_subject(model: DualEncoder, untrained: DualEncoder, device: torch.device) -> Subject:
    """The model with its erasers held apart, so that the audit can compare off, on and random."""
    model.erase = False
    return Subject(encoder=model, erasers=model.attached, untrained=untrained, device=device)


def publish(result: AuditResult, output: Path, run: Run) -> None:
    """Write audit and report to disk, then to MLflow, then tell the person."""
    result.save(output / AUDIT)
    write_report(result, output / REPORT)
    run.log_model(output / MODEL, result.metrics(), {"eraser": result.model.get("eraser")})
    for file in (AUDIT, REPORT, CONFIG):
        run.log_artifact(output / file)
    print_summary(result, console)
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result.training["stages"].items())
    say(f"time: {stages}")
    say(f"report: {(output / REPORT).resolve()}")
    say(f"compare runs: {run.how_to_open()}")


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
