"""What every encoder that can be edited has in common: the erasers that travel with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

from torch import Tensor, nn

from clip_lite.data.encoded import Prepare
from clip_lite.encoder import ImageFeatures, edit_features
from debias.eraser import Eraser


class EditableEncoder(nn.Module, ABC):
    """An ``ImageTextEncoder`` with erasers, which edit what ``encode_image`` returns while ``erase`` holds.

    Attributes:
        embedding_dim: width d of the shared space.
        feature_dim: width f of the image tower's features.
        image_size: side of the pictures that the tower takes.
        settings: what, with the weights, fixes what the encoder returns; plain JSON.
        prepare: what becomes of a picture before ``image_transform``; None for the square in its middle.
        has_text: whether there is a text tower.
    """

    embedding_dim: int
    feature_dim: int
    image_size: int
    settings: dict[str, Any]
    prepare: Prepare | None = None
    has_text: bool = True

    def __init__(self) -> None:
        super().__init__()
        self.erasers = nn.ModuleDict()
        self.erase = True

    @abstractmethod
    def image_transform(self, images: Tensor) -> Tensor:
        """uint8 ``(n, 3, H, W)`` → what ``encode_image`` takes."""

    @abstractmethod
    def unedited(self, pixels: Tensor) -> ImageFeatures:
        """Transformed pictures → features ``(n, f)`` and unit-norm embeddings ``(n, d)``, float32."""

    @abstractmethod
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Texts → unit-norm embeddings ``(n, d)``."""

    @abstractmethod
    def fresh(self, seed: int) -> Self:
        """The same architecture with new random weights in its image tower."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """``architecture``, ``image_tower``, ``image_weights`` and ``text_tower``, in words."""

    @abstractmethod
    def save_pretrained(self, folder: Path) -> None:
        """Write the model with its erasers; replaces ``folder`` atomically."""

    @property
    @abstractmethod
    def seeing(self) -> nn.Module:
        """The image tower, for Grad-CAM."""

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """Transformed pictures → features and embeddings, edited while ``erase`` holds."""
        image = self.unedited(pixels)
        return edit_features(image, self.attached) if self.erase else image

    @property
    def attached(self) -> dict[str, Eraser]:
        """The stored erasers by what they edit."""
        return {name: cast(Eraser, eraser) for name, eraser in self.erasers.items()}

    def attach(self, erasers: Mapping[str, Eraser]) -> None:
        """Store erasers for ``features`` and ``embedding``; they act from now on and after loading.

        Raises:
            ValueError: an eraser of another width, for something the model does not return, or of a kind that
                needs the group of every picture.
        """
        widths = {"features": self.feature_dim, "embedding": self.embedding_dim}
        for name, eraser in erasers.items():
            if eraser.dim != widths.get(name):
                raise ValueError(f"eraser for {name!r} has dim {eraser.dim}, expected one of {widths}")
            if eraser.kind != "affine":
                raise ValueError(f"eraser for {name!r} is {eraser.kind}: it needs the group of every picture")
        self.erasers = nn.ModuleDict(erasers)
