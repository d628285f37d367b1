"""Pictures as another library prepares them: its own resize and crop first, its own numbers after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import Normalize, ToTensor
from torchvision.transforms.v2 import functional as v2

from clip_lite.data.encoded import Prepare
from clip_lite.errors import UsageError

PROBE = (53, 37)  # width and height of the picture on which a preparation is tried


class Steps:
    """A library's steps on PIL pictures, up to where they become tensors.

    Args:
        steps: each takes and gives a PIL picture.
        name: of the model, for messages.

    Raises:
        UsageError: what comes out is not a square.
    """

    def __init__(self, steps: Sequence[Callable[[Any], Any]], *, name: str) -> None:
        self.steps = list(steps)
        self.size = square(self(probe()), name=name)

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Upright RGB picture → uint8 ``(3, size, size)``."""
        for step in self.steps:
            image = step(image)
        return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def split(transform: Any, *, name: str) -> tuple[Steps, list[float], list[float]]:
    """A composed transform of torchvision's kind → its steps on PIL pictures, and mean and deviation after.

    Raises:
        UsageError: it does something else to tensors than normalise them.
    """
    steps = list(transform.transforms)
    kinds = [isinstance(step, ToTensor) for step in steps]
    after = steps[kinds.index(True) + 1 :] if True in kinds else []
    if len(after) != 1 or not isinstance(after[0], Normalize):
        raise UsageError(f"{name}: its transform does not end in ToTensor and Normalize")
    mean, std = (torch.as_tensor(values).flatten().tolist() for values in (after[0].mean, after[0].std))
    return Steps(steps[: kinds.index(True)], name=name), mean, std


def probe() -> Image.Image:
    """A picture of noise, always the same."""
    noise = np.random.default_rng(0).integers(0, 256, (PROBE[1], PROBE[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


def square(prepared: np.ndarray, *, name: str) -> int:
    """Side of a prepared picture.

    Raises:
        UsageError: it is none, uint8 ``(3, s, s)``.
    """
    shape = prepared.shape
    if prepared.dtype != np.uint8 or len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2]:
        raise UsageError(
            f"{name}: its preprocessing gives {prepared.dtype} of shape {tuple(shape)} for a picture, "
            f"expected one square of pixels, uint8 (3, s, s)"
        )
    return int(shape[1])


def prepared(images: Tensor, prepare: Prepare) -> Tensor:
    """uint8 ``(n, 3, H, W)`` → ``(n, 3, size, size)``; of another size they go through ``prepare`` first."""
    if list(images.shape[-2:]) == [prepare.size] * 2:
        return images
    rows = images.permute(0, 2, 3, 1).cpu().numpy()
    return torch.from_numpy(np.stack([prepare(Image.fromarray(row)) for row in rows])).to(images.device)


def normalised(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 ``(n, 3, H, W)`` → float32 with the given statistics of pictures in [0, 1]."""
    return v2.normalize(v2.to_dtype(images, torch.float32, scale=True), list(mean), list(std))
