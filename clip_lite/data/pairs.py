"""The contract between data sources and everything that reads pairs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Pair(NamedTuple):
    """One picture with its captions.

    ``image`` is uint8 ``(3, H, W)``; ``captions`` holds at least one; ``id`` is stable across runs;
    ``attributes`` holds what the source knows (``{"gender": "woman"}``) and may be empty.
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


@dataclass(frozen=True)
class PairTable:
    """Pairs whose pixels lie in one uint8 array ``(n, 3, H, W)``, in memory or memory-mapped.

    ``rows`` selects and orders the pictures of ``images``; ``records`` is aligned with ``rows``.
    """

    images: np.ndarray
    records: Sequence[Record]
    rows: np.ndarray

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

    @property
    def clusters(self) -> np.ndarray:
        """Cluster name of every pair, ``(n,)``."""
        return np.array([record.cluster for record in self.records])

    def attribute(self, name: str) -> np.ndarray:
        """Value of an attribute for every pair, ``"none"`` where the source has none, ``(n,)``."""
        return np.array([record.attributes.get(name, "none") for record in self.records])

    @property
    def digest(self) -> str:
        """SHA-256 over ids, captions, attributes and pixels."""
        seen = hashlib.sha256()
        for index, record in enumerate(self.records):
            meta = [record.id, record.captions, dict(record.attributes), record.cluster]
            seen.update(json.dumps(meta, sort_keys=True).encode())
            seen.update(np.ascontiguousarray(self.images[self.rows[index]]).tobytes())
        return seen.hexdigest()


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
        classification: attribute that holds the class of the linear probe.
    """

    name: str
    splits: Mapping[str, PairTable]
    sources: Sequence[Mapping[str, Any]]
    limits: Sequence[str]
    audited: Callable[[Record], bool]
    canonical: Callable[[Record], bool]
    classification: str

    @property
    def digest(self) -> str:
        """SHA-256 over the digests of all splits."""
        parts = [f"{name}:{table.digest}" for name, table in sorted(self.splits.items())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
