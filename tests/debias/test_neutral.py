from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from debias import NeutralWords, ProtectedAttribute

GENDER = ProtectedAttribute.load("gender")


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("a man waves", "a person waves"),
        ("A Man waves", "A Person waves"),
        ("MEN at work", "PEOPLE at work"),
        ("two boys and a girl", "two children and a child"),
        ("the man's hat, a womans hat", "the person's hat, a persons hat"),
        ("an actress", "a performer"),
        ("An aunt", "A relative"),
        ("he brushes his teeth himself", "they brushes their teeth themselves"),
        ("mermaid_swimming", "merperson_swimming"),
        ("businesswomen", "business people"),
        ("a human, a snowman,  two spaces", "a human, a snowman,  two spaces"),
    ],
)
def test_words_of_groups_become_neutral_whole_and_inflected(said: str, heard: str) -> None:
    assert GENDER.neutral_words(said) == heard


def test_phrases_may_be_left_out() -> None:
    tone = ProtectedAttribute.load("skin_tone").neutral_words
    assert tone("an African-American teacher") == "a teacher"
    assert tone("person walking: medium-light skin tone facing right") == "person walking: facing right"
    assert tone("a white shirt, a black man") == "a white shirt, a man"


vocabulary = [form for words in GENDER.lexicon.values() for word in words for form in word.split("/")]
texts = st.lists(st.sampled_from([*vocabulary, "a", "an", "The", "dog", "human", "with"]), max_size=10)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(texts, st.sampled_from([str.upper, str.title, str.lower]))
def test_afterwards_no_caption_names_a_group_and_twice_is_once(words: list[str], case: object) -> None:
    text = case(" ".join(words))  # type: ignore[operator]
    named = any(word.lower() in vocabulary for word in words)
    assert (GENDER.label([text]) != "none") == named
    once = GENDER.neutral_words(text)
    assert GENDER.label([once]) == "none"
    assert GENDER.neutral_words(once) == once


def test_census_says_how_many_captions_change_and_how() -> None:
    census = NeutralWords({"man": "person", "tall": ""}).census(["a man", "a tall man", "a dog"])
    assert (census.changed, census.total) == (2, 3)
    assert census.to_json()["replacements"] == {"man → person": 2, "tall → (left out)": 1}
    assert str(census) == "2 of 3 captions reworded: man → person 2, tall → (left out) 1"
