"""Caption clean-up and the left/right swap that goes with a mirrored picture."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

_SWAP = {"left": "right", "right": "left"}
_NO_CONTENT = {"a", "an", "the", "left", "right"}
_LEFT_RIGHT = re.compile(r"\b(left|right)\b", re.IGNORECASE)


class Speech(NamedTuple):
    """What training makes of captions besides cleaning them.

    ``reword`` is applied to each before it is cleaned. ``group`` numbers the group of people that all
    captions of a picture name, as they are written, where negatives or a term of the objective ask for it;
    pictures of one number count as alike, and negative numbers are no group.
    """

    reword: Callable[[str], str] | None = None
    group: Callable[[Sequence[str]], int] | None = None

    def heard(self, caption: str) -> str:
        """The caption as training hears it."""
        return clean(self.reword(caption) if self.reword else caption)


AS_WRITTEN = Speech()


def clean(caption: str) -> str:
    """Lower case, no accents, no punctuation, ``-`` ``/`` ``_`` as spaces, single spaces.

    The clean-up of CLIP-Lite's published code; applied to training captions and evaluation prompts alike.
    """
    decomposed = unicodedata.normalize("NFKD", caption)
    unaccented = "".join(c for c in decomposed if not unicodedata.combining(c))
    spaced = re.sub(r"[-/_]", " ", unaccented.lower())
    return " ".join(re.sub(r"[^\w\s]", "", spaced).split())


def swap_left_right(caption: str) -> str:
    """Exchange the whole words *left* and *right*, keeping their case; ``bright`` stays ``bright``."""

    def swap(match: re.Match[str]) -> str:
        word = match.group()
        other = _SWAP[word.lower()]
        if word.isupper():
            return other.upper()
        return other.capitalize() if word[0].isupper() else other

    return _LEFT_RIGHT.sub(swap, caption)


def caption_key(caption: str) -> int:
    """A number below 2⁶³ that equal and near-equal captions share, so that neither is the other's negative.

    It stands for the *set* of content words: order, case, punctuation, articles, and *left* and *right*
    (which a mirrored picture exchanges) do not matter.
    """
    cleaned = clean(caption)
    words = sorted(set(cleaned.split()) - _NO_CONTENT)
    content = " ".join(words) or cleaned
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest(), "big") >> 1
