"""Grounding: whether a phrase's heat map lies on what it names, in annotated pictures or composed ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from clip_lite.data.pairs import Phrases
from clip_lite.editable import EditableEncoder
from clip_lite.progress import say, track
from debias.attributes import ProtectedAttribute
from evaluation.results import Estimate
from evaluation.systems import OFF, Bench
from evaluation.utility.gradcam import BATCH, heat_maps, target_layer
from evaluation.utility.grounding import grounding, grounding_change
from evaluation.utility.grounding_scenes import compose
from evaluation.utility.tasks import asked_by_text

SCENES = 400
PHRASES = 2000
PURPOSE = 52
DECIMALS = 6  # of pixels: shares of a side times the side give whole pixels back


@asked_by_text
def grounding_metrics(bench: Bench, _attribute: ProtectedAttribute | None) -> list[Estimate]:
    """Whether a phrase's heat map lies on what it names.

    Rows ``grounding/phrases_*`` where the corpus has phrases with boxes (at most 2,000 of a split, drawn at
    random); elsewhere ``grounding/scenes_*``: whether a caption's map lies on its picture, in scenes of four
    canonical pictures. No rows, and a line that says why, where Grad-CAM cannot read the image tower, or
    pictures have no captions.
    """
    rows: list[Estimate] = []
    for split in bench.tests:
        try:
            name, asked = _asked(bench, split)
            rows += _grounded(bench, split, name, asked, _layer(bench, asked))
        except ValueError as error:
            say(f"audit: no grounding on {split}: {error}")
    return rows


def _asked(bench: Bench, split: str) -> tuple[str, Phrases]:
    """Name of the task, and what is asked.

    Raises:
        ValueError: there is nothing to ask.
    """
    corpus, seed = bench.corpus, bench.inference.seed
    if phrases := corpus.phrases.get(split):
        return "phrases", drawn(phrases, PHRASES, seed=seed)
    if not corpus.captioned:
        raise ValueError(f"{corpus.name} has neither captions nor phrases with boxes")
    return "scenes", compose(bench.tables[split].where(corpus.canonical), count=SCENES, seed=seed)


def drawn(phrases: Phrases, limit: int, *, seed: int) -> Phrases:
    """At most ``limit`` of the phrases, drawn at random, in order."""
    if len(phrases.phrases) <= limit:
        return phrases
    rng = np.random.default_rng([seed, PURPOSE])
    kept = np.sort(rng.choice(len(phrases.phrases), size=limit, replace=False))
    return replace(
        phrases,
        rows=phrases.rows[kept],
        phrases=[phrases.phrases[int(place)] for place in kept],
        boxes=phrases.boxes[kept],
        clusters=phrases.clusters[kept],
    )


def _layer(bench: Bench, asked: Phrases) -> nn.Module:
    """The layer that Grad-CAM reads.

    Raises:
        ValueError: an encoder of another kind, or a tower without a map.
    """
    model = bench.subject.encoder
    if not isinstance(model, EditableEncoder):
        raise ValueError(f"Grad-CAM reads towers of {EditableEncoder.__name__}")
    pixels = torch.from_numpy(np.array(asked.images[asked.rows[:1]])).to(bench.subject.device)
    return target_layer(model.seeing, model.image_transform(pixels))


def _grounded(bench: Bench, split: str, name: str, asked: Phrases, layer: nn.Module) -> list[Estimate]:
    rows: list[Estimate] = []
    before = np.empty(0)
    for system in bench.systems:
        heat = heat_of(bench, system, asked, layer)
        boxes = np.round(asked.boxes * heat.shape[-1], DECIMALS)
        at = bench.at(split, system, asked.clusters)
        rows += grounding(heat, boxes, name=name, at=at)
        if system == OFF:
            before = heat
        else:
            rows += grounding_change(before, heat, boxes, name=name, at=at)
    return rows


def heat_of(bench: Bench, system: str, asked: Phrases, layer: nn.Module) -> np.ndarray:
    """Heat maps ``(n, s, s)`` of all phrases under a system, ``s`` the side that the tower takes."""
    model, edit = bench.subject.encoder, bench.edits[system].get("embedding")
    assert isinstance(model, EditableEncoder)
    text = torch.from_numpy(bench.text(system, asked.phrases))
    parts = []
    for low in track(range(0, len(text), BATCH), f"grounding, {system}", -(-len(text) // BATCH)):
        pictures = np.array(asked.images[asked.rows[low : low + BATCH]])
        pixels = model.image_transform(torch.from_numpy(pictures).to(bench.subject.device))
        parts.append(heat_maps(model, pixels, text[low : low + BATCH], layer=layer, edit=edit).numpy())
    return np.concatenate(parts)
