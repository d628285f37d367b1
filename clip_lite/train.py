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
from clip_lite.data.captions import Speech
from clip_lite.data.pairs import Corpus
from clip_lite.describe import Clock, describe_model, describe_run, describe_training
from clip_lite.distributed import is_main, on_main, process_group
from clip_lite.errors import CommandError
from clip_lite.fit import Epoch, Training
from clip_lite.keeper import Keeper
from clip_lite.mitigate import (
    Fitted,
    describe_mitigation,
    extra_terms,
    fit_erasers,
    speech_of,
)
from clip_lite.model import DualEncoder
from clip_lite.precision import resolve_device
from clip_lite.progress import console, say
from clip_lite.publish import publish_folder
from clip_lite.runs import (
    MODEL,
    REPORT,
    RunFolder,
    interrupted_run,
    open_run,
    resume_flags,
    run_name,
    taken_over,
)
from clip_lite.stopping import Stopped, stop_on_sigterm
from clip_lite.tracking import Run, tracked_run
from clip_lite.train_request import checked_attribute, load
from debias.attributes import ProtectedAttribute
from evaluation.inference import Inference
from evaluation.measure import audit_result, measure
from evaluation.metrics import Metric, chosen_metrics
from evaluation.report.files import CARD, write_audit
from evaluation.report.model_card import write_model_card
from evaluation.report.table import print_summary
from evaluation.results import AuditResult
from evaluation.systems import Bench, Subject

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
  {PROG} --debias gender --trained runs/RUN --mitigation.method text_pca --mitigation.strength 0.5
      another eraser on the model that another run has trained
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
    over = taken_over(config, config_text)
    with process_group(resolve_device(config.training.device)) as device:
        name = config.tracking.run_name or run_name(config)
        folder: RunFolder = on_main(lambda: open_run(config, config_text, name))
        if folder.finished:
            say(f"nothing to resume, the run is complete: {(folder.path / REPORT).resolve()}")
            return
        saved = over or (folder.checkpoints(config.checkpoint.keep).newest() if config.resume else None)
        try:
            with stop_on_sigterm() as asked, tracking(config, attribute, name, folder, saved) as run:
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

    @property
    def weights(self) -> dict[str, str]:
        """Where the weights come from, if another run trained them."""
        origin = (self.saved or {}).get("origin")
        return {"weights": origin} if origin else {}


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
        keeper = keeper_of(job, corpus, speech)
        epochs = train(job, built, keeper)
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
        if fitted.erasers:  # what is chosen among is the model as it is delivered
            keeper.log(keeper.validated(model), epochs[-1].step)
    with clock.stage("audit"):
        subject = audited_subject(model, built.untrained, device)
        bench = Bench.prepare(subject, corpus, inference_of(config))
        measured = measure(bench, attribute, job.metrics, examples=config.audit.examples)
    result = audit_result(
        measured,
        bench,
        attribute,
        model=describe_model(model)
        | {"image_weights": built.weights}
        | {"gate": {name: verdict.to_json() for name, verdict in fitted.verdicts.items()}},
        training=describe_training(config, [e.summary() for e in epochs], clock, device=device)
        | mitigation
        | job.weights,
        run=describe_run(job.argv, prog=PROG, draws=asdict(bench.inference), mlflow=job.run.where()),
    )
    publish(result, job.folder.path, job.run, config.tracking.register)
    if measured.failed:
        raise CommandError(f"metrics failed, the others are written: {', '.join(measured.failed)}")


def tracking(
    config: TrainConfig,
    attribute: ProtectedAttribute | None,
    name: str,
    folder: RunFolder,
    saved: Mapping[str, Any] | None,
) -> AbstractContextManager[Run | None]:
    """The MLflow run, a new one or the one of the checkpoint; none but on the first process."""
    if not is_main():
        return nullcontext()
    erased = attribute is not None and config.debias is not None
    tags = {
        "attribute": attribute.name if attribute else "none",
        "debias": attribute.name if attribute and config.debias else "none",
        "method": config.mitigation.method if erased else "none",
        "strength": str(config.mitigation.strength) if erased else "none",
        "seed": str(config.seed),
        "corpus": config.data.source,
        "loss": config.objective.loss,
    }
    return tracked_run(
        experiment=config.tracking.experiment,
        name=name,
        tags=tags,
        folder=folder.path,
        resume=(saved or {}).get("mlflow_run") or interrupted_run(config, folder),
        parent=config.tracking.parent,
    )


def inference_of(config: TrainConfig) -> Inference:
    """How uncertainty is drawn."""
    return Inference(
        resamples=config.audit.resamples,
        permutations=config.audit.permutations,
        seed=config.seed,
        interval_kind=config.audit.interval,
    )


def keeper_of(job: Job, corpus: Corpus, speech: Speech) -> Keeper:
    """What validates, logs and keeps while the loop runs."""
    return Keeper(
        corpus,
        job.attribute,
        speech,
        device=job.device,
        inference=inference_of(job.config),
        checkpoints=job.folder.checkpoints(job.config.checkpoint.keep),
        run=job.run,
        asked_to_stop=job.asked_to_stop,
    )


def train(job: Job, built: Built, keeper: Keeper) -> list[Epoch]:
    """Fit with a validation and a checkpoint after every epoch."""
    config = job.config
    training = Training(
        built.step,
        built.batches,
        epochs=config.training.epochs,
        batch_size=config.training.batch_size,
        checkpoint=config.checkpoint,
        hooks=keeper,
        saved=job.saved,
    )
    epochs = training.run()
    if job.weights:
        say(f"nothing to train, the weights were {job.weights['weights']}")
        for epoch in epochs:
            validation = {f"val/{name}": value for name, value in epoch.validation.items()}
            training.hooks.log({**validation, "train/pairs_per_second": epoch.pairs_per_second}, epoch.step)
    return epochs


def audited_subject(model: DualEncoder, untrained: DualEncoder, device: torch.device) -> Subject:
    """The model with its erasers held apart, so that the audit can compare off, on and random."""
    model.erase = False
    return Subject(encoder=model, erasers=model.attached, untrained=untrained, device=device)


def publish(result: AuditResult, output: Path, run: Run, register: str | None) -> None:
    """Write audit, report and model card to disk, then to MLflow, then tell the person."""
    write_audit(result, output)
    write_model_card(result, output / MODEL / CARD)
    publish_folder(result, run, name=register)
    print_summary(result, console)
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result.training["stages"].items())
    say(f"time: {stages}")
    say(f"report: {(output / REPORT).resolve()}")
    if not run.lost:
        say(f"compare runs: {run.how_to_open()}")


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
