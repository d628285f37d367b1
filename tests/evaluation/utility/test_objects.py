"""Pictures of several classes: the matrix, and the rows of probes over it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clip_lite.data.pairs import Corpus, Flag, PairTable, Record
from evaluation.inference import Inference
from evaluation.systems import Bench, Subject
from evaluation.utility.objects import object_classes, object_matrix
from evaluation.utility.suite import grounding_metrics, probe_metrics, retrieval_metrics, svm_probe_metrics
from tests.evaluation.test_systems import Colours


def table(said: list[tuple[str, str]]) -> PairTable:
    """A picture is red where it shows a dog and blue where it shows a cat."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (len(said), 3, 8, 8), dtype=np.uint8)
    for image, (sure, _) in zip(images, said, strict=True):
        image[0] += 150 * ("dog" in sure)
        image[2] += 150 * ("cat" in sure)
    records = [Record(f"{i}", (), {"o": sure, "o_unsure": un}, f"{i}") for i, (sure, un) in enumerate(said)]
    return PairTable(images, records, np.arange(len(said)))


def test_the_matrix_says_yes_no_and_unsure_and_makes_the_unsure_negatives_in_training() -> None:
    pictures = table([("cat;dog", ""), ("dog", "cat"), ("", "dog")])
    assert object_classes(pictures, "o") == ["cat", "dog"]
    assert object_matrix(pictures, "o", ["cat", "dog"]).tolist() == [[1, 1], [0, 1], [-1, 0]]
    trained = object_matrix(pictures, "o", ["cat", "dog"], unsure=-1)
    assert trained.tolist() == [[1, 1], [-1, 1], [-1, -1]]


@pytest.fixture
def bench() -> Bench:
    said = [("cat;dog", ""), ("dog", ""), ("cat", "dog"), ("", "")] * 8
    splits = {"train": table(said), "val": table(said[:4]), "test": table(said)}
    flag = Flag(None)
    corpus = Corpus("c", splits, (), (), flag, flag, objects="o", captioned=False)
    encoder = Colours()
    subject = Subject(encoder=encoder, erasers={}, untrained=encoder, device=torch.device("cpu"))
    return Bench.prepare(subject, corpus, Inference(resamples=30, permutations=30))


def test_both_probes_find_classes_that_are_plain_to_see(bench: Bench) -> None:
    rows = {row.name: row for row in probe_metrics(bench, None) + svm_probe_metrics(bench, None)}
    for name in ("o", "o_linear"):
        assert rows[f"probe/{name}_map"].value == pytest.approx(1)
        assert rows[f"probe/{name}_map_11point"].value == pytest.approx(1)
        assert rows[f"probe_ap/{name}/dog"].n == 24


def test_without_captions_there_is_neither_retrieval_nor_a_scene(bench: Bench) -> None:
    assert retrieval_metrics(bench, None) == grounding_metrics(bench, None) == []
