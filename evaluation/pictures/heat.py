"""Grad-CAM by group, to look at: where pictures of a group speak for its own prompt and for a neutral one."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn

from clip_lite.editable import EditableEncoder
from debias.attributes import ProtectedAttribute
from evaluation.pictures.shown import HeatMap
from evaluation.population import Population
from evaluation.systems import OFF, ON, TEXT, Bench
from evaluation.utility.gradcam import heat_maps, target_layer

AVERAGED = 16  # pictures of a group
SHOWN = 2  # of them
GROUPS = 6  # at most
SIDE = 32  # of a stored map; towers have maps of 2 to 24 places
PURPOSE = 61


class Heat(NamedTuple):
    """Heat maps, and why there are none or fewer."""

    maps: tuple[HeatMap, ...]
    notes: tuple[str, ...]


class _Task(NamedTuple):
    """Pictures of one group and the text they are asked for."""

    rows: np.ndarray
    group: str
    text: str


def heat_examples(bench: Bench, attribute: ProtectedAttribute | None) -> Heat:
    """Maps of ``SHOWN`` test pictures of each group and the mean over ``AVERAGED``, unedited and edited.

    Pictures are drawn at random, one of a cluster, from clusters that show most groups first, so that groups
    are compared on like pictures. None, with a note that says why, where Grad-CAM cannot read the model.
    """
    if attribute is None:
        return Heat((), ())
    try:
        layer = _layer(bench)
    except ValueError as error:
        return Heat((), (f"No heat maps: {error}.",))
    edits = ON in bench.systems and bool({"embedding", TEXT} & set(bench.edits[ON]))
    systems = (OFF, ON) if edits else (OFF,)
    maps = [each for task in _tasks(bench, attribute) for each in _maps(bench, layer, task, systems)]
    notes = []
    if ON in bench.systems and not edits:
        notes.append("The edit changes neither image nor text embeddings, so heat maps stay as they are.")
    if len(attribute.groups) > GROUPS:
        notes.append(f"Heat maps of the first {GROUPS} of {len(attribute.groups)} groups.")
    return Heat(tuple(maps), tuple(notes))


def _layer(bench: Bench) -> nn.Module:
    """The layer Grad-CAM reads.

    Raises:
        ValueError: no text tower, an encoder of another kind, or a tower without a map.
    """
    model = bench.subject.encoder
    if not bench.has_text:
        raise ValueError("the model has no text tower, and Grad-CAM asks by text")
    if not isinstance(model, EditableEncoder):
        raise ValueError(f"Grad-CAM reads towers of {EditableEncoder.__name__}")
    pixels = bench.tables[bench.tests[0]].pixels(slice(0, 1)).to(bench.subject.device)
    return target_layer(model.seeing, model.image_transform(pixels))


def _tasks(bench: Bench, attribute: ProtectedAttribute) -> Iterator[_Task]:
    people = bench.people(attribute)[bench.tests[0]]
    rows, order = np.flatnonzero(people.keep), _order(people, bench.inference.seed)
    template = max(attribute.templates, key=len)
    for place, group in enumerate(attribute.groups[:GROUPS]):
        own = order[people.labels[order] == group]
        _, first = np.unique(people.table.clusters[own], return_index=True)
        prompt = template.replace("{}", attribute.word_pairs[0][place])
        texts = [prompt, attribute.neutral_words(prompt)] if attribute.neutral else [prompt]
        for text in dict.fromkeys(texts):
            yield _Task(rows[own[np.sort(first)[:AVERAGED]]], group, text)


def _order(people: Population, seed: int) -> np.ndarray:
    """People in random order, clusters in one order that all groups share, those of most groups first."""
    rng = np.random.default_rng([seed, PURPOSE])
    names, code = np.unique(people.table.clusters, return_inverse=True)
    groups = np.array([len(set(people.labels[code == place])) for place in range(len(names))])
    order = rng.permutation(len(code))
    turn = rng.permutation(len(names))[code[order]]
    return order[np.lexsort((turn, -groups[code[order]]))]


def _maps(bench: Bench, layer: nn.Module, task: _Task, systems: tuple[str, ...]) -> Iterator[HeatMap]:
    model, table = bench.subject.encoder, bench.tables[bench.tests[0]]
    assert isinstance(model, EditableEncoder)
    pixels = model.image_transform(table.pixels(task.rows).to(bench.subject.device))
    heat = {}
    for system in systems:
        text = torch.from_numpy(bench.text(system, [task.text])).expand(len(pixels), -1)
        edit = bench.edits[system].get("embedding")
        heat[system] = heat_maps(model, pixels, text, layer=layer, edit=edit).numpy()
    ids = [table.records[int(row)].id for row in task.rows[:SHOWN]]
    for place, picture in enumerate(ids):
        drawn = {system: grey(own[place]) for system, own in heat.items()}
        yield _map(task, drawn, picture=picture, n=1)
    mean = {system: grey(own.mean(axis=0)) for system, own in heat.items()}
    yield _map(task, mean, picture="", n=len(pixels))


def _map(task: _Task, drawn: dict[str, str], *, picture: str, n: int) -> HeatMap:
    return HeatMap(
        picture=picture, group=task.group, text=task.text, off=drawn[OFF], on=drawn.get(ON, ""), n=n
    )


def grey(heat: np.ndarray) -> str:
    """A map ``(H, W)`` of 0 to 1 as grey PNG of side ``SIDE`` in base64."""
    image = Image.fromarray((255 * np.clip(heat, 0, 1)).round().astype(np.uint8)).resize((SIDE, SIDE))
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode()
