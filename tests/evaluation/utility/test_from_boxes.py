"""Grounding of phrases with annotated boxes, by a tower that sees where a colour is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip_lite.data.pairs import Corpus, Flag, PairTable, Phrases, Record
from clip_lite.editable import EditableEncoder
from clip_lite.encoder import ImageFeatures
from debias.eraser import Eraser
from evaluation.inference import Inference
from evaluation.systems import Bench, Subject
from evaluation.utility.from_boxes import drawn
from evaluation.utility.suite import grounding_metrics

SIDE, COLOURS = 32, ("red", "green", "blue")


class ColourSeer(EditableEncoder):
    """Averages over places; a text is the colour that it names."""

    embedding_dim = feature_dim = 3
    image_size = SIDE
    settings: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.AvgPool2d(4), nn.Identity())

    def image_transform(self, images: Tensor) -> Tensor:
        return images.float() / 255

    def unedited(self, pixels: Tensor) -> ImageFeatures:
        pooled = self.tower(pixels).mean(dim=(2, 3))
        return ImageFeatures(pooled, F.normalize(pooled, dim=-1))

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return torch.eye(3)[[COLOURS.index(text) for text in texts]]

    def fresh(self, _seed: int) -> ColourSeer:
        return ColourSeer()

    def describe(self) -> dict[str, Any]:
        return {}

    def save_pretrained(self, folder: Path) -> None:
        raise NotImplementedError

    @property
    def seeing(self) -> nn.Module:
        return self.tower


@pytest.fixture
def corpus() -> Corpus:
    """Grey pictures with a coloured square in one quarter, which a phrase names."""
    rng = np.random.default_rng(0)
    n, half = 60, SIDE // 2
    images = np.full((n, 3, SIDE, SIDE), 40, dtype=np.uint8)
    colours, boxes, records = [], [], []
    for place in range(n):
        column, row, colour = (int(rng.integers(2)), int(rng.integers(2)), int(rng.integers(3)))
        images[place, colour, row * half : (row + 1) * half, column * half : (column + 1) * half] = 255
        boxes.append([column / 2, row / 2, (column + 1) / 2, (row + 1) / 2])
        colours.append(COLOURS[colour])
        records.append(Record(str(place), (COLOURS[colour],), {}, str(place)))
    table = PairTable(images, records, np.arange(n))
    names = table.clusters
    return Corpus(
        name="squares",
        splits={"train": table, "val": table, "test": table},
        sources=(),
        limits=(),
        audited=Flag(None),
        canonical=Flag(None),
        phrases={"test": Phrases(images, np.arange(n), colours, np.array(boxes), names)},
    )


def rows_of(corpus: Corpus, **erasers: Eraser) -> dict[tuple[str, str], float]:
    model = ColourSeer()
    subject = Subject(encoder=model, erasers=erasers, untrained=model, device=torch.device("cpu"))
    bench = Bench.prepare(subject, corpus, Inference(resamples=50, permutations=50))
    return {(row.name, row.system): row.value for row in grounding_metrics(bench, None)}


def test_phrases_are_found_in_their_boxes_and_not_in_others(corpus: Corpus) -> None:
    found = rows_of(corpus)
    assert found[("grounding/phrases_pointing", "eraser off")] == 1
    assert found[("grounding/phrases_iou50", "eraser off")] == 1
    phrases = corpus.phrases["test"]
    opposite = replace(phrases, boxes=(1 - phrases.boxes)[:, [2, 3, 0, 1]])
    elsewhere = rows_of(replace(corpus, phrases={"test": opposite}))
    assert elsewhere[("grounding/phrases_pointing", "eraser off")] == 0


def test_an_edit_that_removes_a_colour_removes_where_it_is(corpus: Corpus) -> None:
    red = Eraser(
        torch.zeros(3, dtype=torch.float64),
        torch.eye(3, 1, dtype=torch.float64),
        torch.eye(3, 1, dtype=torch.float64),
        method="test",
        changes_images=True,
    )
    found = rows_of(corpus, embedding=red)
    said = np.array(corpus.phrases["test"].phrases)
    expected = np.mean(said != "red")
    assert 0.4 < expected < 0.9
    assert found[("grounding/phrases_pointing", "eraser on")] == pytest.approx(expected)
    change = found[("grounding/phrases_pointing_change", "eraser on")]
    assert change == pytest.approx(expected - 1)


def test_many_phrases_are_drawn_with_their_own_boxes(corpus: Corpus) -> None:
    phrases = corpus.phrases["test"]
    fewer, again = drawn(phrases, 20, seed=1), drawn(phrases, 20, seed=1)
    assert np.array_equal(fewer.rows, again.rows)
    assert len(fewer.phrases) == len(fewer.boxes) == len(fewer.clusters) == 20
    for place, row in enumerate(fewer.rows.tolist()):
        assert fewer.phrases[place] == phrases.phrases[row]
        assert np.array_equal(fewer.boxes[place], phrases.boxes[row])
    assert drawn(phrases, 60, seed=1) is phrases


def test_neither_phrases_nor_captions_give_no_rows(corpus: Corpus) -> None:
    assert rows_of(replace(corpus, phrases={}, captioned=False)) == {}
