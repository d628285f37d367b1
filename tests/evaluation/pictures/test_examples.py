"""Which pictures and prompts are shown: those whose rankings moved most, each picture once, few and small."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clip_lite.data.pairs import Corpus
from clip_lite.model import DualEncoder
from clip_lite.text_towers import TextTower
from debias.attributes import ProtectedAttribute
from debias.eraser import Eraser
from debias.methods.random_direction import random_direction
from evaluation.inference import Inference
from evaluation.pictures.examples import choose_examples, first_places, moved, small
from evaluation.pictures.heat import AVERAGED, SHOWN, heat_examples
from evaluation.pictures.shown import Examples
from evaluation.systems import OFF, Bench, Subject
from tests.evaluation.test_systems import Colours, bench


@pytest.fixture(scope="module")
def small_model(text_folder: Path) -> DualEncoder:
    torch.manual_seed(0)
    tower = TextTower.load(str(text_folder), training="frozen")
    return DualEncoder(tower, embedding_dim=8, image_size=32).eval()


@pytest.fixture(scope="module")
def seeing(corpus: Corpus, small_model: DualEncoder) -> Bench:
    plain = looked_at(corpus, small_model).systems[OFF]["test"].image.embedding
    eraser = random_direction(8, rank=1, mean=plain.mean(dim=0), seed=1)
    return looked_at(corpus, small_model, embedding=eraser)


def looked_at(corpus: Corpus, model: DualEncoder, **erasers: Eraser) -> Bench:
    subject = Subject(encoder=model, erasers=erasers, untrained=model, device=torch.device("cpu"))
    return Bench.prepare(subject, corpus, Inference(resamples=20, permutations=20))


def test_moved_is_one_minus_the_average_overlap() -> None:
    before = np.array([[1, 2, 3, 4]] * 4)
    after = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [2, 1, 3, 4], [1, 2, 3, 9]])
    assert moved(before, after) == pytest.approx([0, 1, 1 / 4, 1 - (1 + 1 + 1 + 3 / 4) / 4])
    rng = np.random.default_rng(0)
    first, second = (np.argsort(rng.random((30, 15)), axis=1)[:, :10] for _ in range(2))
    by_hand = [
        1 - np.mean([len(set(a[:d]) & set(b[:d])) / d for d in range(1, 11)])
        for a, b in zip(first, second, strict=True)
    ]
    assert moved(first, second) == pytest.approx(by_hand)
    assert moved(second, first) == pytest.approx(by_hand)


def test_first_places_go_by_cosine_and_keep_the_order_of_ties() -> None:
    items = np.array([[9.0, 9.0], [1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    assert first_places(np.array([[3.0, 0.1]]), items, 3).tolist() == [[1, 2, 0]]
    assert first_places(np.array([[1.0, 0.0]]), items, 9).tolist() == [[1, 2, 0, 3]]


def test_those_that_moved_most_are_shown_one_of_a_cluster(seeing: Bench, gender: ProtectedAttribute) -> None:
    found = choose_examples(seeing, gender, 5)
    assert found == choose_examples(seeing, gender, 5)
    people = seeing.people(gender)["test"].table
    cluster = {record.id: record.cluster for record in people.records}
    for rankings, of in (
        (found.by_picture, len(people)),
        (found.by_text, len(set(people.attribute("role")))),
    ):
        change = [ranking.moved for ranking in rankings.items]
        assert rankings.of == of
        assert change == sorted(change, reverse=True)  # type: ignore[type-var]
        assert rankings.median is not None
        assert change[0] is not None
        assert change[0] > rankings.median > 0
    assert len({cluster[ranking.query] for ranking in found.by_picture.items}) == 5
    assert all(len(ranking.off) == len(ranking.on) == 4 for ranking in found.by_picture.items)
    assert all(len(ranking.off) == len(ranking.on) == 6 for ranking in found.by_text.items)
    assert not any(gender.label([ranking.query]) in gender.groups for ranking in found.by_text.items)
    named = {ranking.query for ranking in found.by_picture.items}
    named |= {name for ranking in found.by_text.items for name in (*ranking.off, *ranking.on)}
    named |= {own.picture for own in found.heat if own.picture}
    assert set(found.pictures) == named
    assert {picture.group for picture in found.pictures.values()} <= set(gender.groups)


def test_the_largest_change_of_all_is_shown(seeing: Bench, gender: ProtectedAttribute) -> None:
    every = choose_examples(seeing, gender, 10_000).by_picture
    few = choose_examples(seeing, gender, 2).by_picture
    assert few.items == every.items[:2]
    assert len(every.items) == len(set(seeing.people(gender)["test"].table.clusters))


def test_without_an_edit_examples_are_drawn_at_random(corpus: Corpus, gender: ProtectedAttribute) -> None:
    found = choose_examples(bench(corpus), gender, 3)
    assert (found.by_picture.median, found.by_text.median) == (None, None)
    assert [ranking.moved for ranking in found.by_picture.items] == [None] * 3
    assert all(ranking.off and not ranking.on for ranking in (*found.by_picture.items, *found.by_text.items))
    assert choose_examples(bench(corpus), gender, 0) == Examples()


def test_no_attribute_and_no_text_tower_leave_what_there_is(
    seeing: Bench, corpus: Corpus, gender: ProtectedAttribute, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = choose_examples(seeing, None, 3)
    assert {picture.group for picture in plain.pictures.values()} == {""}
    assert plain.by_text.items
    assert plain.heat == ()
    monkeypatch.setattr(Colours, "has_text", False)
    mute = choose_examples(bench(corpus), gender, 3)
    assert len(mute.pictures) == len(mute.by_picture.items) == 3
    assert all(ranking.off == () for ranking in mute.by_picture.items)
    assert mute.by_text.items == mute.heat == ()
    assert mute.notes == (
        "The model has no text tower: pictures rank no texts.",
        "No heat maps: the model has no text tower, and Grad-CAM asks by text.",
    )


def test_an_encoder_that_grad_cam_cannot_read_has_no_maps_and_a_note(
    corpus: Corpus, gender: ProtectedAttribute
) -> None:
    found = heat_examples(bench(corpus), gender)
    assert found.maps == ()
    assert found.notes == ("No heat maps: Grad-CAM reads towers of EditableEncoder.",)


def test_heat_maps_of_like_pictures_by_group_and_their_mean(
    seeing: Bench, gender: ProtectedAttribute
) -> None:
    found = heat_examples(seeing, gender)
    assert found == heat_examples(seeing, gender)
    assert found.notes == ()
    people = {record.id: record for record in seeing.tables["test"].records}
    clusters = {}
    for group in gender.groups:
        maps = [own for own in found.maps if own.group == group]
        assert [own.text for own in maps[:: SHOWN + 1]] == [
            f"a picture of a {group}",
            "a picture of a person",
        ]
        assert [own.picture == "" for own in maps] == [False, False, True] * 2
        assert 2 <= maps[SHOWN].n <= AVERAGED
        clusters[group] = [people[own.picture].cluster for own in maps[:SHOWN]]
        assert all(gender.group_in(people[own.picture].attributes) == group for own in maps[:SHOWN])
    assert clusters["man"] == clusters["woman"]
    with Image.open(io.BytesIO(base64.b64decode(found.maps[0].off))) as image:
        assert (image.mode, image.size) == ("L", (32, 32))
    assert any(own.off != own.on for own in found.maps)


def test_an_edit_of_features_alone_leaves_heat_maps_and_says_so(
    corpus: Corpus, small_model: DualEncoder, gender: ProtectedAttribute
) -> None:
    width = small_model.feature_dim
    eraser = random_direction(width, rank=1, mean=torch.zeros(width), seed=0)
    found = heat_examples(looked_at(corpus, small_model, features=eraser), gender)
    assert {own.on for own in found.maps} == {""}
    assert found.notes == (
        "The edit changes neither image nor text embeddings, so heat maps stay as they are.",
    )


def test_a_thumbnail_is_small_and_keeps_its_shape() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (3, 300, 600), dtype=np.uint8)
    with Image.open(io.BytesIO(base64.b64decode(small(picture)))) as image:
        assert (image.format, image.size) == ("WEBP", (128, 64))
