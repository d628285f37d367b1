"""The answers a model gives to its corpus's tasks, made once and read by utility and bias alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

import numpy as np

from debias.attributes import ProtectedAttribute
from evaluation.results import Estimate
from evaluation.systems import Bench
from evaluation.utility.knn_probe import KNNProbe
from evaluation.utility.linear_probe import LinearProbe
from evaluation.utility.probe import Probe
from evaluation.utility.zero_shot import class_ranks, predictions

Metric = Callable[[Bench, ProtectedAttribute | None], list[Estimate]]


def asked_by_text(metric: Metric) -> Metric:
    """No rows where the model has no text tower."""

    @wraps(metric)
    def rows(bench: Bench, attribute: ProtectedAttribute | None) -> list[Estimate]:
        return metric(bench, attribute) if bench.has_text else []

    return rows


@dataclass(frozen=True)
class ZeroShotTask:
    """Zero-shot classification of some pictures of a split.

    Attributes:
        classes: names ``(c,)``.
        keep: the split's pictures that are classified, mask ``(n,)``.
        target: class index of each of them ``(m,)``.
        prompts: equally many for each class.
    """

    classes: np.ndarray
    keep: np.ndarray
    target: np.ndarray
    prompts: list[list[str]]

    def ranks(self, bench: Bench, split: str, system: str) -> np.ndarray:
        """Rank ``(m, c)`` of every class for every picture."""
        text = np.stack([bench.text(system, own) for own in self.prompts])
        return class_ranks(bench.systems[system][split].rows(self.keep).embedding, text)


@dataclass(frozen=True)
class Answers:
    """Class names predicted and true of every picture of a split ``(n,)``; empty where it was not asked."""

    classes: np.ndarray
    predictions: np.ndarray
    target: np.ndarray


def role_task(bench: Bench, split: str) -> ZeroShotTask | None:
    """Which role is shown, among the audited roles of the split, from the corpus's prompts.

    They name no group. None for a corpus without roles.
    """
    attribute = bench.corpus.role
    if attribute is None:
        return None
    keep, table = bench.where(split, bench.corpus.audited)
    roles, target = np.unique(table.attribute(attribute), return_inverse=True)
    prompts = [[template.replace("{}", role) for template in bench.corpus.templates] for role in roles]
    return ZeroShotTask(roles, keep, target, prompts)


def group_task(bench: Bench, split: str, attribute: ProtectedAttribute) -> ZeroShotTask:
    """Which group is drawn, from the attribute's own prompts: what an edit is meant to take away."""
    people = bench.people(attribute)[split]
    target = np.array([attribute.groups.index(group) for group in people.labels])
    return ZeroShotTask(np.array(attribute.groups), people.keep, target, group_prompts(attribute))


def group_prompts(attribute: ProtectedAttribute) -> list[list[str]]:
    """For each group of the attribute its words in all templates."""
    return [
        [template.replace("{}", word) for word in words for template in attribute.templates]
        for words in zip(*attribute.word_pairs, strict=True)
    ]


def role_answers(bench: Bench, split: str, system: str) -> Answers | None:
    """Zero-shot roles of every audited picture; None for a corpus without roles."""
    task = role_task(bench, split)
    return None if task is None else _spread(task, task.ranks(bench, split, system))


def group_answers(bench: Bench, split: str, system: str, attribute: ProtectedAttribute) -> Answers:
    """Zero-shot groups of every picture that has one."""
    task = group_task(bench, split, attribute)
    return _spread(task, task.ranks(bench, split, system))


def probe_answers(bench: Bench, split: str, system: str) -> Answers | None:
    """What the linear probe answers for every picture; None for a corpus without classes."""
    attribute = bench.corpus.classification
    if attribute is None:
        return None
    probe = linear_probe(bench, attribute, system)
    said = probe.predict(bench.systems[system][split].features)
    return Answers(probe.classes, said, bench.tables[split].attribute(attribute))


def linear_probe(bench: Bench, target: str, system: str) -> Probe:
    """The linear probe of a system's training features, fitted once."""
    return bench.once(
        ("linear probe", target, system),
        lambda: LinearProbe(*_training(bench, target, system), seed=bench.inference.seed),
    )


def knn_probe(bench: Bench, target: str, system: str) -> Probe:
    """The nearest-neighbour probe of a system's training features."""
    return KNNProbe(*_training(bench, target, system))


def _training(bench: Bench, target: str, system: str) -> tuple[np.ndarray, np.ndarray]:
    return bench.systems[system]["train"].features, bench.tables["train"].attribute(target)


def _spread(task: ZeroShotTask, ranks: np.ndarray) -> Answers:
    said, target = (np.full(len(task.keep), "", dtype=task.classes.dtype) for _ in range(2))
    said[task.keep] = task.classes[predictions(ranks)]
    target[task.keep] = task.classes[task.target]
    return Answers(task.classes, said, target)
