"""The rows of prompt sets on a bench: every test split and system, and none where they cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from clip_lite.data.pairs import Corpus
from clip_lite.encoder import ImageFeatures
from debias.attributes import ProtectedAttribute
from debias.eraser import Eraser
from debias.methods.random_direction import random_direction
from evaluation.bias import from_labels
from evaluation.bias.from_labels import labelling_metrics, prompt_set_rows
from evaluation.bias.labelling import given_categories
from evaluation.inference import Inference
from evaluation.prompt_file import PromptSet
from evaluation.systems import OFF, ON, RANDOM, Bench, Subject

DIM = 12


class Colours:
    """Embeds a picture by its mean colours, a text by its letters."""

    embedding_dim = DIM
    has_text = True

    def image_transform(self, images: Tensor) -> Tensor:
        return images.float() / 255

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        features = torch.nn.functional.adaptive_avg_pool2d(pixels, 2).flatten(1)
        return ImageFeatures(features, torch.nn.functional.normalize(features))

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        letters = torch.tensor([[text.count(chr(97 + i)) + 0.1 for i in range(DIM)] for text in texts])
        return torch.nn.functional.normalize(letters)


class Blind(Colours):
    """Has no text tower."""

    has_text = False

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        raise AssertionError(f"a model without text was asked for {texts}")


def _bench(corpus: Corpus, encoder: Colours, **erasers: Eraser) -> Bench:
    subject = Subject(encoder=encoder, erasers=erasers, untrained=encoder, device=torch.device("cpu"))
    return Bench.prepare(subject, corpus, Inference(resamples=50, permutations=50))


@pytest.fixture(scope="module")
def bench(corpus: Corpus) -> Bench:
    """With an edit of pictures."""
    return _bench(corpus, Colours(), embedding=random_direction(DIM, rank=3, mean=torch.zeros(DIM), seed=7))


def test_every_split_and_system_is_asked_for_labels_of_people(
    bench: Bench, gender: ProtectedAttribute
) -> None:
    prompts = PromptSet.load("people_labels")
    rows = prompt_set_rows(bench, gender, prompts)
    start = "labelling/gender/people_labels/"
    assert {(row.split, row.system) for row in rows} == {
        (split, system) for split in bench.tests for system in (OFF, ON, RANDOM)
    }
    assert {row.name for row in rows if row.system == OFF} == {
        f"{start}{end}"
        for end in ("person_rate", "non_human_rate", "crime_rate", "non_human_gap", "crime_gap")
    }
    changed = {row.name for row in rows if row.name.endswith("_change")}
    assert changed == {f"{row.name}_change" for row in rows if row.system == OFF}
    people = bench.people(gender)["test"]
    text = np.stack([bench.text(ON, own) for own in prompts.prompts])
    given = given_categories(bench.systems[ON]["test"].rows(people.keep).embedding, text, prompts)
    for group in gender.groups:
        (row,) = [
            row
            for row in rows
            if (row.name, row.system, row.split, row.group) == (f"{start}person_rate", ON, "test", group)
        ]
        assert row.value == pytest.approx(np.mean(given[people.labels == group] == 0))


def test_professions_are_told_one_by_one_for_the_model_and_its_edit(
    bench: Bench, gender: ProtectedAttribute
) -> None:
    prompts = PromptSet.load("professions")
    rows = [row for row in prompt_set_rows(bench, gender, prompts) if row.split == "test"]
    k = len(bench.people(gender)["test"].labels) // 10
    assert k >= from_labels.LEAST_PLACES
    shares = {
        system: [row for row in rows if row.system == system and "share" in row.name] for system in (OFF, ON)
    }
    assert len(shares[OFF]) == len(shares[ON]) == len(prompts.texts)
    assert {(row.name, row.group) for row in shares[OFF]} == {(row.name, row.group) for row in shares[ON]}
    assert "labelling/gender/professions/police_officer_top_share" in {row.name for row in shares[OFF]}
    over = {
        row.name.removeprefix("ranking/gender/professions/")
        for row in rows
        if row.system == RANDOM and row.name.startswith("ranking/")
    }
    means = {f"max_skew_{k}", f"min_skew_{k}", f"ndkl_{k}"}
    assert over == means | {f"{name}_change" for name in means} | {f"worst_max_skew_{k}"}
    assert not [row for row in rows if row.system == RANDOM and row.name.startswith("labelling/")]


def test_too_few_pictures_of_people_are_told_and_not_ranked(
    bench: Bench,
    gender: ProtectedAttribute,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(from_labels, "LEAST_PLACES", 1000)
    only = replace(bench, tests=("test",))
    assert prompt_set_rows(only, gender, PromptSet.load("professions")) == []
    few = len(bench.people(gender)["test"].labels)
    said = f"no professions on test: {few} pictures of people, expected 10000 or more"
    assert said in capsys.readouterr().out


def test_all_shipped_sets_are_measured(bench: Bench, gender: ProtectedAttribute) -> None:
    rows = labelling_metrics(replace(bench, tests=("test",)), gender)
    assert {row.name.split("/")[2] for row in rows} == {
        "people_labels",
        "people_labels_with_child",
        "professions",
    }
    keys = [row.key for row in rows]
    assert len(keys) == len(set(keys))


def test_a_model_without_text_has_no_rows(corpus: Corpus, gender: ProtectedAttribute) -> None:
    assert labelling_metrics(_bench(corpus, Blind()), gender) == []
