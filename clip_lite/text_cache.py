"""Captions of training batches: cached features of a frozen text tower, or tokens for any other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from clip_lite.data.cache import atomic_folder
from clip_lite.data.captions import AS_WRITTEN, Speech, caption_key, swap_left_right
from clip_lite.data.pairs import PairTable, Record
from clip_lite.errors import UsageError
from clip_lite.progress import progress_bar
from clip_lite.text_towers import TextTower, pooled_texts

BLOCK = 4096  # captions that are in memory at a time


class Drawn(NamedTuple):
    """Captions of a batch.

    ``text``: features ``(n, f)`` or tokens; ``caption`` ``(n,)``: their keys; ``own`` ``(n, c)``: keys of all
    captions of each picture, padded with -1. Keys are int64, see ``caption_key``. ``group`` ``(n,)``: of each
    picture, where the speech numbers groups.
    """

    text: Tensor | dict[str, Tensor]
    caption: Tensor
    own: Tensor
    group: Tensor | None


class Sampled(NamedTuple):
    """Captions of the whole corpus: features ``(k, f)``, keys and groups ``(k,)``."""

    text: Tensor
    caption: Tensor
    group: Tensor | None


@dataclass(frozen=True)
class TextCache:
    """Features of distinct captions, memory-mapped, and which of them belong to which record.

    Attributes:
        features: float32 ``(m, f)``.
        keys: of each caption as it stands in a record, ``(t,)``.
        rows: its place in ``features``; ``mirrored``: the place of the caption with *left* and *right*
            exchanged.
        first, count: where a record's captions begin in ``rows``, and how many they are.
        group: number of each record's group, where the speech numbers groups.
    """

    features: np.ndarray
    keys: np.ndarray
    rows: np.ndarray
    mirrored: np.ndarray
    first: np.ndarray
    count: np.ndarray
    group: np.ndarray | None = None

    @classmethod
    def build(
        cls, tower: TextTower, records: Sequence[Record], *, cache: Path, speech: Speech = AS_WRITTEN
    ) -> TextCache:
        """Encode captions and their mirrored forms; what the cache folder has is not computed again."""
        captions = [speech.heard(caption) for record in records for caption in record.captions]
        swapped = [swap_left_right(caption) for caption in captions]
        index = {caption: place for place, caption in enumerate(dict.fromkeys(captions + swapped))}
        count = np.array([len(record.captions) for record in records])
        return cls(
            features=_encoded(tower, list(index), cache),
            keys=np.array([caption_key(caption) for caption in captions], dtype=np.int64),
            rows=np.array([index[caption] for caption in captions]),
            mirrored=np.array([index[caption] for caption in swapped]),
            first=np.cumsum(count) - count,
            count=count,
            group=np.array([speech.group(r.captions) for r in records]) if speech.group else None,
        )

    def draw(self, _table: PairTable, rows: np.ndarray, *, mirrored: np.ndarray, chance: np.ndarray) -> Drawn:
        """One caption for each row of the table, picked by ``chance`` in [0, 1); mirrored as the picture."""
        place = self.first[rows] + (chance * self.count[rows]).astype(np.int64)
        chosen = np.where(mirrored, self.mirrored[place], self.rows[place])
        across = np.arange(self.count[rows].max())
        places = np.minimum(self.first[rows, None] + across, len(self.keys) - 1)
        own = np.where(across < self.count[rows, None], self.keys[places], -1)
        return Drawn(
            torch.from_numpy(self.features[chosen]),
            torch.from_numpy(self.keys[place]),
            torch.from_numpy(own),
            None if self.group is None else torch.from_numpy(self.group[rows]),
        )

    def sample(self, k: int, rng: np.random.Generator) -> Sampled:
        """``k`` captions of the whole corpus, each as often as it occurs."""
        place = rng.integers(len(self.rows), size=k)
        record = np.searchsorted(self.first, place, side="right") - 1
        return Sampled(
            torch.from_numpy(self.features[self.rows[place]]),
            torch.from_numpy(self.keys[place]),
            None if self.group is None else torch.from_numpy(self.group[record]),
        )


@dataclass(frozen=True)
class LiveTexts:
    """Tokens of captions that are read as they are needed: for towers in training, and for streams."""

    tower: TextTower
    speech: Speech = AS_WRITTEN

    def draw(self, table: PairTable, rows: np.ndarray, *, mirrored: np.ndarray, chance: np.ndarray) -> Drawn:
        """As ``TextCache.draw``: the same captions for the same ``chance``."""
        written = [table.records[row].captions for row in rows]
        captions = [[self.speech.heard(text) for text in own] for own in written]
        drawn = [own[int(u * len(own))] for own, u in zip(captions, chance, strict=True)]
        spoken = [swap_left_right(text) if m else text for text, m in zip(drawn, mirrored, strict=True)]
        keys = [[caption_key(text) for text in own] for own in captions]
        widest = max(map(len, keys))
        return Drawn(
            self.tower.tokenize(spoken),
            torch.tensor([caption_key(text) for text in drawn]),
            torch.tensor([own + [-1] * (widest - len(own)) for own in keys]),
            torch.tensor([self.speech.group(own) for own in written]) if self.speech.group else None,
        )

    def sample(self, _k: int, _rng: np.random.Generator) -> Sampled:
        """Not to be had: the whole corpus is not at hand.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "objective.negatives cached draws from captions that are encoded beforehand, which needs "
            "model.text_training frozen and a corpus that is not streamed: take shifted, rolled or hard"
        )


def _encoded(tower: TextTower, captions: Sequence[str], cache: Path) -> np.ndarray:
    """Features of captions ``(m, f)``, memory-mapped from the cache; computed if they are not there."""
    target = cache / f"text-{_digest(tower, captions)}"
    if not target.exists():
        with atomic_folder(target) as folder, progress_bar("encoding captions", len(captions)) as advance:
            features = np.lib.format.open_memmap(
                folder / "features.npy", mode="w+", dtype=np.float32, shape=(len(captions), tower.dim)
            )
            for start in range(0, len(captions), BLOCK):
                part = captions[start : start + BLOCK]
                features[start : start + BLOCK] = pooled_texts(tower, part).numpy()
                advance(len(part), "")
            features.flush()
    return np.load(target / "features.npy", mmap_mode="r")


def _digest(tower: TextTower, captions: Sequence[str]) -> str:
    seen = hashlib.sha256(f"1 {tower.pooling} {len(captions)}".encode())
    for caption in captions:
        seen.update(caption.encode() + b"\n")
    for tensor in tower.state_dict().values():
        seen.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return seen.hexdigest()[:16]
