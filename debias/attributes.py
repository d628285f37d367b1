"""``ProtectedAttribute``: the words that name the groups of an attribute, read from a YAML file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, reduce
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from debias.attribute_file import MIXED, NONE, UnknownAttribute, read_attribute
from debias.lexicon import Lexicon, forms_of
from debias.neutral import NeutralWords

CROSS = " & "  # between the groups of an intersection
JOIN = "_x_"  # between the names of its attributes: what file names and MLflow take


@dataclass(frozen=True)
class ProtectedAttribute:
    """An attribute as text speaks of it.

    Attributes:
        name: e.g. ``gender``.
        version: changes whenever a word does.
        groups: group names in the order that indices and ``word_pairs`` follow.
        lexicon: per group, the words that put a caption into it; "man/men" spells out a plural.
        word_pairs: one word per group, alike in everything else.
        templates: prompts with one ``{}`` for a word of a pair.
        neutral: neutral word → the words of groups that it replaces; empty where there are none.
        labels: per group, what image sources call it, besides its name.
    """

    name: str
    version: str
    groups: tuple[str, ...]
    lexicon: Mapping[str, tuple[str, ...]]
    word_pairs: tuple[tuple[str, ...], ...]
    templates: tuple[str, ...]
    neutral: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def load(cls, name_or_path: str | Path) -> ProtectedAttribute:
        """Read a shipped attribute by name, or any other from the path of its YAML file; the name goes first.

        Several joined by ``*`` give their intersection: ``gender*skin_tone``.

        Raises:
            UnknownAttribute: nothing of that name is shipped and there is no such file.
            AttributeFileError: the file is not what it should be.
        """
        names = str(name_or_path).split("*")
        if len(names) > 1 and not Path(name_or_path).is_file():
            if not all(name.strip() for name in names):
                raise UnknownAttribute(f"{name_or_path!r} joins attributes by *, one of which has no name")
            return Intersection.of([cls.load(name.strip()) for name in names])
        raw = read_attribute(name_or_path)
        return ProtectedAttribute(
            name=raw["name"],
            version=raw["version"],
            groups=tuple(raw["groups"]),
            lexicon=_tuples(raw["groups"]),
            word_pairs=tuple(tuple(pair) for pair in raw["word_pairs"]),
            templates=tuple(raw["templates"]),
            neutral=_tuples(raw.get("neutral", {})),
            labels=_tuples(raw.get("labels", {})),
        )

    def label(self, captions: Sequence[str]) -> str:
        """The group that the captions of one image name, ``mixed`` for several groups, ``none`` for no group.

        Whole words in any case and number, see ``Lexicon``.

        Raises:
            TypeError: a bare string instead of a sequence of captions.
        """
        if isinstance(captions, str):
            raise TypeError(f"captions must be a sequence of strings, got the string {captions!r}")
        named = {found.entry for caption in captions for found in self._words.find(caption)}
        return named.pop() if len(named) == 1 else MIXED if named else NONE

    def group_in(self, attributes: Mapping[str, str]) -> str | None:
        """The group in an image's labels by attribute name; None where they do not speak of this attribute.

        A label that stands for no group comes back as it is.
        """
        value = attributes.get(self.name)
        return None if value is None else self._group_of_label.get(value, value)

    def indices(self, captions: Sequence[Sequence[str]]) -> Tensor:
        """Group index of every image ``(n,)`` int64, from its captions; -1 for ``mixed`` and ``none``."""
        place = {group: index for index, group in enumerate(self.groups)}
        return torch.tensor([place.get(self.label(own), -1) for own in captions], dtype=torch.long)

    @cached_property
    def neutral_words(self) -> NeutralWords:
        """Rewords captions so that they name no group.

        Raises:
            ValueError: the attribute's file gives no neutral words.
        """
        if not self.neutral:
            raise ValueError(
                f"attribute {self.name!r} gives no neutral words: add the key neutral to its file"
            )
        replacements: dict[str, str] = {}
        for number in range(4):  # a singular or plural goes before a possessive that is spelled alike
            for new, words in self.neutral.items():
                for word in words:
                    old, fitting = forms_of(word)[number].lower(), forms_of(new)[number] if new else ""
                    replacements.setdefault(old, fitting)
        return NeutralWords(replacements)

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
    def _words(self) -> Lexicon:
        forms: dict[str, str] = {}
        for number in range(4):  # what a file spells out wins over a plural that is derived
            for group in self.groups:
                for word in self.lexicon[group]:
                    forms.setdefault(forms_of(word)[number].lower(), group)
        return Lexicon(forms)

    @cached_property
    def _group_of_label(self) -> dict[str, str]:
        return {label: group for group, labels in self.labels.items() for label in labels}


@dataclass(frozen=True)
class Intersection(ProtectedAttribute):
    """Several attributes at once: a group is one group of each, e.g. ``woman & dark``.

    Word pairs join one word of each attribute, the last attribute's first as adjectives go ("dark-skinned
    woman"), as many as the shortest list gives; the templates are the first attribute's.
    """

    factors: tuple[ProtectedAttribute, ...] = ()

    @classmethod
    def of(cls, factors: Sequence[ProtectedAttribute]) -> Intersection:
        """Cross at least two attributes.

        Raises:
            UnknownAttribute: the same attribute twice.
        """
        names = [factor.name for factor in factors]
        if len(set(names)) < len(names):
            raise UnknownAttribute(
                f"{'*'.join(names)} crosses an attribute with itself, expected different ones"
            )
        every_neutral = all(factor.neutral for factor in factors)
        return cls(
            name=JOIN.join(names),
            version=JOIN.join(factor.version for factor in factors),
            groups=tuple(CROSS.join(groups) for groups in product(*(factor.groups for factor in factors))),
            lexicon={},
            word_pairs=tuple(
                tuple(" ".join(reversed(words)) for words in product(*pairs))
                for pairs in zip(*(factor.word_pairs for factor in factors), strict=False)
            ),
            templates=factors[0].templates,
            neutral={new: words for factor in factors for new, words in factor.neutral.items()}
            if every_neutral
            else {},
            factors=tuple(factors),
        )

    def label(self, captions: Sequence[str]) -> str:
        """As ``ProtectedAttribute.label``: a joint group where the captions name one group of each factor."""
        return self._joined([factor.label(captions) for factor in self.factors])

    def group_in(self, attributes: Mapping[str, str]) -> str | None:
        """As ``ProtectedAttribute.group_in``; None where labels speak neither of it nor of every factor."""
        if self.name in attributes:
            return attributes[self.name]
        groups = [factor.group_in(attributes) for factor in self.factors]
        return self._joined([group for group in groups if group is not None]) if None not in groups else None

    @cached_property
    def neutral_words(self) -> NeutralWords:
        """As ``ProtectedAttribute.neutral_words``; what one factor's leave, the others' reword in turn."""
        if not self.neutral:
            return super().neutral_words
        every = [factor.neutral_words for factor in self.factors]
        replacements: dict[str, str] = {}
        for own in every:
            for old, new in own.replacements.items():
                replacements.setdefault(old, reduce(lambda text, reword: reword(text), every, new))
        return NeutralWords(replacements)

    def _joined(self, groups: Sequence[str]) -> str:
        if MIXED in groups:
            return MIXED
        joint = CROSS.join(groups)
        return joint if joint in self.groups else NONE


def _tuples(lists: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    return {key: tuple(values) for key, values in lists.items()}
