from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from debias.lexicon import Lexicon, forms_of

TONES = Lexicon({"light skin tone": "light", "medium light skin tone": "medium", "man": "man"})


def entries(text: str) -> list[str]:
    return [found.entry for found in TONES.find(text)]


def test_the_longest_phrase_wins_and_hides_what_is_in_it() -> None:
    assert entries("medium light skin tone") == ["medium"]
    assert entries("a medium, light skin tone") == ["medium"]
    assert entries("light skin tone") == ["light"]
    assert entries("medium skin tone, light skin") == []


def test_phrases_match_across_hyphens_and_underscores() -> None:
    assert entries("MAN:Medium-Light_Skin tone") == ["man", "medium"]


def test_places_are_those_of_the_text() -> None:
    text = "İ man, human MAN's"  # the first letter is longer in lower case
    assert [text[f.start : f.end] for f in TONES.find(text)] == ["man", "MAN"]


def test_forms() -> None:
    assert forms_of("man/men") == ("man", "men", "mans", "mens")
    assert forms_of("lady")[:2] == ("lady", "ladies")
    assert forms_of("boy")[:2] == ("boy", "boys")
    assert forms_of("waitress")[1] == "waitresses"
    assert set(forms_of("mr")) == {"mr"}
    assert set(forms_of("groom/groom")) == {"groom"}
    assert forms_of("old couple")[1] == "old couples"


words = st.sampled_from(["man", "medium", "light", "skin", "tone", "human", "x"])


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(words, max_size=12))
def test_matches_are_whole_words_in_order_and_do_not_overlap(texts: list[str]) -> None:
    text = " ".join(texts)
    found = list(TONES.find(text))
    assert all(a.end < b.start for a, b in pairwise(found))
    assert [f.entry for f in found].count("man") == texts.count("man")
    for each in found:
        assert text[: each.start].endswith(" ") or each.start == 0
        assert text[each.end :].startswith(" ") or each.end == len(text)
