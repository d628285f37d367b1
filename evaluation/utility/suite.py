"""What the model can do, for every system and test split."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clip_lite.progress import say
from debias.attributes import ProtectedAttribute
from evaluation.embed import caption_index
from evaluation.population import population
from evaluation.results import Estimate
from evaluation.systems import OFF, Bench
from evaluation.utility.linear_probe import LinearProbe
from evaluation.utility.retrieval import recall_change, retrieval
from evaluation.utility.zero_shot import zero_shot

ROLE_TEMPLATES = ("{}", "a picture of a {}", "an emoji of a {}")


def utility_rows(bench: Bench, attribute: ProtectedAttribute | None) -> list[Estimate]:
    """Retrieval, zero-shot roles, zero-shot groups of the attribute, and a linear probe.

    Where the attribute has neutral words, retrieval is measured once more by captions that name no group:
    what a model earns by telling groups apart is then no utility, and models of either training can be
    compared.
    """
    rows: list[Estimate] = []
    for split in bench.tests:
        rows += retrieval_rows(bench, split)
        if attribute and attribute.neutral:
            rows += retrieval_rows(bench, split, reword=attribute.neutral_words, name="neutral_retrieval")
        if bench.corpus.role:
            rows += role_rows(bench, split, bench.corpus.role)
        if attribute:
            rows += group_rows(bench, split, attribute)
    if bench.corpus.classification:
        rows += probe_rows(bench, bench.corpus.classification)
    return rows


def retrieval_rows(
    bench: Bench, split: str, *, reword: Callable[[str], str] = str, name: str = "retrieval"
) -> list[Estimate]:
    """Any-hit recall on the canonical pictures, and its change against the unedited model."""
    keep, table = bench.where(split, bench.corpus.canonical)
    captions, relevant = caption_index([[reword(c) for c in record.captions] for record in table.records])
    text = bench.subject.encoder.encode_text(captions).cpu().numpy()
    before = bench.systems[OFF][split].rows(keep).embedding
    rows: list[Estimate] = []
    for system, tables in bench.systems.items():
        image = tables[split].rows(keep).embedding
        rows += retrieval(
            image,
            text,
            relevant,
            clusters=table.clusters,
            split=split,
            system=system,
            inference=bench.inference,
            name=name,
        )
        if system != OFF:
            rows += recall_change(
                before,
                image,
                text,
                relevant,
                clusters=table.clusters,
                split=split,
                system=system,
                inference=bench.inference,
                name=name,
            )
    return rows


def role_rows(bench: Bench, split: str, attribute: str) -> list[Estimate]:
    """Which role is drawn, among the audited roles of the split, from prompts that name no group."""
    keep, table = bench.where(split, bench.corpus.audited)
    roles, target = np.unique(table.attribute(attribute), return_inverse=True)
    prompts = [[template.format(role) for template in ROLE_TEMPLATES] for role in roles]
    return _zero_shot_rows(bench, split, prompts, target, keep=keep, name="role", topk=(1, 5))


def group_rows(bench: Bench, split: str, attribute: ProtectedAttribute) -> list[Estimate]:
    """Which group is drawn, from the attribute's own prompts: what an edit is meant to take away."""
    people = population(bench.corpus, split, attribute)
    target = np.array([attribute.groups.index(group) for group in people.labels])
    prompts = [
        [template.replace("{}", word) for word in words for template in attribute.templates]
        for words in zip(*attribute.word_pairs, strict=True)
    ]
    return _zero_shot_rows(bench, split, prompts, target, keep=people.keep, name=attribute.name, topk=(1,))


def probe_rows(bench: Bench, target: str) -> list[Estimate]:
    """A linear probe of the corpus's classes on tower features, trained on the train split."""
    rows: list[Estimate] = []
    for system, tables in bench.systems.items():
        say(f"audit: linear probe, {system}")
        train = bench.tables["train"].attribute(target)
        probe = LinearProbe(tables["train"].features, train, seed=bench.inference.seed)
        rows += [
            probe.accuracy(
                tables[split].features,
                bench.tables[split].attribute(target),
                name=target,
                clusters=bench.tables[split].clusters,
                split=split,
                system=system,
                inference=bench.inference,
            )
            for split in bench.tests
        ]
    return rows


def _zero_shot_rows(
    bench: Bench,
    split: str,
    prompts: list[list[str]],
    target: np.ndarray,
    *,
    keep: np.ndarray,
    name: str,
    topk: tuple[int, ...],
) -> list[Estimate]:
    """Zero-shot accuracy of every system on the pictures of ``keep``; equally many prompts per class."""
    text = np.stack([bench.subject.encoder.encode_text(own).cpu().numpy() for own in prompts])
    return [
        row
        for system, tables in bench.systems.items()
        for row in zero_shot(
            tables[split].rows(keep).embedding,
            text,
            target,
            name=name,
            clusters=bench.tables[split].clusters[keep],
            split=split,
            system=system,
            inference=bench.inference,
            topk=topk,
        )
    ]
