"""The YAML file of a protected attribute: where it is found, and every problem in it at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from debias.lexicon import forms_of, words_of
from debias.shipped_files import found, is_text, shipped_folder, shipped_names, texts_in

MIXED, NONE = "mixed", "none"
REQUIRED = ("name", "version", "groups", "word_pairs", "templates")
OPTIONAL = ("neutral", "labels", "notes")


class UnknownAttribute(ValueError):
    """Neither a shipped name nor a file; the message is one line."""


class AttributeFileError(ValueError):
    """A YAML file that does not define an attribute; the message is one line and lists every problem."""


def available_attributes() -> list[str]:
    """Names of the shipped attributes, sorted."""
    return shipped_names(_folder())


def read_attribute(name_or_path: str | Path) -> dict[str, Any]:
    """The content of a shipped attribute by name, or of any other YAML file; the name goes first.

    Raises:
        UnknownAttribute: nothing of that name is shipped and there is no such file.
        AttributeFileError: the file is not what it should be.
    """
    path = _find(name_or_path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise AttributeFileError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if wrong := list(problems(raw)):
        raise AttributeFileError(f"{path}: {'; '.join(wrong)}")
    return raw


def _folder() -> Path:
    return shipped_folder(Path(__file__).parent, "attributes")


def _find(name_or_path: str | Path) -> Path:
    if path := found(name_or_path, _folder()):
        return path
    shipped = ", ".join(available_attributes())
    raise UnknownAttribute(
        f"no attribute {str(name_or_path)!r}: shipped ones are {shipped}; or give the path of a "
        "YAML file, or several joined by * for their intersection"
    )


def problems(raw: Any) -> Iterator[str]:
    """Every problem, as ``key.path is VALUE, expected …``."""
    if not isinstance(raw, dict):
        yield f"is {raw!r}, expected a mapping with {', '.join(REQUIRED)}"
        return
    yield from (f"{key} is missing" for key in REQUIRED if key not in raw)
    known = REQUIRED + OPTIONAL
    for key in raw:
        if key not in known:
            yield f"{key} is not a known key, expected one of {', '.join(known)}"
    for key in ("name", "version", "notes"):
        if key in raw and not is_text(raw[key]):
            yield f"{key} is {raw[key]!r}, expected a string in quotes"
    if is_text(raw.get("name")) and "*" in raw["name"]:
        yield f"name is {raw['name']!r}, expected one without *, which joins attributes"
    groups = raw.get("groups")
    if "groups" in raw:
        yield from _group_problems(groups)
    if "word_pairs" in raw:
        yield from _pair_problems(raw["word_pairs"], groups)
    if "templates" in raw:
        yield from _template_problems(raw["templates"])
    if "neutral" in raw:
        yield from _neutral_problems(raw["neutral"], groups)
    if "labels" in raw:
        yield from _label_problems(raw["labels"], groups)


def _group_problems(groups: Any) -> Iterator[str]:
    if not isinstance(groups, dict) or len(groups) < 2:
        yield f"groups is {groups!r}, expected a mapping of at least two groups to their words"
        return
    owner: dict[tuple[str, ...], str] = {}
    for group, words in groups.items():
        if not is_text(group) or group in {MIXED, NONE} or "*" in group:
            yield f"groups.{group} is no name for a group, expected a string other than {MIXED} and {NONE}"
        yield from _word_problems(f"groups.{group}", words)
        for place, word in texts_in(words):
            spelled = words_of(forms_of(word)[0])
            if owner.setdefault(spelled, group) != group:
                yield f"groups.{group}[{place}] is {word!r}, which groups.{owner[spelled]} has too"


def _pair_problems(pairs: Any, groups: Any) -> Iterator[str]:
    if not isinstance(pairs, list) or not pairs:
        yield f"word_pairs is {pairs!r}, expected a list of lists with one word per group"
        return
    for place, pair in enumerate(pairs):
        yield from _word_problems(f"word_pairs[{place}]", pair)
        if isinstance(pair, list) and isinstance(groups, dict) and len(pair) != len(groups):
            yield f"word_pairs[{place}] has {len(pair)} words, expected {len(groups)}, one per group"


def _template_problems(templates: Any) -> Iterator[str]:
    yield from _word_problems("templates", templates)
    for place, template in texts_in(templates):
        if template.count("{}") != 1:
            yield f"templates[{place}] is {template!r}, expected exactly one {{}}"


def _neutral_problems(neutral: Any, groups: Any) -> Iterator[str]:
    """Each word of each group is replaced, by words that name no group."""
    if not isinstance(neutral, dict) or not neutral:
        yield f"neutral is {neutral!r}, expected a mapping of neutral words to the words they replace"
        return
    named = {
        words_of(form): f"groups.{group}[{place}]"
        for group, words in (groups.items() if isinstance(groups, dict) else ())
        for place, word in texts_in(words)
        for form in forms_of(word)[:1]
    }
    replaced = set()
    for new, words in neutral.items():
        if not isinstance(new, str):
            yield f"neutral.{new} is {new!r}, expected a string in quotes, which may be empty"
        elif owner := named.get(words_of(forms_of(new)[0])):
            yield f"neutral.{new} names a group itself, it is {owner}"
        yield from _word_problems(f"neutral.{new}", words)
        for place, word in texts_in(words):
            spelled = words_of(forms_of(word)[0])
            replaced.add(spelled)
            if spelled not in named:
                yield f"neutral.{new}[{place}] is {word!r}, which no group has"
    for spelled, owner in named.items():
        if spelled not in replaced:
            yield f"{owner} is {' '.join(spelled)!r}, which neutral replaces by nothing: list it there"


def _label_problems(labels: Any, groups: Any) -> Iterator[str]:
    if not isinstance(labels, dict):
        yield f"labels is {labels!r}, expected a mapping of groups to the labels that image sources use"
        return
    for group, values in labels.items():
        if isinstance(groups, dict) and group not in groups:
            yield f"labels.{group} is not one of the groups {', '.join(map(str, groups))}"
        yield from _word_problems(f"labels.{group}", values)


def _word_problems(key: str, words: Any) -> Iterator[str]:
    if not isinstance(words, list) or not words:
        yield f"{key} is {words!r}, expected a list of strings"
        return
    for place, word in enumerate(words):
        if not is_text(word) or not (words_of(word) or "{}" in word):
            yield f"{key}[{place}] is {word!r}, expected a string in quotes"
