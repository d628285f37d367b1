"""What the model tells about a protected attribute, for every system, with context and controls."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch.nn.functional as F
from sklearn.decomposition import PCA

from clip_lite.data.pairs import PairTable
from clip_lite.progress import say
from debias.attributes import ProtectedAttribute
from debias.methods.text_pca import text_direction
from evaluation.bias.geometry import cosine_kept, cross_modal_angle
from evaluation.bias.leakage import ATTACKERS, Attack, Sample, attack, leakage_change
from evaluation.embed import embed
from evaluation.population import Population, caption_labels, population
from evaluation.results import Estimate
from evaluation.systems import OFF, PIXELS, UNTRAINED, Bench

PIXEL_COMPONENTS = 128
PIXEL_SIDE, PIXEL_BLOCK = 64, 256  # larger pictures are shrunk; pictures read at a time


def bias_rows(bench: Bench, attribute: ProtectedAttribute) -> list[Estimate]:
    """Leakage of features and embeddings, of pixels and an untrained tower, and the geometry of the edit."""
    people = {split: population(bench.corpus, split, attribute) for split in bench.tables}
    return [
        *context_rows(bench, attribute, people),
        *leakage_rows(bench, attribute, people, "features"),
        *leakage_rows(bench, attribute, people, "embedding"),
        *fitted_rows(bench, attribute),
        *geometry_rows(bench, attribute, people),
    ]


def leakage_rows(
    bench: Bench, attribute: ProtectedAttribute, people: Mapping[str, Population], representation: str
) -> list[Estimate]:
    """Attackers trained on train stems, scored on test stems; and the change against the unedited model."""
    rows: list[Estimate] = []
    name = f"{attribute.name}/{representation}"
    attacks: dict[str, Attack] = {}
    for system, tables in bench.systems.items():
        say(f"audit: attacking {representation}, {system}")
        x = {split: getattr(tables[split].rows(own.keep), representation) for split, own in people.items()}
        attacks[system] = _attack(bench, people, x)
        for split in bench.tests:
            rows += attacks[system].estimates(name, split, system, bench.inference)
            if system != OFF:
                rows.append(
                    leakage_change(
                        attacks[OFF],
                        attacks[system],
                        name=name,
                        split=split,
                        system=system,
                        inference=bench.inference,
                    )
                )
    return rows


def context_rows(
    bench: Bench, attribute: ProtectedAttribute, people: Mapping[str, Population]
) -> list[Estimate]:
    """The same attackers on raw pixels (first principal components) and on the untrained tower's features."""
    say("audit: attacking pixels and an untrained tower")
    flat = {split: flat_pixels(own.table) for split, own in people.items()}
    pca = PCA(
        min(PIXEL_COMPONENTS, *flat["train"].shape),
        svd_solver="randomized",
        random_state=bench.inference.seed,
    )
    pca.fit(flat["train"])
    untrained = {
        split: embed(
            bench.subject.untrained, own.table, "untrained tower", device=bench.subject.device
        ).features
        for split, own in people.items()
    }
    rows: list[Estimate] = []
    for system, representation, x in (
        (PIXELS, "pixels", {split: pca.transform(own) for split, own in flat.items()}),
        (UNTRAINED, "features", untrained),
    ):
        result = _attack(bench, people, x)
        for split in bench.tests:
            rows += result.estimates(f"{attribute.name}/{representation}", split, system, bench.inference)
    return rows


def flat_pixels(table: PairTable) -> np.ndarray:
    """Pictures in [0, 1], ``(n, 3·side²)``, shrunk to ``PIXEL_SIDE`` where they are larger."""
    blocks = []
    for start in range(0, len(table), PIXEL_BLOCK):
        pictures = table.pixels(slice(start, start + PIXEL_BLOCK))
        if pictures.shape[-1] > PIXEL_SIDE:
            pictures = F.interpolate(pictures.float(), PIXEL_SIDE, mode="area")
        blocks.append(pictures.flatten(1).numpy() / 255.0)
    return np.concatenate(blocks)


def fitted_rows(bench: Bench, attribute: ProtectedAttribute) -> list[Estimate]:
    """What a linear attacker finds on the very data the eraser was fitted on, groups read from captions."""
    table = bench.tables["train"]
    labels = caption_labels(table, attribute)
    known = np.isin(labels, attribute.groups)
    rows: list[Estimate] = []
    for system, tables in bench.systems.items():
        own = Sample(tables["train"].rows(known).embedding, labels[known], table.clusters[known])
        result = attack(
            own, {"train": own}, seed=bench.inference.seed, attackers={"logistic": ATTACKERS["logistic"]}
        )
        rows.append(
            result.estimates(f"{attribute.name}/embedding_fitted", "train", system, bench.inference)[0]
        )
    return rows


def geometry_rows(
    bench: Bench, attribute: ProtectedAttribute, people: Mapping[str, Population]
) -> list[Estimate]:
    """Angle between text and image direction in the unedited space; cosine kept by every edit."""
    rows: list[Estimate] = []
    direction = text_direction(bench.subject.encoder.encode_text, attribute).numpy()
    for split in bench.tests:
        keep, table, labels = people[split]
        before = bench.systems[OFF][split].rows(keep).embedding
        rows.append(
            cross_modal_angle(
                direction,
                before,
                labels,
                clusters=table.clusters,
                groups=(attribute.groups[0], attribute.groups[1]),
                name=attribute.name,
                split=split,
                system=OFF,
                inference=bench.inference,
            )
        )
        rows += [
            cosine_kept(
                before,
                tables[split].rows(keep).embedding,
                clusters=table.clusters,
                name=attribute.name,
                split=split,
                system=system,
                inference=bench.inference,
            )
            for system, tables in bench.systems.items()
            if system != OFF
        ]
    return rows


def _attack(bench: Bench, people: Mapping[str, Population], x: Mapping[str, np.ndarray]) -> Attack:
    samples = {split: Sample(x[split], own.labels, own.table.clusters) for split, own in people.items()}
    tests = {split: samples[split] for split in bench.tests}
    return attack(samples["train"], tests, seed=bench.inference.seed)
