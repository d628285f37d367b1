"""What images alone tell of a protected attribute: leakage with its context and controls, and geometry."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch.nn.functional as F
from sklearn.decomposition import PCA

from clip_lite.data.pairs import PairTable
from clip_lite.progress import say
from debias.attributes import ProtectedAttribute
from debias.eraser import FITTED_ON
from debias.methods.text_pca import text_direction
from evaluation.bias.attackers import ATTACKERS
from evaluation.bias.geometry import cosine_kept, cross_modal_angle, group_sizes, residual_correlation
from evaluation.bias.information import usable_information
from evaluation.bias.leakage import Attack, Sample, attack, leakage_change
from evaluation.embed import embed
from evaluation.population import caption_labels
from evaluation.results import Estimate
from evaluation.systems import MAJORITY, OFF, ON, PIXELS, UNTRAINED, Bench

PIXEL_COMPONENTS = 128
PIXEL_SIDE, PIXEL_BLOCK = 64, 256  # larger pictures are shrunk; pictures read at a time
REPRESENTATIONS = ("features", "embedding")


def leakage_metrics(bench: Bench, attribute: ProtectedAttribute) -> list[Estimate]:
    """Attackers on features and embedding of every system, the change, the bits, and the fitted data.

    A system that leaves a representation as it is in every bit is not attacked anew: its rows are the
    unedited model's.
    """
    rows: list[Estimate] = []
    for representation in REPRESENTATIONS:
        name = f"{attribute.name}/{representation}"
        attacks: dict[str, Attack] = {}
        for system in bench.systems:
            samples = _samples(bench, attribute, representation, system)
            if system != OFF and not bench.changes(system, representation):
                attacks[system] = attacks[OFF]
            else:
                say(f"audit: attacking {representation}, {system}")
                attacks[system] = _attack(bench, samples)
            rows += _attacked(bench, attacks, name, system)
            if representation == "embedding" and system in (OFF, ON):
                held_out = [(samples[s], bench.at(s, system, samples[s].clusters)) for s in bench.tests]
                rows += usable_information(samples["train"], *held_out, name=name)
    return rows + fitted_rows(bench, attribute)


def context_metrics(bench: Bench, attribute: ProtectedAttribute) -> list[Estimate]:
    """What leakage is to be compared with: a majority answer, attackers on pixels and an untrained tower.

    Pixels are read by their first principal components.
    """
    people = bench.people(attribute)
    flat = {split: flat_pixels(own.table) for split, own in people.items()}
    pca = PCA(
        min(PIXEL_COMPONENTS, *flat["train"].shape),
        svd_solver="randomized",
        random_state=bench.inference.seed,
    )
    pca.fit(flat["train"])
    pixels = {split: pca.transform(own) for split, own in flat.items()}
    untrained = {
        split: embed(
            bench.subject.untrained, own.table, "untrained tower", device=bench.subject.device
        ).features
        for split, own in people.items()
    }
    rows = [majority_row(bench, attribute, split) for split in bench.tests]
    for system, representation, x in ((PIXELS, "pixels", pixels), (UNTRAINED, "features", untrained)):
        samples = {s: Sample(x[s], own.labels, own.table.clusters) for s, own in people.items()}
        found = _attack(bench, samples)
        for split in bench.tests:
            at = bench.at(split, system, samples[split].clusters)
            rows += found.estimates(f"{attribute.name}/{representation}", at=at)
    return rows


def majority_row(bench: Bench, attribute: ProtectedAttribute, split: str) -> Estimate:
    """Row ``leakage/{attribute}/majority/max``: balanced accuracy of always answering the commonest group."""
    people = bench.people(attribute)[split]
    sizes = group_sizes(people.labels)
    at = bench.at(split, MAJORITY, people.table.clusters)
    name = f"leakage/{attribute.name}/majority/max"
    return at.row(name, 1 / len(sizes), higher_is_better=False, n_by_group=sizes)


def flat_pixels(table: PairTable) -> np.ndarray:
    """Pictures in [0, 1], float32 ``(n, 3·side²)``, shrunk to ``PIXEL_SIDE`` where they are larger."""
    blocks = []
    for start in range(0, len(table), PIXEL_BLOCK):
        pictures = table.pixels(slice(start, start + PIXEL_BLOCK)).float()
        if pictures.shape[-1] > PIXEL_SIDE:
            pictures = F.interpolate(pictures, PIXEL_SIDE, mode="area")
        blocks.append(pictures.flatten(1).numpy() / np.float32(255.0))
    return np.concatenate(blocks)


def fitted_rows(bench: Bench, attribute: ProtectedAttribute) -> list[Estimate]:
    """What a linear attacker finds on the very data the eraser was fitted on, groups read from captions.

    None where that is not the training split, as far as the erasers know, or where captions name fewer than
    two groups.
    """
    table = bench.tables["train"]
    if any(eraser.details.get(FITTED_ON) != table.digest for eraser in bench.subject.erasers.values()):
        return []
    labels = caption_labels(table, attribute)
    known = np.isin(labels, attribute.groups)
    if len(np.unique(labels[known])) < 2:
        return []
    rows: list[Estimate] = []
    for system, tables in bench.systems.items():
        own = Sample(tables["train"].rows(known).embedding, labels[known], table.clusters[known])
        found = attack(
            own,
            {"train": own},
            seed=bench.inference.seed,
            attackers={"logistic": ATTACKERS["logistic"]},
        )
        at = bench.at("train", system, own.clusters)
        name = f"{attribute.name}/embedding_fitted"
        rows += [row for row in found.estimates(name, at=at) if row.name == f"leakage/{name}/logistic"]
    return rows


def geometry_metrics(bench: Bench, attribute: ProtectedAttribute) -> list[Estimate]:
    """Angle between text and image direction, before the edit; cosine kept, and what is left linearly."""
    rows: list[Estimate] = []
    encode = bench.subject.encoder.encode_text
    direction = text_direction(encode, attribute).numpy() if bench.has_text else None
    pair = (attribute.groups[0], attribute.groups[1])
    samples = {system: _samples(bench, attribute, "embedding", system) for system in bench.systems}
    for split in bench.tests:
        before = samples[OFF][split]
        for system, own in samples.items():
            at = bench.at(split, system, before.clusters)
            if system == OFF and direction is not None:
                rows.append(
                    cross_modal_angle(
                        direction, before.x, before.labels, groups=pair, name=attribute.name, at=at
                    )
                )
            elif system != OFF:
                rows.append(cosine_kept(before.x, own[split].x, name=attribute.name, at=at))
            train = own["train"]
            rows.append(
                residual_correlation(
                    train.x, train.labels, own[split].x, before.labels, name=attribute.name, at=at
                )
            )
    return rows


def _samples(
    bench: Bench, attribute: ProtectedAttribute, representation: str, system: str
) -> dict[str, Sample]:
    return {
        split: Sample(
            getattr(bench.systems[system][split].rows(own.keep), representation),
            own.labels,
            own.table.clusters,
        )
        for split, own in bench.people(attribute).items()
    }


def _attack(bench: Bench, samples: Mapping[str, Sample]) -> Attack:
    tests = {split: samples[split] for split in bench.tests}
    return attack(samples["train"], tests, seed=bench.inference.seed)


def _attacked(bench: Bench, attacks: Mapping[str, Attack], name: str, system: str) -> list[Estimate]:
    rows: list[Estimate] = []
    for split in bench.tests:
        at = bench.at(split, system, attacks[system].answers[split].clusters)
        rows += attacks[system].estimates(name, at=at)
        if system != OFF:
            rows += leakage_change(attacks[OFF], attacks[system], name=name, at=at)
    return rows
