"""The contract between data sources and everything that reads pairs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor


class Pair(NamedTuple):
    """One picture with its captions.

    ``image`` is uint8 ``(3, H, W)``; ``captions`` holds at least one, where the source has captions; ``id``
    is stable across runs; ``attributes`` holds what the source knows (``{"gender": "woman"}``) and may be
    empty.
    """

    image: Tensor
    captions: tuple[str, ...]
    id: str
    attributes: Mapping[str, str]


class Record(NamedTuple):
    """A pair without its pixels.

    ``cluster`` names what is independent of what: pictures that share it (the same role in six skin
    tones) are never split between train and test, and are resampled together by the bootstrap.
    """

    id: str
    captions: tuple[str, ...]
    attributes: Mapping[str, str]
    cluster: str


def plain_attributes(said: Mapping[str, Any]) -> dict[str, str]:
    """``attributes`` of a file's JSON as words; anything but an object is none."""
    attributes = said.get("attributes")
    return {str(k): str(v) for k, v in attributes.items()} if isinstance(attributes, dict) else {}


class Pictures(Protocol):
    """uint8 pictures: an array ``(m, 3, H, W)``, in memory or memory-mapped, or ``EncodedPictures``."""

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        """``(n, 3, H, W)`` for an array of rows, ``(3, H, W)`` for one."""


@dataclass(frozen=True)
class PairTable:
    """Pairs of pictures and records.

    ``rows`` selects and orders the pictures of ``images``; ``records`` is aligned with ``rows`` and may read
    each record as it is asked for. ``streamed``: the records are too many to go through.
    """

    images: Pictures
    records: Sequence[Record]
    rows: np.ndarray
    streamed: bool = False

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Pair:
        record = self.records[index]
        image = torch.from_numpy(np.array(self.images[self.rows[index]]))
        return Pair(image, record.captions, record.id, record.attributes)

    def pixels(self, indices: np.ndarray | slice) -> Tensor:
        """Pictures as uint8 ``(n, 3, H, W)``, copied out of the store."""
        return torch.from_numpy(np.ascontiguousarray(self.images[self.rows[indices]]))

    def where(self, keep: Callable[[Record], bool]) -> PairTable:
        """The pairs whose record satisfies ``keep``, in order."""
        return self.rows_where(np.array([keep(record) for record in self.records], dtype=bool))

    def rows_where(self, mask: np.ndarray) -> PairTable:
        """The pairs under a mask ``(n,)``, in order."""
        records = [record for record, kept in zip(self.records, mask, strict=True) if kept]
        return PairTable(self.images, records, self.rows[mask])

    def sample(self, limit: int, *, seed: int = 0) -> PairTable:
        """At most ``limit`` pairs, drawn at random, in order; no other record is read."""
        if len(self) <= limit:
            return PairTable(self.images, list(self.records), self.rows)
        chosen = np.sort(np.random.default_rng(seed).choice(len(self), size=limit, replace=False))
        return PairTable(self.images, [self.records[int(i)] for i in chosen], self.rows[chosen])

    @property
    def clusters(self) -> np.ndarray:
        """Cluster name of every pair, ``(n,)``."""
        return np.array([record.cluster for record in self.records])

    def attribute(self, name: str) -> np.ndarray:
        """Value of an attribute for every pair, ``"none"`` where the source has none, ``(n,)``."""
        return np.array([record.attributes.get(name, "none") for record in self.records])

    @cached_property
    def digest(self) -> str:
        """SHA-256 over ids, captions, attributes and pictures: pixels, or encoded ones as stored."""
        seen = hashlib.sha256()
        for index, record in enumerate(self.records):
            meta = [record.id, record.captions, dict(record.attributes), record.cluster]
            seen.update(json.dumps(meta, sort_keys=True).encode())
            seen.update(self._picture_bytes(int(self.rows[index])))
        return seen.hexdigest()

    def _picture_bytes(self, row: int) -> bytes:
        if isinstance(self.images, np.ndarray):
            return np.ascontiguousarray(self.images[row]).tobytes()
        return self.images.digest_bytes(row)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Phrases:
    """Phrases, each of which names one thing in a picture, for grounding.

    Attributes:
        images: whole pictures, squeezed to squares.
        rows: picture of each phrase ``(n,)``.
        phrases: ``n`` texts.
        boxes: of what they name ``(n, 4)`` as ``(x0, y0, x1, y1)``, in shares of the picture's sides.
        clusters: what is independent of what ``(n,)``.
    """

    images: Pictures
    rows: np.ndarray
    phrases: Sequence[str]
    boxes: np.ndarray
    clusters: np.ndarray


class Flag:
    """Picks the records whose attribute of that name is "yes"; without a name, all."""

    def __init__(self, attribute: str | None) -> None:
        self.attribute = attribute

    def __call__(self, record: Record) -> bool:
        """Whether the record is picked."""
        return self.attribute is None or record.attributes.get(self.attribute) == "yes"


@dataclass(frozen=True)
class Corpus:
    """A named corpus split for training and evaluation.

    Attributes:
        splits: ``train``, ``val``, ``test`` and any number of further test splits.
        sources: one mapping per origin: name, version, licence, url, attribution, pictures.
        limits: what may not be concluded from this corpus, in words.
        audited: picks the pictures whose role and protected attributes are audited: one person each.
        canonical: picks the one picture per item that retrieval is measured on, so that near-copies of
            a picture are not each other's false misses.
        classification: attribute that holds the class of the linear probe, if there is one.
        role: attribute that holds the role or object of zero-shot classification, if there is one.
        objects: attribute that holds all classes that a picture shows, joined by ``;``, if there is one;
            those of ``<objects>_unsure`` are neither right nor wrong (VOC's "difficult").
        templates: prompts with one ``{}`` for a role.
        captioned: whether pictures have captions.
        phrases: of a test split's pictures, with boxes.
        skipped: what was left out: reason → number, ``total`` → how many were listed.
    """

    name: str
    splits: Mapping[str, PairTable]
    sources: Sequence[Mapping[str, Any]]
    limits: Sequence[str]
    audited: Flag
    canonical: Flag
    classification: str | None = None
    role: str | None = None
    objects: str | None = None
    templates: Sequence[str] = ("a photo of a {}",)
    captioned: bool = True
    phrases: Mapping[str, Phrases] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)

    def limited(self, **limits: int) -> Corpus:
        """The corpus with at most so many pictures in the named splits, drawn at random."""
        splits = {
            name: table.sample(limits[name]) if name in limits else table
            for name, table in self.splits.items()
        }
        return replace(self, splits=splits)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the digests of all splits."""
        parts = [f"{name}:{table.digest}" for name, table in sorted(self.splits.items())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
