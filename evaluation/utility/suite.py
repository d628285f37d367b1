"""What the model can do, for every system and test split."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from clip_lite.model import DualEncoder
from clip_lite.progress import say
from debias.attributes import ProtectedAttribute
from evaluation.embed import caption_index
from evaluation.results import Estimate
from evaluation.systems import OFF, Bench
from evaluation.utility.average_precision import map_change, mean_average_precision
from evaluation.utility.gradcam import heat_maps, target_layer
from evaluation.utility.grounding import grounding, grounding_change
from evaluation.utility.grounding_scenes import Scenes, compose
from evaluation.utility.probe import Hits, Probe
from evaluation.utility.retrieval import recall_change, retrieval
from evaluation.utility.retrieval_ranks import Ranks, retrieval_ranks
from evaluation.utility.sgd_probe import SGDProbe
from evaluation.utility.svm_probe import FOLDS, SVMProbe
from evaluation.utility.tasks import ZeroShotTask, group_task, knn_probe, linear_probe, role_task
from evaluation.utility.zero_shot import zero_shot, zero_shot_change

SCENES = 400


def retrieval_metrics(bench: Bench, attribute: ProtectedAttribute | None) -> list[Estimate]:
    """Any-hit recall and median rank on the canonical pictures, by captions as written.

    Where the attribute has neutral words, once more by captions that name no group: what a model earns by
    telling groups apart is then no utility, and models of either training can be compared.
    """
    rows: list[Estimate] = []
    for split in bench.tests:
        rows += _retrieval(bench, split, str, "retrieval")
        if attribute and attribute.neutral:
            rows += _retrieval(bench, split, attribute.neutral_words, "neutral_retrieval")
    return rows


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
    """Linear and nearest-neighbour probes of the corpus's classes on tower features of the train split."""
    return _probes(bench, {"linear": linear_probe, "nearest neighbours": knn_probe})


def grounding_metrics(bench: Bench, _attribute: ProtectedAttribute | None) -> list[Estimate]:
    """Whether a caption's heat map lies on its picture, in scenes of four canonical pictures.

    No rows, and a line that says why, where Grad-CAM cannot read the image tower.
    """
    rows: list[Estimate] = []
    for split in bench.tests:
        table = bench.tables[split].where(bench.corpus.canonical)
        try:
            scenes = compose(table, count=SCENES, seed=bench.inference.seed)
            heat = scene_heat(bench, scenes)
        except ValueError as error:
            say(f"audit: no grounding: {error}")
            return []
        boxes = scenes.boxes * (heat[OFF].shape[-1] / scenes.images.shape[-1])
        for system, own in heat.items():
            at = bench.at(split, system, scenes.clusters)
            rows += grounding(own, boxes, name="scenes", at=at)
            if system != OFF:
                rows += grounding_change(heat[OFF], own, boxes, name="scenes", at=at)
    return rows


def scene_heat(bench: Bench, scenes: Scenes) -> dict[str, np.ndarray]:
    """Heat maps ``(n, H, W)`` of the scenes' phrases by system.

    Raises:
        ValueError: an encoder of another kind, or a tower without a map.
    """
    model = bench.subject.encoder
    if not isinstance(model, DualEncoder):
        raise ValueError(f"Grad-CAM reads towers of {DualEncoder.__name__}")
    pixels = model.image_transform(torch.from_numpy(scenes.images).to(bench.subject.device))
    layer = target_layer(model.image_tower, pixels[:1])
    heat = {}
    for system, edits in bench.edits.items():
        text = torch.from_numpy(bench.text(system, scenes.phrases))
        heat[system] = heat_maps(model, pixels, text, layer=layer, edit=edits.get("embedding")).numpy()
    return heat


def sgd_probe_metrics(bench: Bench, _attribute: ProtectedAttribute | None) -> list[Estimate]:
    """The linear probe of published ImageNet figures: 100 epochs of SGD, learning rate swept on train."""

    def fitted(bench: Bench, target: str, system: str) -> Probe:
        train = bench.tables["train"]
        x, y = bench.systems[system]["train"].features, train.attribute(target)
        return SGDProbe(x, y, train.clusters, seed=bench.inference.seed)

    return _probes(bench, {"SGD": fitted})


def svm_probe_metrics(bench: Bench, _attribute: ProtectedAttribute | None) -> list[Estimate]:
    """One SVM per class with average precision, as for VOC07, on classes that both splits show."""
    target = bench.corpus.classification
    if target is None:
        return []
    rows: list[Estimate] = []
    for split in bench.tests:
        classes = _common_classes(bench, target, split)
        truth = {
            part: np.where(bench.tables[part].attribute(target)[:, None] == classes, 1, -1)
            for part in ("train", split)
        }
        before = np.empty(0)
        for system, tables in bench.systems.items():
            say(f"audit: SVM probe, {system}, {split}")
            train = tables["train"]
            probe = SVMProbe(train.features, truth["train"], train.clusters, seed=bench.inference.seed)
            scores, at = probe.scores(tables[split].features), bench.at(split, system)
            rows += mean_average_precision(scores, truth[split], classes.tolist(), name=target, at=at)
            if system == OFF:
                before = scores
            else:
                rows += map_change(before, scores, truth[split], name=target, at=at)
    return rows


def _common_classes(bench: Bench, target: str, split: str) -> np.ndarray:
    """Classes with three training clusters, which folds need, and one picture to test on."""
    train = bench.tables["train"]
    held = {(name, cluster) for name, cluster in zip(train.attribute(target), train.clusters, strict=True)}
    names, counts = np.unique([name for name, _ in held], return_counts=True)
    return np.intersect1d(names[counts >= FOLDS], bench.tables[split].attribute(target))


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
