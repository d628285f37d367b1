"""Zero-shot evaluations with prompts from a file: labels given to people, and whom professions show first."""

from __future__ import annotations

import numpy as np

from clip_lite.progress import say
from debias.attributes import ProtectedAttribute
from evaluation.bias.labelling import given_categories, label_changes, label_rows
from evaluation.bias.ranking import ranking, ranking_changes
from evaluation.bias.ranking_shares import FirstPlaces, share_rows, worst_row
from evaluation.population import Population
from evaluation.prompt_file import PromptSet, row_name
from evaluation.results import Estimate
from evaluation.systems import OFF, RANDOM, Bench
from evaluation.vectors import unit_rows

PLACES = 100  # the first pictures of a profession, or a tenth of a smaller pool
LEAST_PLACES = 10


def labelling_metrics(bench: Bench, attribute: ProtectedAttribute) -> list[Estimate]:
    """Harmful labels given to people of each group, and whom a search for professions shows first.

    Of the audit's prompt sets (``configs/prompts``); no rows for a model without a text tower.
    """
    if not bench.has_text:
        return []
    return [row for prompts in bench.prompts for row in prompt_set_rows(bench, attribute, prompts)]


def prompt_set_rows(bench: Bench, attribute: ProtectedAttribute, prompts: PromptSet) -> list[Estimate]:
    """Rows of one prompt set, which may be a person's own, on every test split and system."""
    measure = _classified if prompts.kind == "classify" else _ranked
    return [
        row
        for split in bench.tests
        for row in measure(
            bench, split, bench.people(attribute)[split], prompts, f"{attribute.name}/{prompts.name}"
        )
    ]


def _classified(
    bench: Bench, split: str, people: Population, prompts: PromptSet, name: str
) -> list[Estimate]:
    rows: list[Estimate] = []
    given: dict[str, np.ndarray] = {}
    for system in bench.systems:
        given[system] = given_categories(*_embedded(bench, split, system, people, prompts), prompts)
        at = bench.at(split, system, people.table.clusters)
        rows += label_rows(given[system], people.labels, prompts, name=name, at=at)
        if system != OFF:
            rows += label_changes(given[system], given[OFF], people.labels, prompts, name=name, at=at)
    return rows


def _ranked(bench: Bench, split: str, people: Population, prompts: PromptSet, name: str) -> list[Estimate]:
    """Skew over all labels, of the worst, and of each by itself; the latter not of the random control."""
    k = min(PLACES, len(people.labels) // 10)
    if k < LEAST_PLACES:
        few, least = len(people.labels), 10 * LEAST_PLACES
        say(f"audit: no {prompts.name} on {split}: {few} pictures of people, expected {least} or more")
        return []
    rows: list[Estimate] = []
    pairs = {}
    for system in bench.systems:
        images, text = _embedded(bench, split, system, people, prompts)
        pairs[system] = (unit_rows(text).mean(axis=1), images)
    plain = _first_places(bench, split, OFF, people, pairs[OFF], k)
    for system, pair in pairs.items():
        at = bench.at(split, system, people.table.clusters)
        rows += ranking(*pair, people.labels, name=name, at=at, ks=(k,), cutoff=k)
        if system != OFF:
            before = pairs[OFF]
            rows += ranking_changes(before, pair, people.labels, name=name, at=at, ks=(k,), cutoff=k)
        found = plain if system == OFF else _first_places(bench, split, system, people, pair, k)
        rows.append(worst_row(found, name=name, at=at))
        if system != RANDOM:
            names = [row_name(text) for text in prompts.texts]
            rows += share_rows(found, names, plain.leading, name=name, at=at)
    return rows


def _first_places(
    bench: Bench, split: str, system: str, people: Population, pair: tuple[np.ndarray, np.ndarray], k: int
) -> FirstPlaces:
    return FirstPlaces.of(*pair, people.labels, k=k, at=bench.at(split, system, people.table.clusters))


def _embedded(
    bench: Bench, split: str, system: str, people: Population, prompts: PromptSet
) -> tuple[np.ndarray, np.ndarray]:
    """People's pictures ``(n, d)`` and the prompts ``(labels, templates, d)`` under a system."""
    text = np.stack([bench.text(system, own) for own in prompts.prompts])
    return bench.systems[system][split].rows(people.keep).embedding, text
