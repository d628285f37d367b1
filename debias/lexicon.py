"""``Lexicon``: whole words and phrases in running text, in any case, with their plurals."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

SHORTEST_NOUN = 3  # letters from which a word gets a regular plural: "mr" must not become "mrs"
_WORD = re.compile(r"[^\W_]+")


class Found(NamedTuple):
    """An entry at ``text[start:end]``."""

    start: int
    end: int
    entry: str


class Lexicon:
    """Looks up entries in texts.

    Words are runs of letters and digits, so "human" holds no "man", but "man_dancing" and "man's" do. A
    phrase matches across spaces, hyphens and underscores alike. Where several entries begin at one place the
    longest wins and nothing inside it is looked at again: "medium-light skin tone" holds no "light skin
    tone".

    Args:
        forms: each form, as ``forms_of`` gives them → the entry it stands for.
    """

    def __init__(self, forms: Mapping[str, str]) -> None:
        self._entries = {words_of(form): entry for form, entry in forms.items()}
        self._longest: dict[str, int] = {}
        for words in self._entries:
            self._longest[words[0]] = max(self._longest.get(words[0], 0), len(words))

    def find(self, text: str) -> Iterator[Found]:
        """Every entry in ``text``, from left to right."""
        words = list(_WORD.finditer(text))
        lower = [word.group().lower() for word in words]
        place = 0
        while place < len(words):
            for length in range(min(self._longest.get(lower[place], 0), len(words) - place), 0, -1):
                entry = self._entries.get(tuple(lower[place : place + length]))
                if entry is not None:
                    yield Found(words[place].start(), words[place + length - 1].end(), entry)
                    place += length
                    break
            else:
                place += 1


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text in lower case."""
    return tuple(word.lower() for word in _WORD.findall(text))


def forms_of(entry: str) -> tuple[str, str, str, str]:
    """Singular, plural and both with the "s" that a possessive leaves when its apostrophe is dropped.

    "man/men" spells out an irregular plural, "groom/groom" that there is none; other nouns get a regular one.
    A word that has none, or is too short for one, stands for all four.
    """
    singular, slash, plural = (part.strip() for part in entry.partition("/"))
    last = (words_of(singular) or ("",))[-1]
    if plural == singular or (not slash and len(last) < SHORTEST_NOUN):
        return singular, singular, singular, singular
    if not slash:
        plural = _regular_plural(singular)
    return singular, plural, f"{singular}s", f"{plural}s" if slash else plural


def _regular_plural(noun: str) -> str:
    if re.search(r"[^aeiou]y$", noun, re.IGNORECASE):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if re.search(r"(?:s|x|z|ch|sh)$", noun, re.IGNORECASE) else f"{noun}s"
