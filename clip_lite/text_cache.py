"""Text-tower features of every training caption, computed once while the text tower is frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clip_lite.data.captions import swap_left_right
from clip_lite.data.pairs import Record
from clip_lite.towers import TextTower, pooled_texts


@dataclass(frozen=True)
class TextCache:
    """Features ``(m, f)`` of distinct captions and which of them belong to which record.

    ``first`` and ``count`` index ``rows``; ``mirrored`` is aligned with it and names the caption whose *left*
    and *right* are exchanged.
    """

    features: Tensor
    rows: np.ndarray
    mirrored: np.ndarray
    first: np.ndarray
    count: np.ndarray

    @classmethod
    def build(cls, tower: TextTower, records: Sequence[Record]) -> TextCache:
        """Encode the captions of ``records`` and their mirrored forms."""
        captions = [caption for record in records for caption in record.captions]
        swapped = [swap_left_right(caption) for caption in captions]
        index = {caption: place for place, caption in enumerate(dict.fromkeys(captions + swapped))}
        count = np.array([len(record.captions) for record in records])
        return cls(
            features=pooled_texts(tower, list(index)),
            rows=np.array([index[caption] for caption in captions]),
            mirrored=np.array([index[caption] for caption in swapped]),
            first=np.cumsum(count) - count,
            count=count,
        )

    def draw(self, indices: np.ndarray, mirrored: Tensor, rng: np.random.Generator) -> Tensor:
        """Features ``(n, f)`` of one random caption per record, the mirrored form where the picture is."""
        place = self.first[indices] + (rng.random(len(indices)) * self.count[indices]).astype(np.int64)
        chosen = np.where(mirrored.numpy(), self.mirrored[place], self.rows[place])
        return self.features[torch.from_numpy(chosen)]
