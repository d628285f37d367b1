"""One pass over a split: what the encoder makes of every picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from clip_lite.data.pairs import PairTable
from clip_lite.encoder import Edit, ImageFeatures, ImageTextEncoder, edit_features
from clip_lite.precision import autocast
from clip_lite.progress import progress_bar

BATCH = 256


@dataclass(frozen=True)
class EmbeddingTable:
    """Tower features ``(n, f)`` and embeddings ``(n, d)`` of a split, float32, on the CPU."""

    image: ImageFeatures

    @property
    def features(self) -> np.ndarray:
        """Tower features ``(n, f)``."""
        return self.image.features.numpy()

    @property
    def embedding(self) -> np.ndarray:
        """Embeddings ``(n, d)``."""
        return self.image.embedding.numpy()

    def edited(self, edits: Mapping[str, Edit]) -> EmbeddingTable:
        """What the encoder would return with these erasers attached."""
        with torch.inference_mode():
            return EmbeddingTable(edit_features(self.image, edits))

    def rows(self, keep: np.ndarray) -> EmbeddingTable:
        """The pictures at the given positions or under a mask."""
        chosen = torch.from_numpy(np.asarray(keep))
        return EmbeddingTable(ImageFeatures(self.image.features[chosen], self.image.embedding[chosen]))


@torch.inference_mode()
def embed(
    encoder: ImageTextEncoder, table: PairTable, description: str, *, device: torch.device
) -> EmbeddingTable:
    """Encode every picture of ``table`` in float32, in order."""
    parts: list[ImageFeatures] = []
    with progress_bar(description, len(table)) as advance, autocast(device, "float32"):
        for start in range(0, len(table), BATCH):
            pixels = table.pixels(slice(start, start + BATCH)).to(device)
            image = encoder.encode_image(encoder.image_transform(pixels))
            parts.append(ImageFeatures(image.features.float().cpu(), image.embedding.float().cpu()))
            advance(len(pixels), "")
    return EmbeddingTable(
        ImageFeatures(torch.cat([p.features for p in parts]), torch.cat([p.embedding for p in parts]))
    )


def caption_index(captions: Sequence[Sequence[str]]) -> tuple[list[str], list[np.ndarray]]:
    """Distinct captions in order of appearance, and for every picture the indices of its own."""
    index = {text: place for place, text in enumerate(dict.fromkeys(c for own in captions for c in own))}
    return list(index), [np.array([index[text] for text in own]) for own in captions]
