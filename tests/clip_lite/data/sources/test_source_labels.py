"""Every label that a source writes is in a group of the shipped attributes, or is said to be in none."""

from __future__ import annotations

import pytest

from clip_lite.data.sources import facet, utkface, waterbirds
from clip_lite.data.sources.celeba import GENDERS as CELEBA_GENDERS
from debias.attributes import ProtectedAttribute

FAIRFACE_AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
PHASE_RACES = ("black", "east_asian", "indian", "latino", "middle_eastern", "southeast_asian", "white")
NOT_SURE = ("unsure", "disagreement", "Unsure")
MONK = [f"monk {half / 2:g}" for half in range(2, 21)]
GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "gender": {"man": ("male", "Male", "masc"), "woman": ("female", "Female", "fem")},
    "age": {
        "child": ("0-2", "3-9", "baby", "child"),
        "adult": ("20-29", "30-39", "40-49", "50-59", "middle", "adult"),
        "older": ("60-69", "more than 70", "older", "senior"),
    },
    "skin_tone": {
        "light": ("Light", "lighter", *MONK[:9]),
        "dark": ("Dark", "darker", *MONK[10:]),
    },
    "race": {
        "white": ("White", "white"),
        "black": ("Black", "black"),
        "latino": ("Latino_Hispanic", "latino"),
        "east asian": ("East Asian", "east_asian"),
        "southeast asian": ("Southeast Asian", "southeast_asian"),
        "indian": ("Indian", "indian"),
        "middle eastern": ("Middle Eastern", "middle_eastern"),
    },
    "background": {"land": ("land",), "water": ("water",)},
}
NO_GROUP = {
    "gender": ("non_binary", *NOT_SURE),
    "age": ("10-19", "young", *NOT_SURE),
    "skin_tone": ("monk 5.5", *NOT_SURE),
    "race": ("Asian", "Others", "other", *NOT_SURE),
    "background": (),
}
WRITTEN = {
    "gender": {*utkface.GENDERS, *CELEBA_GENDERS.values(), *facet.GENDERS},
    "age": {*FAIRFACE_AGES, *map(utkface.band_of, range(117)), *facet.AGES},
    "skin_tone": set(MONK),
    "race": {*utkface.RACES, *PHASE_RACES},
    "background": set(waterbirds.BACKGROUNDS.values()),
}


@pytest.mark.parametrize("name", list(GROUPS))
def test_each_label_is_in_the_group_that_is_meant(name: str) -> None:
    attribute = ProtectedAttribute.load(name)
    assert attribute.groups == tuple(GROUPS[name])
    for group, labels in GROUPS[name].items():
        assert {attribute.group_in({name: label}) for label in labels} == {group}
    for label in NO_GROUP[name]:
        assert attribute.group_in({name: label}) not in attribute.groups


@pytest.mark.parametrize("name", list(GROUPS))
def test_no_label_that_a_source_writes_is_forgotten(name: str) -> None:
    decided = {label for labels in GROUPS[name].values() for label in labels} | set(NO_GROUP[name])
    assert WRITTEN[name] <= decided


def test_bands_of_utkface_are_those_of_fairface() -> None:
    assert {utkface.band_of(age) for age in range(117)} == set(FAIRFACE_AGES)


@pytest.mark.parametrize("name", ["race", "background"])
def test_word_pairs_name_their_groups_and_neutral_words_none(name: str) -> None:
    attribute = ProtectedAttribute.load(name)
    template = attribute.templates[2]
    for words in attribute.word_pairs[:3]:
        texts = [template.format(word) for word in words]
        assert tuple(attribute.label([text]) for text in texts) == attribute.groups
        assert {attribute.label([attribute.neutral_words(text)]) for text in texts} == {"none"}


def test_gender_and_race_cross_into_fourteen_groups() -> None:
    both = ProtectedAttribute.load("gender*race")
    assert len(both.groups) == 14
    assert all(len(words) == 14 for words in both.word_pairs)
    assert both.label(["a Japanese woman"]) == "woman & east asian"
    assert both.group_in({"gender": "Male", "race": "Middle Eastern"}) == "man & middle eastern"
    assert both.group_in({"gender": "Male", "race": "Others"}) == "none"
