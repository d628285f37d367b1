"""What the model can do, for every system and test split."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from clip_lite.progress import say
from debias.attributes import ProtectedAttribute
from evaluation.embed import caption_index
from evaluation.results import Estimate
from evaluation.systems import OFF, Bench
from evaluation.utility.from_boxes import grounding_metrics
from evaluation.utility.from_objects import object_probe_rows, svm_probe_metrics
from evaluation.utility.probe import Hits, Probe
from evaluation.utility.retrieval import recall_change, retrieval
from evaluation.utility.retrieval_ranks import Ranks, retrieval_ranks
from evaluation.utility.sgd_probe import SGDProbe
from evaluation.utility.tasks import (
    ZeroShotTask,
    asked_by_text,
    group_task,
    knn_probe,
    linear_probe,
    role_task,
)
from evaluation.utility.zero_shot import zero_shot, zero_shot_change

__all__ = [
    "grounding_metrics",
    "probe_metrics",
    "retrieval_metrics",
    "sgd_probe_metrics",
    "svm_probe_metrics",
    "zero_shot_metrics",
]


@asked_by_text
def retrieval_metrics(bench: Bench, attribute: ProtectedAttribute | None) -> list[Estimate]:
    """Any-hit recall and median rank on the canonical pictures, by captions as written.

    Where the attribute has neutral words, once more by captions that name no group: what a model earns by
    telling groups apart is then no utility, and models of either training can be compared. No rows where
    pictures have no captions.
    """
    rows: list[Estimate] = []
    for split in bench.tests if bench.corpus.captioned else ():
        rows += _retrieval(bench, split, str, "retrieval")
        if attribute and attribute.neutral:
            rows += _retrieval(bench, split, attribute.neutral_words, "neutral_retrieval")
    return rows


@asked_by_text
def zero_shot_metrics(bench: Bench, attribute: ProtectedAttribute | None) -> list[Estimate]:
    """Zero-shot roles, where the corpus has them, and zero-shot groups of the attribute."""
    rows: list[Estimate] = []
    for split in bench.tests:
        if roles := role_task(bench, split):
            rows += _zero_shot(bench, split, roles, "role", (1, 5))
        if attribute:
            rows += _zero_shot(bench, split, group_task(bench, split, attribute), attribute.name, (1,))
    return rows


def probe_metrics(bench: Bench, _attribute: ProtectedAttribute | None) -> list[Estimate]:
    """Linear and nearest-neighbour probes of the corpus's classes on tower features of the train split.

    Where pictures show several classes, a linear probe for each, with average precision.
    """
    kinds = {"linear": linear_probe, "nearest neighbours": knn_probe}
    return _probes(bench, kinds) + object_probe_rows(bench)


def sgd_probe_metrics(bench: Bench, _attribute: ProtectedAttribute | None) -> list[Estimate]:
    """The linear probe of published ImageNet figures: 100 epochs of SGD, learning rate swept on train."""

    def fitted(bench: Bench, target: str, system: str) -> Probe:
        train = bench.tables["train"]
        x, y = bench.systems[system]["train"].features, train.attribute(target)
        return SGDProbe(x, y, train.clusters, seed=bench.inference.seed)

    return _probes(bench, {"SGD": fitted})


def _retrieval(bench: Bench, split: str, reword: Callable[[str], str], name: str) -> list[Estimate]:
    keep, table = bench.where(split, bench.corpus.canonical)
    captions, relevant = caption_index([[reword(c) for c in record.captions] for record in table.records])
    ranks: dict[str, Ranks] = {}
    rows: list[Estimate] = []
    for system, tables in bench.systems.items():
        image, text = tables[split].rows(keep).embedding, bench.text(system, captions)
        ranks[system] = retrieval_ranks(image, text, relevant)
        at = bench.at(split, system, table.clusters)
        rows += retrieval(ranks[system], at=at, name=name)
        if system != OFF:
            rows += recall_change(ranks[OFF], ranks[system], at=at, name=name)
    return rows


def _zero_shot(
    bench: Bench, split: str, task: ZeroShotTask, name: str, topk: tuple[int, ...]
) -> list[Estimate]:
    rows: list[Estimate] = []
    ranks: dict[str, np.ndarray] = {}
    for system in bench.systems:
        ranks[system] = task.ranks(bench, split, system)
        at = bench.at(split, system, bench.tables[split].clusters[task.keep])
        rows += zero_shot(ranks[system], task.target, name=name, at=at, topk=topk)
        if system != OFF:
            rows += zero_shot_change(ranks[OFF], ranks[system], task.target, name=name, at=at, topk=topk)
    return rows


def _probes(bench: Bench, kinds: Mapping[str, Callable[[Bench, str, str], Probe]]) -> list[Estimate]:
    target = bench.corpus.classification
    if target is None:
        return []
    rows: list[Estimate] = []
    for kind, fitted in kinds.items():
        before: dict[str, Hits] = {}
        for system, tables in bench.systems.items():
            say(f"audit: {kind} probe, {system}")
            probe = fitted(bench, target, system)
            for split in bench.tests:
                hits = probe.hits(tables[split].features, bench.tables[split].attribute(target))
                at = bench.at(split, system)
                rows.append(hits.row(target, at=at))
                if system == OFF:
                    before[split] = hits
                else:
                    rows.append(hits.change(before[split], target, at=at))
    return rows
