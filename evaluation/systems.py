"""The systems an audit compares: one pass of the encoder per split, every edit applied to its output."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
import torch

from clip_lite.data.pairs import Corpus, PairTable, Record
from clip_lite.encoder import ImageFeatures, ImageTextEncoder
from debias.attributes import ProtectedAttribute
from debias.eraser import Eraser
from debias.methods.random_direction import random_direction
from evaluation.embed import EmbeddingTable, embed
from evaluation.inference import Inference
from evaluation.population import Population, population
from evaluation.prompt_file import PromptSet, shipped_prompt_sets
from evaluation.results import OFF, ON
from evaluation.setting import Setting

RANDOM = "random direction"
PIXELS, UNTRAINED, MAJORITY = "pixels", "untrained tower", "majority answer"
TEXT = "text"

T = TypeVar("T")
Embedder = Callable[[PairTable, str], EmbeddingTable]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is audited.

    Attributes:
        encoder: the trained model with its erasers switched off.
        erasers: by what they edit: ``features`` and ``embedding`` of images, or ``text``, the text embedding;
            empty without mitigation.
        untrained: the same architecture before training, for context.
        device: where the towers run.
    """

    encoder: ImageTextEncoder
    erasers: Mapping[str, Eraser]
    untrained: ImageTextEncoder
    device: torch.device


class Texts:
    """Text embeddings of a subject, every text encoded once."""

    def __init__(self, encoder: ImageTextEncoder) -> None:
        self.encoder = encoder
        self.known: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Unit-norm embeddings ``(n, d)``."""
        if new := [text for text in dict.fromkeys(texts) if text not in self.known]:
            self.known |= dict(zip(new, self.encoder.encode_text(new).cpu().numpy(), strict=True))
        return np.stack([self.known[text] for text in texts])


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A subject, embedded: ``systems[system][split]`` is aligned with ``tables[split]``.

    ``edits[system]`` holds what a system edits; ``tests`` are the splits that metrics are measured on;
    ``prompts`` are the lists of labels and professions that pictures of people are compared with.
    """

    subject: Subject
    corpus: Corpus
    inference: Inference
    tables: Mapping[str, PairTable]
    systems: Mapping[str, Mapping[str, EmbeddingTable]]
    edits: Mapping[str, Mapping[str, Eraser]]
    texts: Texts
    tests: tuple[str, ...] = ()
    prompts: Sequence[PromptSet] = ()
    _made: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def prepare(
        cls,
        subject: Subject,
        corpus: Corpus,
        inference: Inference,
        *,
        embedder: Embedder | None = None,
        prompts: Sequence[PromptSet] | None = None,
    ) -> Bench:
        """Embed train and test splits once; with erasers, add them and a random control of equal rank.

        ``embedder(table, description)`` stands in for a pass of the encoder, e.g. by what is stored;
        ``prompts`` are all shipped ones where they are not given.
        """
        tests = tuple(name for name in corpus.splits if name not in {"train", "val"})
        tables = {name: corpus.splits[name] for name in ("train", *tests)}
        look = embedder or (lambda table, words: embed(subject.encoder, table, words, device=subject.device))
        plain = {name: look(table, f"embedding {name}") for name, table in tables.items()}
        edits: dict[str, Mapping[str, Eraser]] = {OFF: {}}
        if subject.erasers:
            edits |= {ON: subject.erasers, RANDOM: random_controls(subject, inference.seed)}
        return cls(
            subject=subject,
            corpus=corpus,
            inference=inference,
            tables=tables,
            systems={system: {s: edited(plain[s], own) for s in plain} for system, own in edits.items()},
            edits=edits,
            texts=Texts(subject.encoder),
            tests=tests,
            prompts=shipped_prompt_sets() if prompts is None else prompts,
        )

    @property
    def has_text(self) -> bool:
        """Whether the model can be asked by text."""
        return self.subject.encoder.has_text

    @property
    def edited(self) -> tuple[str, ...]:
        """The systems that edit something."""
        return tuple(system for system in self.systems if system != OFF)

    @property
    def images_changed(self) -> bool:
        """Whether the edit changes what the model gives for some image, in any bit."""
        return ON in self.systems and any(self.changes(ON, name) for name in ImageFeatures._fields)

    def changes(self, system: str, representation: str) -> bool:
        """Whether a system differs in some bit from the unedited model in ``features`` or ``embedding``."""
        return any(
            not torch.equal(
                getattr(before.image, representation),
                getattr(self.systems[system][split].image, representation),
            )
            for split, before in self.systems[OFF].items()
        )

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` gives, made once for all metrics that ask for ``key``."""
        if key not in self._made:
            self._made[key] = make()
        return cast(T, self._made[key])

    def people(self, attribute: ProtectedAttribute) -> Mapping[str, Population]:
        """Whom the audit of an attribute is about, by split."""
        return self.once(
            ("people", attribute.name),
            lambda: {split: population(self.corpus, split, attribute) for split in self.tables},
        )

    def where(self, split: str, keep: Callable[[Record], bool]) -> tuple[np.ndarray, PairTable]:
        """Mask over a split and the pictures it keeps."""
        table = self.tables[split]
        return np.array([keep(record) for record in table.records]), table.where(keep)

    def text(self, system: str, texts: Sequence[str]) -> np.ndarray:
        """Text embeddings ``(n, d)`` under a system."""
        plain = self.texts(texts)
        edit = self.edits[system].get(TEXT)
        return plain if edit is None else np.asarray(edit(plain))

    def at(self, split: str, system: str, clusters: np.ndarray | None = None) -> Setting:
        """Setting of a split and system, about all its pictures or those of ``clusters``."""
        own = self.tables[split].clusters if clusters is None else clusters
        return Setting(clusters=own, split=split, system=system, inference=self.inference)


def edited(table: EmbeddingTable, edits: Mapping[str, Eraser]) -> EmbeddingTable:
    """The table under those edits that concern images; the very same one where none does."""
    own = {name: edit for name, edit in edits.items() if name != TEXT}
    return table.edited(own) if own else table


def random_controls(subject: Subject, seed: int) -> dict[str, Eraser]:
    """For every eraser one that removes as many random directions about the same mean; for none, itself."""
    return {
        name: random_direction(eraser.dim, rank=eraser.rank, mean=eraser.mean, seed=seed)
        if eraser.rank
        else eraser
        for name, eraser in subject.erasers.items()
    }
