"""What a model's answers to its tasks tell of a protected attribute: by group, and against the labels."""

from __future__ import annotations

import numpy as np

from debias.attributes import ProtectedAttribute
from evaluation.bias.amplification import Task, leakage_amplification
from evaluation.bias.amplification_directional import attribute_to_task, task_to_attribute, training_cells
from evaluation.bias.groups import group_changes, group_rows
from evaluation.population import Population
from evaluation.results import Estimate
from evaluation.setting import Setting
from evaluation.systems import OFF, Bench
from evaluation.utility.tasks import Answers, group_answers, probe_answers, role_answers


def group_metrics(bench: Bench, attribute: ProtectedAttribute) -> list[Estimate]:
    """Accuracy, parity, odds and opportunity by group, of zero-shot roles and of the probe's classes."""
    rows: list[Estimate] = []
    for split in bench.tests:
        people = bench.people(attribute)[split]
        tasks = {"role": role_answers, "probe": probe_answers}
        for task, asked in tasks.items() if bench.has_text else [("probe", probe_answers)]:
            name, said = f"{attribute.name}/{task}", {}
            for system in bench.systems:
                if (answers := asked(bench, split, system)) is None:
                    break
                said[system], target = (each[people.keep] for each in (answers.predictions, answers.target))
                at = bench.at(split, system, people.table.clusters)
                rows += group_rows(said[system], target, people.labels, name=name, at=at)
                if system != OFF:
                    rows += group_changes(said[system], said[OFF], target, people.labels, name=name, at=at)
    return rows


def amplification_metrics(bench: Bench, attribute: ProtectedAttribute) -> list[Estimate]:
    """Leakage of the probe's answers against labels of equal score, and directional amplification.

    No rows for a corpus without classes.
    """
    rows: list[Estimate] = []
    name = f"{attribute.name}/probe"
    people = bench.people(attribute)
    for split in bench.tests:
        for system in bench.systems:
            answers = {part: probe_answers(bench, part, system) for part in ("train", split)}
            if answers[split] is None:
                continue
            tasks = {part: _task(own, people[part]) for part, own in answers.items() if own is not None}
            at = bench.at(split, system, people[split].table.clusters)
            rows += leakage_amplification(tasks["train"], tasks[split], name=name, at=at)
            rows += _directional(bench, attribute, tasks["train"], tasks[split], name, at)
    return rows


def _task(answers: Answers, people: Population) -> Task:
    classes = answers.classes
    said, target = answers.predictions[people.keep], answers.target[people.keep]
    return Task(
        (said[:, None] == classes).astype(np.int8),
        (target[:, None] == classes).astype(np.int8),
        people.labels,
        people.table.clusters,
    )


def _directional(
    bench: Bench, attribute: ProtectedAttribute, train: Task, test: Task, name: str, at: Setting
) -> list[Estimate]:
    cells = training_cells(train.labels, train.truth, train.clusters, level=at.inference.level)
    rows = attribute_to_task(cells, test.labels, test.truth, test.answers, name=name, at=at)
    if not bench.has_text:
        return rows
    answered = group_answers(bench, at.split, at.system, attribute).predictions
    said = answered[bench.people(attribute)[at.split].keep]
    return rows + task_to_attribute(cells, test.labels, test.truth, said, name=name, at=at)
