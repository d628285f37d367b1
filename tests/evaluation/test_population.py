from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from clip_lite.data.pairs import Corpus
from debias import ProtectedAttribute
from evaluation.population import caption_labels, group_labels, population

TONE = ProtectedAttribute(
    name="tone",
    version="1",
    groups=("light", "dark"),
    lexicon={"light": ("light",), "dark": ("dark",)},
    word_pairs=(("light", "dark"),),
    templates=("{}",),
)


def test_groups_are_the_corpus_own_labels(corpus: Corpus) -> None:
    gender = ProtectedAttribute.load("gender")
    people = population(corpus, "test", gender)
    assert set(people.labels) == {"man", "woman"}
    assert people.keep.sum() == len(people.table) == len(people.labels)
    assert np.array_equal(people.labels, people.table.attribute("gender"))
    assert all(corpus.audited(record) for record in people.table.records)


def test_an_attribute_the_corpus_does_not_know_is_read_from_captions(corpus: Corpus) -> None:
    assert np.array_equal(
        group_labels(corpus.splits["test"], TONE), caption_labels(corpus.splits["test"], TONE)
    )
    counts = Counter(population(corpus, "test", TONE).labels)
    assert set(counts) == {"light", "dark"}
    assert counts["light"] == counts["dark"] > 0


def test_a_group_that_is_not_there_is_named(corpus: Corpus) -> None:
    missing = replace(TONE, groups=("light", "green"), lexicon={"light": ("light",), "green": ("green",)})
    with pytest.raises(ValueError, match=r"attribute tone: .* split 'test' shows 'green' in 0 audited items"):
        population(corpus, "test", missing)
