"""What an emoji's Unicode sequence and names say: captions, stem, gender, skin tone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from clip_lite.data.captions import clean

PEOPLE = 1  # emojibase group "people & body"
TONES = {1: "light", 2: "medium-light", 3: "medium", 4: "medium-dark", 5: "dark"}
COUPLES = {"family", "person-symbol"}  # subgroups that draw several people
TAGS_PER_PHRASE = 3

# Unicode code points that fix a gender; read from the sequence, never from a name.
WOMAN = {"2640", "1F467", "1F469", "1F475", "1F478", "1F46D", "1F483", "1F930", "1F936", "1F9D5"}
MAN = {"2642", "1F466", "1F468", "1F474", "1F934", "1F46C", "1F57A", "1F385", "1FAC3"}
BOTH = {"1F46B"}

_TONE = re.compile(r"[:,]?\s*\b(?:medium-)?(?:light|dark|medium) skin tone\b")
_TONE_CODE = re.compile(r"[_-](?:tone\d(?:[_-]\d)?|(?:medium_)?(?:light|dark|medium)_skin_tone)(?=[_-]|$)")
_NOT_STEM = re.compile(
    r"\b(?:man|men|woman|women|boy|girl|person|people|adult|child|baby|old|older|and|mrs|mx|santa"
    r"|facing right)\b"
)
_SAME_STEM = {
    "prince": "with crown",
    "princess": "with crown",
    "merman": "merperson",
    "mermaid": "merperson",
    "ballet dancer": "dancing",
    "breast feeding": "feeding",
}


class EmojiName(NamedTuple):
    """One named sequence; ``stem`` is the role or object without gender, age and skin tone."""

    hexcode: str
    label: str
    captions: tuple[str, ...]
    stem: str
    gender: str
    skin_tone: str
    category: str


def canonical_hexcode(hexcode: str) -> str:
    """Upper case without the presentation selector, as both sides of a match need it."""
    return hexcode.upper().replace("-FE0F", "")


def gender_of(hexcode: str) -> str:
    """``man``, ``woman``, ``mixed`` or ``none``, from the code points of the sequence."""
    points = set(hexcode.upper().split("-"))
    woman, man = bool(points & (WOMAN | BOTH)), bool(points & (MAN | BOTH))
    if woman and man:
        return "mixed"
    return "woman" if woman else "man" if man else "none"


def skin_tone_of(tone: int | Sequence[int] | None) -> str:
    """Name of one skin tone, ``mixed`` for two different ones, ``none`` for the neutral drawing."""
    tones = set(tone if isinstance(tone, Sequence) else [] if tone is None else [tone])
    if len(tones) > 1:
        return "mixed"
    return TONES[tones.pop()] if tones else "none"


def stem_of(label: str, *, is_people: bool) -> str:
    """Label without gender, age word and skin tone: what must not cross from train to test."""
    if not is_people:
        return clean(label)
    words = " ".join(clean(_NOT_STEM.sub(" ", _TONE.sub("", label.lower()))).split())
    return _SAME_STEM.get(words, words or "person")


def read_names(
    entries: Sequence[Mapping[str, Any]],
    subgroups: Mapping[str, str],
    shortcodes: Sequence[Mapping[str, str | list[str]]],
) -> Iterator[EmojiName]:
    """Every emoji of emojibase's ``data.json`` and each of its skin-tone variants.

    Args:
        entries: ``en/data.json``.
        subgroups: number → name, from ``meta/groups.json``.
        shortcodes: the parsed ``en/shortcodes/*.json``.
    """
    for entry in entries:
        if "group" not in entry:
            continue
        for variant in (entry, *entry.get("skins", ())):
            people = entry["group"] == PEOPLE
            is_human = people and gender_of(variant["hexcode"]) != "none"
            yield EmojiName(
                hexcode=canonical_hexcode(variant["hexcode"]),
                label=variant["label"],
                captions=_captions(variant, entry, shortcodes),
                stem=stem_of(variant["label"], is_people=people),
                gender=gender_of(variant["hexcode"]) if is_human else "none",
                skin_tone=skin_tone_of(variant.get("tone")),
                category=subgroups[str(entry["subgroup"])],
            )


def _captions(
    variant: Mapping[str, Any],
    parent: Mapping[str, Any],
    shortcodes: Sequence[Mapping[str, str | list[str]]],
) -> tuple[str, ...]:
    """Label, shortcodes (a variant without its own inherits its parent's) and keyword phrases; cleaned."""
    texts = [variant["label"]]
    for codes in shortcodes:
        found = codes.get(variant["hexcode"]) or codes.get(parent["hexcode"]) or []
        for code in [found] if isinstance(found, str) else found:
            texts.append(_TONE_CODE.sub("", code))
    tags = parent.get("tags", ())
    texts += [" ".join(tags[i : i + TAGS_PER_PHRASE]) for i in range(0, len(tags), TAGS_PER_PHRASE)]
    cleaned = (clean(text) for text in texts)
    return tuple(dict.fromkeys(text for text in cleaned if text))
