"""What ``--debias`` does: to captions, negatives and objective before training, to embeddings after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from clip_lite.config import TrainConfig
from clip_lite.data.captions import AS_WRITTEN, Speech
from clip_lite.data.pairs import Corpus, PairTable
from clip_lite.errors import CommandError, UsageError
from clip_lite.model import DualEncoder
from clip_lite.objective import ExtraTerm, Objective
from clip_lite.plugins import load_part
from debias.attributes import ProtectedAttribute
from debias.calibration import (
    Calibration,
    available_methods,
    check_method,
    fit_eraser,
    method_options,
    needs_group,
    needs_task,
)
from debias.eraser import FITTED_ON, Eraser
from debias.gate import Verdict, judge
from debias.methods import TEXT_METHODS
from debias.neutral import NeutralWords
from debias.training import TERMS, group_number
from evaluation.embed import embed

NO_METHOD = "none"


def check_mitigation(attribute: ProtectedAttribute, corpus: Corpus, config: TrainConfig) -> None:
    """Refuse before training what could not be fitted or stored after it.

    Raises:
        UsageError: naming the key.
    """
    check_eraser(config)
    method, options = config.mitigation.method, config.mitigation.options
    if method == NO_METHOD:
        return
    if needs_task(method) and not corpus.classification:
        raise UsageError(
            f"mitigation.method {method} needs classes, which corpus {corpus.name!r} does not have"
        )
    spanned = min(attribute.differences, config.model.embedding_dim)
    if method == "text_pca" and not 1 <= options.get("k", 1) <= spanned:
        raise UsageError(f"mitigation.options.k is {options['k']}, expected 1 to {spanned}")


def check_eraser(config: TrainConfig) -> None:
    """Refuse a method, its options or strength that no corpus could make right.

    Raises:
        UsageError: naming the key.
    """
    method, options = config.mitigation.method, config.mitigation.options
    strength = config.mitigation.strength
    if method == NO_METHOD:
        if strength not in (0, 1):
            raise UsageError(f"mitigation.strength is {strength}, but method {NO_METHOD} edits nothing")
        return
    if "strength" in options:
        raise UsageError("mitigation.options.strength: give mitigation.strength instead")
    try:
        check_method(method, options)
    except ValueError as error:
        known = method in available_methods()
        key, other = ("mitigation.options", "") if known else ("mitigation.method", f", or {NO_METHOD}")
        raise UsageError(f"{key}: {error}{other}") from error
    if strength != 1 and "strength" not in method_options(method):
        raise UsageError(f"mitigation.strength is {strength}, but {method} has no strength: leave it at 1")
    if needs_group(method):
        raise UsageError(
            f"mitigation.method {method} needs the group of every picture that it edits, which a stored "
            "model does not know: it is a reference for python -m debias.fit"
        )


def speech_of(attribute: ProtectedAttribute | None, config: TrainConfig) -> Speech:
    """How training hears captions.

    Raises:
        UsageError: neutral captions without neutral words.
    """
    mitigation = config.mitigation
    if attribute is None or not config.debias:
        return AS_WRITTEN
    try:
        reword = attribute.neutral_words if mitigation.neutral_captions else None
    except ValueError as error:
        raise UsageError(f"{error}, or --mitigation.neutral_captions false") from error
    grouped = mitigation.matched_negatives or mitigation.term
    return Speech(reword, group_number(attribute) if grouped else None)


def extra_terms(config: TrainConfig) -> Sequence[ExtraTerm]:
    """What ``mitigation.term`` names.

    Raises:
        UsageError: no such term, or options that it does not take.
    """
    mitigation = config.mitigation
    if not (config.debias and mitigation.term):
        return ()
    term: ExtraTerm = load_part(
        mitigation.term,
        mitigation.term_options,
        known=TERMS,
        key="mitigation.term",
        arguments=("image", "group"),
    )
    return (term,)


class Fitted(NamedTuple):
    """Erasers that the gate let act, and what it said of each that was fitted."""

    erasers: dict[str, Eraser]
    verdicts: dict[str, Verdict]


def fit_erasers(
    model: DualEncoder,
    corpus: Corpus,
    attribute: ProtectedAttribute,
    config: TrainConfig,
    device: torch.device,
) -> Fitted:
    """Erasers of ``mitigation.method`` for the embedding and, but for text methods, the tower features.

    Fitted on the training split and judged on the validation split, by groups that captions name: no label of
    an image is read. One from which the gate abstains is left out, unless ``mitigation.force``. At strength 0
    there is no edit, so nothing to fit or judge.

    Raises:
        CommandError: the method refuses what it was given.
    """
    method, strength = config.mitigation.method, config.mitigation.strength
    if method == NO_METHOD or strength == 0:
        return Fitted({}, {})
    partial = {"strength": strength} if strength != 1 else {}
    tables = {split: corpus.splits[split] for split in ("train", "val")}
    seen = {split: embed(model, table, f"reading {split}", device=device) for split, table in tables.items()}
    labelled = {
        split: calibration_of(seen[split].embedding, table, attribute, corpus.classification)
        for split, table in tables.items()
    }
    fitted = Fitted({}, {})
    for name in ("embedding",) if method in TEXT_METHODS else ("features", "embedding"):
        rows, held_out = (replace(labelled[split], x=getattr(seen[split], name)) for split in tables)
        try:
            eraser = fit_eraser(
                method,
                rows,
                attribute=attribute,
                encode_text=written(model),
                options={**config.mitigation.options, **partial},
            )
        except ValueError as error:
            raise CommandError(f"mitigation.method {method}, {name}: {error}") from error
        verdict = judge(eraser, rows, groups=attribute.groups, held_out=held_out, seed=config.seed)
        fitted.verdicts[name] = verdict
        if verdict.decision != "abstain" or config.mitigation.force:
            eraser.details |= {"gate": verdict.to_json(), FITTED_ON: tables["train"].digest}
            fitted.erasers[name] = eraser
    return fitted


def calibration_of(
    x: np.ndarray, table: PairTable, attribute: ProtectedAttribute, task: str | None
) -> Calibration:
    """Vectors of a table's pictures with the groups that their captions name, and the classes of a task."""
    classes = np.unique(table.attribute(task), return_inverse=True)[1] if task else None
    return Calibration(
        x, attribute.indices([record.captions for record in table.records]), table.clusters, classes
    )


def written(model: DualEncoder) -> Callable[[Sequence[str]], torch.Tensor]:
    """The model's text encoder without rewording: word pairs differ in what rewording takes away."""

    def encode(texts: Sequence[str]) -> torch.Tensor:
        model.erase, before = False, model.erase
        try:
            return model.encode_text(texts)
        finally:
            model.erase = before

    return encode


def describe_mitigation(
    speech: Speech, table: PairTable, objective: Objective, config: TrainConfig
) -> dict[str, str]:
    """What training does about the attribute, in words; captions are counted in the pictures of ``table``."""
    said = {}
    if isinstance(speech.reword, NeutralWords):
        captions = (caption for record in table.records for caption in record.captions)
        said["captions"] = f"of {len(table):,} pictures, {speech.reword.census(captions)}"
    if objective.matched and not objective.uses_batch:
        said["matching"] = "negatives from pictures whose captions name the same group"
    if config.debias and config.mitigation.term:
        options = ", ".join(f"{name} {value}" for name, value in config.mitigation.term_options.items())
        said["term"] = " ".join(filter(None, (config.mitigation.term, options)))
    return said
