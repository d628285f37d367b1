"""One pass over a split: what the encoder makes of every picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from clip_lite.data.pairs import PairTable, Record
from clip_lite.encoder import Edit, ImageFeatures, ImageTextEncoder, edit_features
from clip_lite.precision import autocast
from clip_lite.progress import progress_bar

BATCH = 256


@dataclass(frozen=True)
class EmbeddingTable:
    """Tower features ``(n, f)`` and embeddings ``(n, d)`` of a split, float32 on the CPU, with its records.

    The arrays may be memory-mapped; ``records`` says whose they are.
    """

    image: ImageFeatures
    records: Sequence[Record]

    def __len__(self) -> int:
        return len(self.records)

    @property
    def features(self) -> np.ndarray:
        """Tower features ``(n, f)``."""
        return self.image.features.numpy()

    @property
    def embedding(self) -> np.ndarray:
        """Embeddings ``(n, d)``."""
        return self.image.embedding.numpy()

    @property
    def ids(self) -> list[str]:
        """Id of every picture."""
        return [record.id for record in self.records]

    @property
    def clusters(self) -> np.ndarray:
        """Cluster name of every picture ``(n,)``."""
        return np.array([record.cluster for record in self.records])

    def captions(self) -> tuple[list[str], list[np.ndarray]]:
        """Distinct captions, and for every picture the indices of its own."""
        return caption_index([record.captions for record in self.records])

    def edited(self, edits: Mapping[str, Edit]) -> EmbeddingTable:
        """What the encoder would return with these erasers attached."""
        with torch.inference_mode():
            return EmbeddingTable(edit_features(self.image, edits), self.records)

    def rows(self, keep: np.ndarray) -> EmbeddingTable:
        """The pictures at the given positions or under a mask."""
        chosen = np.flatnonzero(keep) if np.asarray(keep).dtype == bool else np.asarray(keep)
        index = torch.from_numpy(chosen)
        image = ImageFeatures(self.image.features[index], self.image.embedding[index])
        return EmbeddingTable(image, [self.records[int(place)] for place in chosen])


def embed(
    encoder: ImageTextEncoder, table: PairTable, description: str, *, device: torch.device
) -> EmbeddingTable:
    """Encode every picture of ``table`` in float32, in order."""
    parts = list(encoded(encoder, table, slice(0, len(table)), description, device=device))
    image = ImageFeatures(torch.cat([p.features for p in parts]), torch.cat([p.embedding for p in parts]))
    return EmbeddingTable(image, table.records)


def encoded(
    encoder: ImageTextEncoder, table: PairTable, rows: slice, description: str, *, device: torch.device
) -> Iterator[ImageFeatures]:
    """What the encoder makes of the given rows, a batch at a time, on the CPU."""
    with progress_bar(description, rows.stop - rows.start) as advance:
        for start in range(rows.start, rows.stop, BATCH):
            pixels = table.pixels(slice(start, min(start + BATCH, rows.stop))).to(device)
            with torch.inference_mode(), autocast(device, "float32"):
                image = encoder.encode_image(encoder.image_transform(pixels))
            yield ImageFeatures(image.features.float().cpu(), image.embedding.float().cpu())
            advance(len(pixels), "")


def caption_index(captions: Sequence[Sequence[str]]) -> tuple[list[str], list[np.ndarray]]:
    """Distinct captions in order of appearance, and for every picture the indices of its own."""
    index = {text: place for place, text in enumerate(dict.fromkeys(c for own in captions for c in own))}
    return list(index), [np.array([index[text] for text in own]) for own in captions]
