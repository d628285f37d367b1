"""All bias metrics at growing size: ``python tests/benchmarks/bias_scale.py [N ...]``, about 15 minutes.

Embeddings of 512 dimensions with a planted linear leak, two groups, a cluster for every observation, as many
observations held out as trained on; 10 classes of a task, 20 queries; 1,000 resamples and permutations. Each
metric is measured of two systems (a direction removed or not) with its change, as an audit does. Printed are
seconds at each N, the exponent with which they grow from one N to the next, and the largest resident set.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from common import machine

from evaluation.bias.amplification import Task, decided, leakage_amplification
from evaluation.bias.amplification_directional import attribute_to_task, training_cells
from evaluation.bias.association import association, association_changes
from evaluation.bias.editing import editing, editing_changes
from evaluation.bias.geometry import cosine_kept, cross_modal_angle, residual_correlation
from evaluation.bias.groups import group_changes, group_rows
from evaluation.bias.information import usable_information
from evaluation.bias.leakage import Sample, attack, leakage_change
from evaluation.bias.ranking import ranking, ranking_changes
from evaluation.inference import Inference
from evaluation.results import Estimate
from evaluation.setting import Setting

SIZES = (10_000, 30_000, 100_000)
DIM, CLASSES, QUERIES = 512, 10, 20
GROUPS = ("man", "woman")
Rows = list[Estimate]


class World(NamedTuple):
    """Planted data: train and test of the unedited system, the edited test, tasks and texts."""

    train: Sample
    test: Sample
    edited: Sample
    edited_train: Sample
    truth: np.ndarray
    answers: np.ndarray
    edited_answers: np.ndarray
    texts: np.ndarray
    at: Setting


def world(count: int) -> World:
    """``count`` observations, half of them held out."""
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=count)
    x = rng.standard_normal((count, DIM), dtype=np.float32)
    x[:, 0] += 0.8 * labels
    truth = (labels * (rng.random(count) < 0.3) + rng.integers(CLASSES, size=count)) % CLASSES
    answers, edited_answers = (
        np.where(rng.random(count) < wrong, rng.integers(CLASSES, size=count), truth) for wrong in (0.3, 0.35)
    )
    names = np.array(GROUPS)[labels]
    half, clusters = count // 2, np.arange(count)
    edited = x.copy()
    edited[:, 0] = 0.0

    def part(of: np.ndarray, rows: slice) -> Sample:
        return Sample(of[rows], names[rows], clusters[rows])

    train, test = slice(0, half), slice(half, count)
    at = Setting(clusters=clusters[test], split="test", system="eraser on", inference=Inference())
    texts = rng.standard_normal((QUERIES, DIM))
    return World(
        part(x, train), part(x, test), part(edited, test), part(edited, train), truth, answers,
        edited_answers, texts, at,
    )  # fmt: skip


def leakage(own: World) -> Rows:
    """Five attackers on both systems, balanced accuracy, AUC and their changes."""
    attacks = [
        attack(train, {"test": test}, seed=0)
        for train, test in ((own.train, own.test), (own.edited_train, own.edited))
    ]
    rows = [row for each in attacks for row in each.estimates("x", at=own.at)]
    return rows + leakage_change(*attacks, name="x", at=own.at)


def information(own: World) -> Rows:
    """Usable information of both systems."""
    return [
        row
        for train, test in ((own.train, own.test), (own.edited_train, own.edited))
        for row in usable_information(train, (test, own.at), name="x")
    ]


def geometry(own: World) -> Rows:
    """Angle, cosine kept, residual correlation."""
    labels = own.test.labels
    return [
        cross_modal_angle(own.texts[0], own.test.x, labels, groups=GROUPS, name="x", at=own.at),
        cosine_kept(own.test.x, own.edited.x, name="x", at=own.at),
        residual_correlation(own.train.x, own.train.labels, own.test.x, labels, name="x", at=own.at),
        residual_correlation(own.edited_train.x, own.train.labels, own.edited.x, labels, name="x", at=own.at),
    ]


def ranked(own: World) -> Rows:
    """MaxSkew, MinSkew, NDKL of both and their changes."""
    pairs = [(own.texts, sample.x) for sample in (own.test, own.edited)]
    rows = [row for pair in pairs for row in ranking(*pair, own.test.labels, name="x", at=own.at)]
    return rows + ranking_changes(*pairs, own.test.labels, name="x", at=own.at)


def associated(own: World) -> Rows:
    """Effect size and difference of both and their changes."""
    texts = (own.texts[:8], own.texts[8:16])
    pairs = [(sample.x, texts) for sample in (own.test, own.edited)]
    given = {"targets": GROUPS, "name": "x", "at": own.at}
    rows = [row for x, sets in pairs for row in association(x, own.test.labels, sets, **given)]
    return rows + association_changes(*pairs, own.test.labels, **given)


def edited_concepts(own: World) -> Rows:
    """The concept-editing table of both and their changes."""
    prompts = dict(zip(GROUPS, (own.texts[:10], own.texts[10:]), strict=True))
    pairs = [(sample.x, prompts) for sample in (own.test, own.edited)]
    rows = [row for pair in pairs for row in editing(*pair, own.test.labels, name="x", at=own.at)]
    return rows + editing_changes(*pairs, own.test.labels, name="x", at=own.at)


def by_group(own: World) -> Rows:
    """Parity, odds and opportunity of both and their changes."""
    half = len(own.train.labels)
    target, before, after = (each[half:] for each in (own.truth, own.answers, own.edited_answers))
    labels = own.test.labels
    rows = [r for said in (before, after) for r in group_rows(said, target, labels, name="x", at=own.at)]
    return rows + group_changes(after, before, target, labels, name="x", at=own.at)


def amplified(own: World) -> Rows:
    """Leakage amplification and directional amplification of one system."""
    half = len(own.train.labels)
    truth, answers = (decided(np.eye(CLASSES)[each]) for each in (own.truth, own.answers))
    train = Task(answers[:half], truth[:half], own.train.labels, own.train.clusters)
    test = Task(answers[half:], truth[half:], own.test.labels, own.test.clusters)
    cells = training_cells(train.labels, train.truth, train.clusters, level=0.95)
    rows = leakage_amplification(train, test, name="x", at=own.at)
    return rows + attribute_to_task(cells, test.labels, test.truth, test.answers, name="x", at=own.at)


METRICS: Mapping[str, Callable[[World], Rows]] = {
    "leakage, 5 attackers": leakage,
    "usable information": information,
    "geometry": geometry,
    "ranking": ranked,
    "association": associated,
    "concept editing": edited_concepts,
    "groups": by_group,
    "amplification": amplified,
}


def main(sizes: tuple[int, ...]) -> None:
    """Print a table."""
    print(machine())
    print(f"{'seconds':22}" + "".join(f"{size:>12,}" for size in sizes) + "   grows as n to the")
    taken: dict[str, list[float]] = {name: [] for name in METRICS}
    for size in sizes:
        own = world(size)
        for name, metric in METRICS.items():
            begin = time.perf_counter()
            metric(own)
            taken[name].append(time.perf_counter() - begin)
            print(f"  n = {size:,}: {name} {taken[name][-1]:.1f} s", file=sys.stderr, flush=True)
    taken["all"] = [sum(column) for column in zip(*taken.values(), strict=True)]
    for name, seconds in taken.items():
        growth = [
            f"{np.log(late / early) / np.log(more / fewer):.2f}"
            for early, late, fewer, more in zip(seconds, seconds[1:], sizes, sizes[1:], strict=False)
        ]
        print(f"{name:22}" + "".join(f"{each:12.1f}" for each in seconds) + f"   {', '.join(growth)}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"largest resident set {peak:.2f} GiB (test embeddings alone: {sizes[-1] * DIM * 4 / 2**30:.2f} GiB)"
    )


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or SIZES)
