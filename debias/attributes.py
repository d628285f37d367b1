"""``ProtectedAttribute``: the words that name the groups of an attribute, read from a YAML file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

MIXED, NONE = "mixed", "none"
REQUIRED = ("name", "version", "groups", "word_pairs", "templates")
OPTIONAL = ("notes",)


class UnknownAttribute(ValueError):
    """Neither a shipped name nor a file; the message is one line."""


class AttributeFileError(ValueError):
    """A YAML file that does not define an attribute; the message is one line and lists every problem."""


@dataclass(frozen=True)
class ProtectedAttribute:
    """An attribute as text speaks of it.

    Attributes:
        name: e.g. ``gender``.
        version: changes whenever a word does.
        groups: group names in the order that indices and ``word_pairs`` follow.
        lexicon: per group, the words that put a caption into it.
        word_pairs: one word per group, alike in everything else.
        templates: prompts with one ``{}`` for a word of a pair.
    """

    name: str
    version: str
    groups: tuple[str, ...]
    lexicon: Mapping[str, tuple[str, ...]]
    word_pairs: tuple[tuple[str, ...], ...]
    templates: tuple[str, ...]

    @classmethod
    def load(cls, name_or_path: str | Path) -> ProtectedAttribute:
        """Read a shipped attribute by name, or any other from the path of its YAML file; the name goes first.

        Raises:
            UnknownAttribute: nothing of that name is shipped and there is no such file.
            AttributeFileError: the file is not what it should be.
        """
        path = _find(name_or_path)
        raw = _parse(path)
        problems = list(_problems(raw))
        if problems:
            raise AttributeFileError(f"{path}: {'; '.join(problems)}")
        return cls(
            name=raw["name"],
            version=raw["version"],
            groups=tuple(raw["groups"]),
            lexicon={group: tuple(words) for group, words in raw["groups"].items()},
            word_pairs=tuple(tuple(pair) for pair in raw["word_pairs"]),
            templates=tuple(raw["templates"]),
        )

    def label(self, captions: Sequence[str]) -> str:
        """The group that the captions of one image name, ``mixed`` for several groups, ``none`` for no group.

        Words count whole and in any case: "human" and "woman" are no "man". Words are made of letters and
        digits, so "man_dancing" and "man's" do name a man.

        Raises:
            TypeError: a bare string instead of a sequence of captions.
        """
        if isinstance(captions, str):
            raise TypeError(f"captions must be a sequence of strings, got the string {captions!r}")
        named = [group for group, words in self._patterns.items() if any(map(words.search, captions))]
        return named[0] if len(named) == 1 else MIXED if named else NONE

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of everything that can change a label or a direction."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def differences(self) -> int:
        """How many differences of prompts the word pairs give: the most directions that can be found."""
        return len(self.word_pairs) * len(self.templates) * (len(self.groups) - 1)

    def describe(self) -> dict[str, Any]:
        """Provenance for a saved eraser or an audit."""
        return {
            "name": self.name,
            "version": self.version,
            "groups": list(self.groups),
            "digest": self.digest,
        }

    @cached_property
    def _patterns(self) -> dict[str, re.Pattern[str]]:
        return {
            group: re.compile(
                rf"(?<![^\W_])(?:{'|'.join(map(re.escape, self.lexicon[group]))})(?![^\W_])", re.IGNORECASE
            )
            for group in self.groups
        }


def available_attributes() -> list[str]:
    """Names of the shipped attributes, sorted."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def _folder() -> Path:
    package = Path(__file__).parent
    installed = package / "configs" / "attributes"
    return installed if installed.is_dir() else package.parent / "configs" / "attributes"


def _find(name_or_path: str | Path) -> Path:
    shipped = available_attributes()
    if str(name_or_path) in shipped:
        return _folder() / f"{name_or_path}.yaml"
    path = Path(name_or_path)
    if path.is_file():
        return path
    raise UnknownAttribute(
        f"no attribute {str(name_or_path)!r}: shipped ones are {', '.join(shipped)}; "
        "or give the path of a YAML file"
    )


def _parse(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise AttributeFileError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error


def _problems(raw: Any) -> Iterator[str]:
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
        if key in raw and not _is_text(raw[key]):
            yield f"{key} is {raw[key]!r}, expected a string in quotes"
    if "groups" in raw:
        yield from _group_problems(raw["groups"])
    if "word_pairs" in raw:
        yield from _pair_problems(raw["word_pairs"], raw.get("groups"))
    if "templates" in raw:
        yield from _word_problems("templates", raw["templates"])
        for place, template in enumerate(raw["templates"] if isinstance(raw["templates"], list) else ()):
            if _is_text(template) and template.count("{}") != 1:
                yield f"templates[{place}] is {template!r}, expected exactly one {{}}"


def _group_problems(groups: Any) -> Iterator[str]:
    if not isinstance(groups, dict) or len(groups) < 2:
        yield f"groups is {groups!r}, expected a mapping of at least two groups to their words"
        return
    owner: dict[str, str] = {}
    for group, words in groups.items():
        if not _is_text(group) or group in {MIXED, NONE}:
            yield f"groups.{group} is no name for a group, expected a string other than {MIXED} and {NONE}"
        yield from _word_problems(f"groups.{group}", words)
        for place, word in enumerate(words if isinstance(words, list) else ()):
            if _is_text(word) and owner.setdefault(word.lower(), group) != group:
                yield f"groups.{group}[{place}] is {word!r}, which groups.{owner[word.lower()]} has too"


def _pair_problems(pairs: Any, groups: Any) -> Iterator[str]:
    if not isinstance(pairs, list) or not pairs:
        yield f"word_pairs is {pairs!r}, expected a list of lists with one word per group"
        return
    for place, pair in enumerate(pairs):
        yield from _word_problems(f"word_pairs[{place}]", pair)
        if isinstance(pair, list) and isinstance(groups, dict) and len(pair) != len(groups):
            yield f"word_pairs[{place}] has {len(pair)} words, expected {len(groups)}, one per group"


def _word_problems(key: str, words: Any) -> Iterator[str]:
    if not isinstance(words, list) or not words:
        yield f"{key} is {words!r}, expected a list of strings"
        return
    for place, word in enumerate(words):
        if not _is_text(word):
            yield f"{key}[{place}] is {word!r}, expected a string in quotes"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
