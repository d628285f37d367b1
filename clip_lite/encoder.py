"""The contract of everything that can be trained, edited and audited."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor


class ImageFeatures(NamedTuple):
    """``features`` ``(n, f)``: pooled output of the tower; ``embedding`` ``(n, d)``: projected.

    An embedding has unit norm until an eraser edits it. Its norm is then left as it comes, on purpose:
    scaling it back to 1 moves the group means that the eraser made equal, and a linear probe finds something
    again. Compare embeddings by cosine.
    """

    features: Tensor
    embedding: Tensor


@runtime_checkable
class ImageTextEncoder(Protocol):
    """An image tower and, where ``has_text``, a text tower with a shared embedding space."""

    embedding_dim: int
    has_text: bool

    def image_transform(self, images: Tensor) -> Tensor:
        """uint8 ``(n, 3, H, W)`` → what ``encode_image`` takes."""

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """Transformed pictures → features and embeddings, edited by the erasers that are attached."""

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Texts → unit-norm embeddings ``(n, d)``."""


Edit = Callable[[Tensor], Tensor]


def edit_features(image: ImageFeatures, edits: Mapping[str, Edit]) -> ImageFeatures:
    """Apply an edit to ``features`` and to ``embedding`` where one is given.

    The two edits are independent: the embedding is projected from the tower's unedited features.
    """
    return image._replace(**{name: edit(getattr(image, name)) for name, edit in edits.items()})
