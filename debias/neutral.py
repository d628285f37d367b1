"""``NeutralWords``: captions that no longer name the group of the people they speak of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from debias.lexicon import Lexicon

_PLACE = "\0"  # marks where a word was replaced while articles are put right
_ARTICLE = re.compile(rf"\b(an?)(\s+){_PLACE}([\s{_PLACE}]*)(\w)", re.IGNORECASE)


class Census(NamedTuple):
    """What was changed in captions: how many of how many, and which replacement how often."""

    changed: int
    total: int
    replaced: Counter[tuple[str, str]]

    def to_json(self) -> dict[str, Any]:
        """Counts with the ten most frequent replacements."""
        common = {f"{old} → {new or '(left out)'}": n for (old, new), n in self.replaced.most_common(10)}
        return {"changed": self.changed, "captions": self.total, "replacements": common}

    def __str__(self) -> str:
        """For the log."""
        shown = ", ".join(f"{change} {count}" for change, count in self.to_json()["replacements"].items())
        share = f"{self.changed:,} of {self.total:,} captions"
        return f"{share} reworded{f': {shown}' if shown else ''}"


class NeutralWords:
    """Replaces the words of groups by words that fit them all: "a man waves" → "a person waves".

    Whole words in any case and number, see ``Lexicon``; the case is kept, *a* and *an* follow the new word,
    and a phrase replaced by nothing leaves no gap. Applying it twice changes nothing more.

    Args:
        replacements: each form of a group's word, in lower case → its neutral word, which may be empty.
    """

    def __init__(self, replacements: Mapping[str, str]) -> None:
        self.replacements = dict(replacements)
        self._lexicon = Lexicon({form: form for form in replacements})

    def __call__(self, text: str) -> str:
        """The text in neutral words; the very same one where it names no group."""
        pieces, end = [], 0
        for start, stop, form in self._lexicon.find(text):
            pieces += [text[end:start], _PLACE, _in_case_of(text[start:stop], self.replacements[form])]
            end = stop
        if not pieces:
            return text
        reworded = "".join([*pieces, text[end:]])
        return " ".join(_ARTICLE.sub(_agree, reworded).replace(_PLACE, "").split())

    def census(self, captions: Iterable[str]) -> Census:
        """What it changes in these captions."""
        changed, total, replaced = 0, 0, Counter[tuple[str, str]]()
        for caption in captions:
            forms = [found.entry for found in self._lexicon.find(caption)]
            replaced.update((form, self.replacements[form]) for form in forms)
            changed, total = changed + bool(forms), total + 1
        return Census(changed, total, replaced)


def _in_case_of(old: str, new: str) -> str:
    if old.isupper() and len(old) > 1:
        return new.upper()
    return new[:1].upper() + new[1:] if old[:1].isupper() else new


def _agree(match: re.Match[str]) -> str:
    article, space, gap, letter = match.groups()
    fitting = "an" if letter.lower() in "aeiou" else "a"
    if article[0].isupper():
        fitting = fitting.capitalize()
    return f"{fitting}{space}{_PLACE}{gap}{letter}"
