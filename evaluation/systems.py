"""The systems an audit compares: one pass of the encoder per split, every edit applied to its output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from clip_lite.data.pairs import Corpus, PairTable, Record
from clip_lite.encoder import ImageTextEncoder
from debias.eraser import Eraser
from debias.methods.random_direction import random_direction
from evaluation.embed import EmbeddingTable, embed
from evaluation.inference import Inference

OFF, ON, RANDOM = "eraser off", "eraser on", "random direction"
PIXELS, UNTRAINED = "pixels", "untrained tower"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is audited.

    Attributes:
        encoder: the trained model with its erasers switched off.
        erasers: by what they edit (``features``, ``embedding``); empty without mitigation.
        untrained: the same architecture before training, for context.
        device: where the towers run.
    """

    encoder: ImageTextEncoder
    erasers: Mapping[str, Eraser]
    untrained: ImageTextEncoder
    device: torch.device


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A subject, embedded: ``systems[system][split]`` is aligned with ``tables[split]``."""

    subject: Subject
    corpus: Corpus
    inference: Inference
    tables: Mapping[str, PairTable]
    systems: Mapping[str, Mapping[str, EmbeddingTable]]
    tests: tuple[str, ...] = field(default=())

    @classmethod
    def prepare(cls, subject: Subject, corpus: Corpus, inference: Inference) -> Bench:
        """Embed train and test splits once; with erasers, add them and a random control of equal rank."""
        tests = tuple(name for name in corpus.splits if name not in {"train", "val"})
        tables = {name: corpus.splits[name] for name in ("train", *tests)}
        plain = {
            name: embed(subject.encoder, table, f"embedding {name}", device=subject.device)
            for name, table in tables.items()
        }
        systems: dict[str, Mapping[str, EmbeddingTable]] = {OFF: plain}
        if subject.erasers:
            for system, edits in ((ON, subject.erasers), (RANDOM, random_controls(subject, inference.seed))):
                systems[system] = {name: table.edited(edits) for name, table in plain.items()}
        return cls(
            subject=subject, corpus=corpus, inference=inference, tables=tables, systems=systems, tests=tests
        )

    def where(self, split: str, keep: Callable[[Record], bool]) -> tuple[np.ndarray, PairTable]:
        """Mask over a split and the pictures it keeps."""
        table = self.tables[split]
        return np.array([keep(record) for record in table.records]), table.where(keep)


def random_controls(subject: Subject, seed: int) -> dict[str, Eraser]:
    """For every eraser one that removes as many random directions about the same mean; for none, itself."""
    return {
        name: random_direction(eraser.dim, rank=eraser.rank, mean=eraser.mean, seed=seed)
        if eraser.rank
        else eraser
        for name, eraser in subject.erasers.items()
    }
