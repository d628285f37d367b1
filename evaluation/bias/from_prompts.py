"""What prompts find: whom texts rank first, which words lie near whom, and the concept-editing table."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from clip_lite.progress import say
from debias.attributes import ProtectedAttribute
from evaluation.bias.association import association, association_changes
from evaluation.bias.editing import TOP, editing, editing_changes, safe
from evaluation.bias.geometry import group_sizes
from evaluation.bias.ranking import KS, ranking, ranking_changes
from evaluation.population import Population
from evaluation.results import Estimate
from evaluation.systems import OFF, Bench
from evaluation.utility.tasks import group_prompts

QUERIES = 100
PROMPT = "a picture of a {}"
# The two sets of the career-family test (Nosek et al. 2002), as used for embeddings (Caliskan et al. 2017).
CAREER = ("executive", "management", "professional", "corporation", "salary", "office", "business", "career")
FAMILY = ("home", "parents", "children", "family", "cousins", "marriage", "wedding", "relatives")


def ranking_metrics(bench: Bench, attribute: ProtectedAttribute) -> list[Estimate]:
    """Skew of the groups among the first pictures for prompts that name no group.

    Prompts are the roles of the split; for a corpus without roles, captions of its people reworded neutrally
    (``QUERIES`` drawn at random), and no rows where the attribute has no neutral words or the pool is no
    larger than the shortest prefix.
    """
    rows: list[Estimate] = []
    for split in bench.tests:
        people = bench.people(attribute)[split]
        prompts = neutral_prompts(bench, people, attribute)
        if not prompts or len(people.labels) <= min(KS):
            continue
        pairs = {
            system: (bench.text(system, prompts), tables[split].rows(people.keep).embedding)
            for system, tables in bench.systems.items()
        }
        for system, pair in pairs.items():
            at = bench.at(split, system, people.table.clusters)
            rows += ranking(*pair, people.labels, name=attribute.name, at=at)
            if system != OFF:
                rows += ranking_changes(pairs[OFF], pair, people.labels, name=attribute.name, at=at)
    return rows


def association_metrics(bench: Bench, attribute: ProtectedAttribute) -> list[Estimate]:
    """Association of every two groups with their own words, and with career against family.

    An edit is meant to take the first away; the second is a stereotype that no prompt of the edit names. With
    more than two groups a row's name holds the pair.
    """
    own_words = dict(zip(attribute.groups, group_prompts(attribute), strict=True))
    stereotype = [[PROMPT.format(word) for word in words] for words in (CAREER, FAMILY)]
    rows: list[Estimate] = []
    for first, second in combinations(attribute.groups, 2):
        pair = f"/{safe(first)}_or_{safe(second)}" if len(attribute.groups) > 2 else ""
        for words, texts in (
            ("own_words", [own_words[first], own_words[second]]),
            ("career_family", stereotype),
        ):
            name = f"{attribute.name}/{words}{pair}"
            rows += _associated(bench, attribute, (first, second), texts, name)
    return rows


def _associated(
    bench: Bench, attribute: ProtectedAttribute, targets: tuple[str, str], texts: list[list[str]], name: str
) -> list[Estimate]:
    rows: list[Estimate] = []
    for split in bench.tests:
        people = bench.people(attribute)[split]
        found = {
            system: (
                tables[split].rows(people.keep).embedding,
                (bench.text(system, texts[0]), bench.text(system, texts[1])),
            )
            for system, tables in bench.systems.items()
        }
        for system, (images, sets) in found.items():
            at = bench.at(split, system, people.table.clusters)
            rows += association(images, people.labels, sets, targets=targets, name=name, at=at)
            if system != OFF:
                rows += association_changes(
                    found[OFF], (images, sets), people.labels, targets=targets, name=name, at=at
                )
    return rows


def editing_metrics(bench: Bench, attribute: ProtectedAttribute) -> list[Estimate]:
    """The paper's table on held-out images: how the best pictures of each group align with its prompts.

    Of a split in which some group has fewer pictures than the table ranks there are no rows, but a line.
    """
    prompts = dict(zip(attribute.groups, group_prompts(attribute), strict=True))
    rows: list[Estimate] = []
    for split in bench.tests:
        people = bench.people(attribute)[split]
        if (fewest := min(group_sizes(people.labels).values())) < TOP:
            say(f"audit: no concept editing on {split}: a group has {fewest} pictures, the table ranks {TOP}")
            continue
        found = {
            system: (
                tables[split].rows(people.keep).embedding,
                {group: bench.text(system, own) for group, own in prompts.items()},
            )
            for system, tables in bench.systems.items()
        }
        for system, pair in found.items():
            at = bench.at(split, system, people.table.clusters)
            rows += editing(*pair, people.labels, name=attribute.name, at=at)
            if system != OFF:
                rows += editing_changes(found[OFF], pair, people.labels, name=attribute.name, at=at)
    return rows


def neutral_prompts(bench: Bench, people: Population, attribute: ProtectedAttribute) -> list[str]:
    """Texts that name no group; empty where there are none to be had."""
    if role := bench.corpus.role:
        return [PROMPT.format(name) for name in np.unique(people.table.attribute(role))]
    if not attribute.neutral:
        return []
    captions = {attribute.neutral_words(c) for record in people.table.records for c in record.captions}
    said = sorted(text for text in captions if attribute.label([text]) not in attribute.groups)
    rng = np.random.default_rng(bench.inference.seed)
    return [said[place] for place in np.sort(rng.permutation(len(said))[:QUERIES])]
