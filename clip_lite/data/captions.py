"""Caption clean-up and the left/right swap that goes with a mirrored picture."""

from __future__ import annotations

import re
import unicodedata

_SWAP = {"left": "right", "right": "left"}
_LEFT_RIGHT = re.compile(r"\b(left|right)\b", re.IGNORECASE)


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
