"""Audit a saved model on any data: ``python -m evaluation.audit``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from textwrap import fill, indent

import torch

from clip_lite.cli import guarded, parse
from clip_lite.data.corpora import load_corpus
from clip_lite.data.pairs import Corpus
from clip_lite.describe import describe_model, describe_run
from clip_lite.distributed import is_main, main_first, on_main, process_group
from clip_lite.errors import CommandError, UsageError
from clip_lite.precision import resolve_device
from clip_lite.pretrained import ACCEPTED
from clip_lite.progress import console, say
from clip_lite.publish import publish_folder
from clip_lite.runs import AUDIT, CONFIG
from clip_lite.tracking import check_store, tracked_run
from evaluation.audit_request import AuditCommand, Request, checked
from evaluation.embedding_store import stored_embeddings
from evaluation.gate import conclude
from evaluation.inference import Inference
from evaluation.measure import audit_result, measure
from evaluation.metrics import describe_metrics
from evaluation.population import check_auditable
from evaluation.report.files import REPORT, write_audit
from evaluation.report.table import print_summary
from evaluation.results import AuditResult
from evaluation.systems import Bench, Subject

PROG = "python -m evaluation.audit"
DESCRIPTION = f"""Audit a model: what it can do, what it tells about a protected attribute, and how sure
that is. Writes audit.json, report.html and a model card, prints a table, and logs a run to MLflow.

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
  {PROG} --model DIR --fail-if 'leakage.gender.max > 0.60'
      a release gate at the end: exit code 3 and the failing rows; python -m evaluation.gate --help has the
      rules. --baseline RUN is what rules on regressions compare with
  torchrun --nproc-per-node 8 -m evaluation.audit --model DIR ...
      pictures are embedded by all processes, measured by the first

Embeddings are kept in the cache folder (CLIP_LITE_CACHE) under a digest of model, data and transform: another
audit of the same model starts at once.

Metrics:
{describe_metrics()}

Exit codes: 0 done, 1 failed, or a metric failed (the others are written), 2 wrong usage, 3 a rule of
--fail-if is broken (all is written).
"""


def main(argv: Sequence[str]) -> None:
    """Configure → model → data → embeddings → metrics → write → tell."""
    config, config_text = parse(
        AuditCommand, argv, prog=PROG, description=DESCRIPTION, repeatable=("fail_if",)
    )
    request = checked(config)
    with process_group(resolve_device(config.device, key="--device")) as device:
        if config.track:
            on_main(check_store)
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
        publish(result, request, corpus, config_text)
    if measured.failed:
        raise CommandError(f"metrics failed, the others are written: {', '.join(measured.failed)}")
    if request.gate.rules:
        conclude(request.gate.verdict(result), folder=request.output)


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


def publish(result: AuditResult, request: Request, corpus: Corpus, config_text: str) -> None:
    """Write audit and what is made from it to disk, tell the person, then log all of it to MLflow."""
    output, config = request.output, request.config
    (output / CONFIG).write_text(config_text, encoding="utf-8")
    formats = [config.format] if isinstance(config.format, str) else config.format
    written = write_audit(result, output, formats)
    print_summary(result, console)
    shown = output / REPORT if output / REPORT in written else output / AUDIT
    say(f"{shown.stem}: {shown.resolve()}")
    if not config.track:
        return
    with tracked_run(
        experiment=config.tracking.experiment,
        name=config.tracking.run_name or output.name,
        tags=tags_of(request),
        folder=output,
        parent=config.tracking.parent,
        late=True,
    ) as run:
        run.log_params(asdict(config))
        run.log_corpus(corpus)
        run.journal.note(model=request.logged_model)
        publish_folder(result, run, name=config.tracking.register)
    say(f"compare runs: {run.how_to_open()}")


def tags_of(request: Request) -> dict[str, str]:
    """What audits can be filtered by in MLflow."""
    config = request.config
    eraser = next(iter(request.erasers.values()), None)
    return {
        "audit": config.model,
        "attribute": request.attribute.name if request.attribute else "none",
        "method": eraser.method if eraser else "none",
        "strength": str(eraser.details.get("strength", 1.0)) if eraser else "none",
        "seed": str(config.seed),
        "corpus": config.data.source,
    }


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
