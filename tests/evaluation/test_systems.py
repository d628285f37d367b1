"""What a bench holds: systems that share one pass, texts encoded once, edits that concern images or not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from clip_lite.data.pairs import Corpus
from clip_lite.encoder import ImageFeatures
from debias.attributes import ProtectedAttribute
from debias.eraser import Eraser
from debias.methods.random_direction import random_direction
from evaluation.bias.from_images import leakage_metrics
from evaluation.bias.from_prompts import ranking_metrics
from evaluation.inference import Inference
from evaluation.systems import OFF, ON, RANDOM, Bench, Subject

DIM = 12


class Colours:
    """Embeds a picture by its mean colours, a text by its letters; counts what it is asked."""

    embedding_dim = DIM

    has_text = True

    def __init__(self) -> None:
        self.asked: list[str] = []

    def image_transform(self, images: Tensor) -> Tensor:
        return images.float() / 255

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        features = torch.nn.functional.adaptive_avg_pool2d(pixels, 2).flatten(1)
        return ImageFeatures(features, torch.nn.functional.normalize(features))

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        self.asked += texts
        letters = torch.tensor([[text.count(chr(97 + i)) + 0.1 for i in range(DIM)] for text in texts])
        return torch.nn.functional.normalize(letters)


def bench(corpus: Corpus, **erasers: Eraser) -> Bench:
    encoder = Colours()
    subject = Subject(encoder=encoder, erasers=erasers, untrained=encoder, device=torch.device("cpu"))
    return Bench.prepare(subject, corpus, Inference(resamples=50, permutations=50))


def edit(seed: int = 7) -> Eraser:
    return random_direction(DIM, rank=3, mean=torch.zeros(DIM), seed=seed)


def test_a_text_only_edit_leaves_image_leakage_bit_equal_and_says_so(
    corpus: Corpus, gender: ProtectedAttribute
) -> None:
    texts, images = bench(corpus, text=edit()), bench(corpus, embedding=edit())
    assert not texts.images_changed
    assert images.images_changed

    def leaks(of: Bench, system: str) -> list[tuple[str, float, float | None]]:
        rows = leakage_metrics(of, gender)
        kept = [row for row in rows if row.system == system and not row.name.endswith("_change")]
        return [(row.name, row.value, row.p_value) for row in kept]

    assert leaks(texts, ON) == leaks(texts, OFF)
    assert leaks(images, ON) != leaks(images, OFF)
    ranked = {row.system: row.value for row in ranking_metrics(texts, gender) if row.name.endswith("_10")}
    assert ranked[ON] != ranked[OFF]


def test_texts_are_encoded_once_and_edited_by_system(corpus: Corpus) -> None:
    own = bench(corpus, text=edit())
    plain = own.text(OFF, ["abc", "def", "abc"])
    edited = own.text(ON, ["abc", "def", "abc"])
    assert own.subject.encoder.asked == ["abc", "def"]  # type: ignore[attr-defined]
    np.testing.assert_array_equal(plain[0], plain[2])
    np.testing.assert_allclose(edited, np.asarray(edit()(plain)))
    assert not np.allclose(edited, plain)
    assert not np.allclose(own.text(RANDOM, ["abc"]), edited[:1])


def test_without_an_eraser_there_is_one_system(corpus: Corpus) -> None:
    own = bench(corpus)
    assert list(own.systems) == [OFF]
    assert own.edited == ()
    assert not own.images_changed


@pytest.mark.parametrize("name", ["features", "embedding"])
def test_an_edit_concerns_what_it_is_named_for(corpus: Corpus, name: str) -> None:
    own = bench(corpus, **{name: edit()})
    other = {"features": "embedding", "embedding": "features"}[name]
    before, after = own.systems[OFF]["test"], own.systems[ON]["test"]
    assert np.array_equal(getattr(before, other), getattr(after, other))
    assert not np.array_equal(getattr(before, name), getattr(after, name))
