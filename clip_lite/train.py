"""Train CLIP-Lite, suppress a protected attribute, audit, track, report: ``python -m clip_lite.train``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from clip_lite.cli import guarded, parse, shipped_config
from clip_lite.config import TrainConfig, problems
from clip_lite.data.emoji import load_emoji
from clip_lite.data.pairs import Corpus
from clip_lite.describe import Clock, describe_corpus, describe_model, describe_run, describe_training
from clip_lite.errors import CommandError, UsageError
from clip_lite.fit import Epoch, Hooks, fit
from clip_lite.model import DualEncoder
from clip_lite.precision import resolve_device
from clip_lite.progress import console, say
from clip_lite.text_cache import TextCache
from clip_lite.towers import TextTower
from clip_lite.tracking import Run, tracked_run
from debias.attributes import ProtectedAttribute
from debias.eraser import Eraser
from debias.methods.caption_leace import CaptionLeaceFitter
from debias.methods.text_pca import text_pca
from evaluation.audit import audit
from evaluation.bias.leakage import ATTACKERS
from evaluation.embed import caption_index, embed
from evaluation.inference import Inference
from evaluation.population import caption_labels, corpus_knows, label_agreement, population
from evaluation.report.html import write_report
from evaluation.report.table import print_summary
from evaluation.results import AuditResult
from evaluation.systems import Subject
from evaluation.utility.retrieval import recall_at

PROG = "python -m clip_lite.train"
DESCRIPTION = f"""Train CLIP-Lite on image-text pairs with one negative each, suppress a protected
attribute using text alone, audit what remains and what it cost, and write a report.

  {PROG} --debias gender
      the embedded emoji corpus; about 5 minutes of training on 2 CPU cores
  {PROG} --debias gender --mitigation.method text_pca
      the paper's own edit instead: the top text direction, from embeddings only
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
    device = resolve_device(config.training.device)
    name = config.tracking.run_name or run_name(config)
    output = make_output(config.output, name)
    (output / "config.yaml").write_text(config_text, encoding="utf-8")
    clock = Clock()
    tags = {
        "debias": attribute.name if attribute and config.debias else "none",
        "seed": str(config.seed),
        "corpus": config.data.source,
    }
    with tracked_run(experiment=config.tracking.experiment, name=name, tags=tags) as run:
        run.log_params(asdict(config))
        with clock.stage("data"):
            corpus = load_corpus(config)
            check_corpus(corpus, attribute, config)
            run.log_corpus(corpus)
        with clock.stage("model and captions"):
            model, untrained, texts = build(config, corpus, device)
        with clock.stage("training"):
            epochs = train(model, texts, corpus, config, device=device, output=output, run=run)
        with clock.stage("erasing"):
            if attribute and config.debias:
                model.attach(fit_erasers(model, corpus, attribute, config, device))
            model.save_pretrained(output / "model")
        with clock.stage("audit"):
            rows, examples = audit(
                audited_subject(model, untrained, device),
                corpus,
                attribute,
                examples=config.audit.examples,
                inference=Inference(
                    resamples=config.audit.resamples, permutations=config.audit.permutations, seed=config.seed
                ),
            )
        result = AuditResult(
            rows=rows,
            examples=examples,
            attribute=describe_attribute(attribute, corpus),
            data=describe_corpus(corpus, image_size=config.data.image_size)
            | {"label_agreement": label_agreement(corpus, attribute)},
            model=describe_model(model, text_tower=config.model.text_tower),
            training=describe_training(config, [e.summary() for e in epochs], clock, device=device),
            provenance=describe_run(config, argv, prog=PROG, mlflow=run.where())
            | {"attackers": list(ATTACKERS)},
        )
        publish(result, output, run)


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


def run_name(config: TrainConfig) -> str:
    """Corpus, attribute, method and seed in one word."""
    edit = f"{Path(config.debias).stem}-{config.mitigation.method}" if config.debias else "plain"
    return f"{config.data.source}-{edit}-seed{config.seed}"


def make_output(chosen: Path | None, name: str) -> Path:
    """Create the output folder before anything expensive runs.

    Raises:
        UsageError: it holds the results of another run, which would be lost.
        CommandError: it cannot be created or written to.
    """
    output = chosen or Path("runs") / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    if (output / "config.yaml").exists():
        raise UsageError(f"--output {output} holds another run: choose a new folder or remove that one")
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / ".writable").touch()
        (output / ".writable").unlink()
    except OSError as error:
        raise CommandError(f"output folder {output} cannot be written: {error.strerror}") from error
    return output


def load_corpus(config: TrainConfig) -> Corpus:
    """The corpus that ``data.source`` names."""
    data = config.data
    return load_emoji(
        image_size=data.image_size,
        val_fraction=data.val_fraction,
        test_fraction=data.test_fraction,
        seed=data.split_seed,
    )


def check_corpus(corpus: Corpus, attribute: ProtectedAttribute | None, config: TrainConfig) -> None:
    """Refuse before training what eraser or audit would refuse after it.

    Raises:
        UsageError: an empty split, a group that is hardly there, captions that do not name two groups, or
            more directions than the word pairs span.
    """
    if empty := [name for name, table in corpus.splits.items() if len(table) == 0]:
        raise UsageError(f"split {empty[0]!r} is empty: raise data.val_fraction or data.test_fraction")
    if attribute is None:
        return
    try:
        for split in corpus.splits.keys() - {"val"}:
            population(corpus, split, attribute)
    except ValueError as error:
        raise UsageError(f"attribute {attribute.name}: {error}") from error
    named = set(caption_labels(corpus.splits["train"], attribute)) & set(attribute.groups)
    if len(named) < 2:
        raise UsageError(f"attribute {attribute.name}: captions to train on name only {sorted(named)}")
    differences = len(attribute.word_pairs) * len(attribute.templates) * (len(attribute.groups) - 1)
    spanned = min(differences, config.model.embedding_dim)
    if config.mitigation.components > spanned:
        raise UsageError(
            f"mitigation.components is {config.mitigation.components}, expected {spanned} at most"
        )


def build(
    config: TrainConfig, corpus: Corpus, device: torch.device
) -> tuple[DualEncoder, DualEncoder, TextCache]:
    """A new model, a copy that stays untrained, and the cached text features of the training captions."""
    settings: dict[str, Any] = {
        "image_tower": config.model.image_tower,
        "small_images": config.model.small_images,
        "embedding_dim": config.model.embedding_dim,
        "image_size": config.data.image_size,
    }
    text_tower = TextTower.pretrained(config.model.text_tower).eval().requires_grad_(False)
    torch.manual_seed(config.seed)
    model = DualEncoder(text_tower, **settings)
    untrained = DualEncoder(text_tower, **settings)
    untrained.load_state_dict(model.state_dict())
    for new in (model, untrained.eval()):
        new.to(device).to(memory_format=torch.channels_last)
    say("encoding captions once with the frozen text tower")
    return model, untrained, TextCache.build(text_tower, corpus.splits["train"].records)


def train(
    model: DualEncoder,
    texts: TextCache,
    corpus: Corpus,
    config: TrainConfig,
    *,
    device: torch.device,
    output: Path,
    run: Run,
) -> list[Epoch]:
    """Fit with a validation retrieval and a checkpoint after every epoch."""
    table = corpus.splits["val"].where(corpus.canonical)
    captions, relevant = caption_index([record.captions for record in table.records])

    def validate(current: DualEncoder) -> Mapping[str, float]:
        image = embed(current, table, "validating", device=device).embedding
        return recall_at(image, current.encode_text(captions).cpu().numpy(), relevant, ks=(10,))

    def save(current: DualEncoder) -> str:
        current.save_pretrained(output / "model")
        return str(output / "model")

    hooks = Hooks(validate=validate, save=save, log=run.log_metrics)
    return fit(model, corpus.splits["train"], texts, config.training, seed=config.seed, hooks=hooks)


def fit_erasers(
    model: DualEncoder,
    corpus: Corpus,
    attribute: ProtectedAttribute,
    config: TrainConfig,
    device: torch.device,
) -> dict[str, Eraser]:
    """Erasers for what ``mitigation.method`` edits, fitted on the training split; no image label is read."""
    if config.mitigation.method == "text_pca":
        return {"embedding": text_pca(model.encode_text, attribute, k=config.mitigation.components)}
    table = corpus.splits["train"]
    image = embed(model, table, "reading training pictures", device=device).image
    captions = [record.captions for record in table.records]
    return {
        name: CaptionLeaceFitter(attribute, x.shape[1]).update(x, captions).eraser
        for name, x in (("features", image.features), ("embedding", image.embedding))
    }


def audited_subject(model: DualEncoder, untrained: DualEncoder, device: torch.device) -> Subject:
    """The model with its erasers held apart, so that the audit can compare off, on and random."""
    model.erase = False
    return Subject(encoder=model, erasers=model.attached, untrained=untrained, device=device)


def describe_attribute(attribute: ProtectedAttribute | None, corpus: Corpus) -> dict[str, object]:
    """Name, version and lexicon of the audited attribute, and where its labels come from."""
    if attribute is None:
        return {}
    labels = (
        "the corpus's own labels"
        if corpus_knows(corpus.splits["train"], attribute)
        else "groups read from captions too"
    )
    return {
        "name": attribute.name,
        "version": attribute.version,
        "groups": list(attribute.groups),
        "lexicon_digest": attribute.digest,
        "label_source": f"erasers read groups from captions; attackers are scored on {labels}",
        "note": "Groups are read from text and from what vendors drew; nobody was asked.",
    }


def publish(result: AuditResult, output: Path, run: Run) -> None:
    """Write audit and report to disk, then to MLflow, then tell the person."""
    result.save(output / "audit.json")
    write_report(result, output / "report.html")
    metrics: dict[str, float] = {}
    for row in result.rows:
        bounds = {"": row.value, "_ci_low": row.low, "_ci_high": row.high, "_n": row.n}
        metrics |= {row.key + suffix: float(value) for suffix, value in bounds.items() if value is not None}
    run.log_model(output / "model", metrics, {"eraser": result.model.get("eraser")})
    for file in ("audit.json", "report.html", "config.yaml"):
        run.log_artifact(output / file)
    print_summary(result, console)
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result.training["stages"].items())
    say(f"time: {stages}")
    say(f"report: {(output / 'report.html').resolve()}")
    say(f"compare runs: {run.how_to_open()}")


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
