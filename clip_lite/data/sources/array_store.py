"""Pictures of an array in the place of picture files."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image


class ArrayStore:
    """uint8 RGB pictures ``(n, H, W, 3)`` by row, each under its name.

    Raises:
        ValueError: an array of another shape or type, or not one name per picture.
    """

    def __init__(self, pictures: np.ndarray, names: Sequence[str]) -> None:
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
            raise ValueError(f"pictures are {pictures.dtype} {pictures.shape}, expected uint8 (n, H, W, 3)")
        if len(names) != len(pictures):
            raise ValueError(f"{len(pictures)} pictures but {len(names)} names")
        self.pictures, self.names = pictures, names

    def __len__(self) -> int:
        return len(self.pictures)

    def read(self, row: int) -> bytes:
        """The picture as PNG, hardly compressed."""
        out = io.BytesIO()
        Image.fromarray(self.pictures[row]).save(out, "PNG", compress_level=1)
        return out.getvalue()

    def name(self, row: int) -> str:
        """The picture's name."""
        return self.names[row]

    def fingerprint(self, row: int) -> str:
        """Name and digest of the pixels."""
        digest = hashlib.blake2b(self.pictures[row].tobytes(), digest_size=16)
        return f"{self.names[row]}:{digest.hexdigest()}"
