"""Augmentation and normalisation on whole uint8 batches.

torchvision's v2 transforms draw one set of parameters for a batch. Here every picture of the batch has its
own, and still the batch costs one resampling and one matrix product: crop and flip are one affine grid,
brightness, contrast, saturation and hue one colour matrix.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)

# RGB → YIQ; a hue shift is a rotation of the I–Q plane.
_RGB_TO_YIQ = torch.tensor([LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])
_YIQ_TO_RGB = torch.linalg.inv(_RGB_TO_YIQ)


def normalise(images: Tensor) -> Tensor:
    """uint8 ``(n, 3, H, W)`` → float32 with ImageNet statistics, channels last in memory."""
    x = v2.functional.to_dtype(images, torch.float32, scale=True)
    x = v2.functional.normalize(x, list(IMAGENET_MEAN), list(IMAGENET_STD))
    return x.contiguous(memory_format=torch.channels_last)


class Draws(NamedTuple):
    """The random numbers of n pictures, so that ranks can share the draws of one global batch.

    ``box`` ``(n, 4)``: uniforms for area, aspect ratio and place of the crop; ``mirrored`` ``(n,)`` bool;
    ``colour`` ``(n, 5)``: uniforms for whether colours change, and for the four strengths.
    """

    box: np.ndarray
    mirrored: np.ndarray
    colour: np.ndarray

    def rows(self, part: slice) -> Draws:
        """The draws of some of the pictures."""
        return Draws(*(numbers[part] for numbers in self))


class Augment:
    """Random resized crop, horizontal flip and colour jitter (the recipe of CLIP-Lite's published code).

    Args:
        scale: range of the crop's area as a share of the picture.
        ratio: range of its aspect ratio.
        flip: probability of mirroring; the caller swaps *left* and *right* in those captions.
        jitter: strength of brightness, contrast, saturation and hue changes.
        jitter_probability: share of pictures whose colours change at all.
    """

    def __init__(
        self,
        *,
        scale: tuple[float, float],
        ratio: tuple[float, float] = (0.75, 4 / 3),
        flip: float,
        jitter: tuple[float, float, float, float],
        jitter_probability: float = 0.8,
    ) -> None:
        self.scale = scale
        self.ratio = ratio
        self.flip = flip
        self.jitter = jitter
        self.jitter_probability = jitter_probability

    def draw(self, n: int, rng: np.random.Generator) -> Draws:
        """Random numbers for ``n`` pictures."""
        return Draws(rng.random((n, 4)), rng.random(n) < self.flip, rng.random((n, 5)))

    def __call__(self, images: Tensor, draws: Draws, *, cropped: bool = False) -> Tensor:
        """uint8 ``(n, 3, H, W)`` → normalised float32 of that size, channels last in memory.

        ``cropped`` pictures were cropped when they were decoded: they are mirrored and coloured here.
        """
        x = images.float()
        x = self._mirror(x, draws) if cropped else self._crop(x, draws)
        n, _, height, width = x.shape
        matrix, offset = self._colours(x, draws.colour)
        mean, std = (x.new_tensor(values)[:, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
        x = torch.baddbmm((offset[:, :, None] - mean) / std, matrix / std, x.reshape(n, 3, -1))
        x = torch.clamp_(x, -mean / std, (1 - mean) / std)  # colours stay in [0, 1]
        return x.view(n, 3, height, width).contiguous(memory_format=torch.channels_last)

    def _mirror(self, x: Tensor, draws: Draws) -> Tensor:
        mirrored = torch.from_numpy(draws.mirrored).to(x.device)
        return torch.where(mirrored[:, None, None, None], x.flip(-1), x)

    def _crop(self, x: Tensor, draws: Draws) -> Tensor:
        """Resample a random box of every picture to its full size, mirrored where asked."""
        centre_x, centre_y, width, height = crop_boxes(draws.box, self.scale, self.ratio).T
        across = _positions(np.where(draws.mirrored, -width, width), centre_x, x.shape[3])
        down = _positions(height, centre_y, x.shape[2])
        n, rows, columns = len(x), x.shape[2], x.shape[3]
        grid = torch.empty(n, rows, columns, 2, device=x.device)
        grid[..., 0] = across.to(x.device)[:, None, :]
        grid[..., 1] = down.to(x.device)[:, :, None]
        return F.grid_sample(x, grid, align_corners=False, padding_mode="border")

    def _colours(self, x: Tensor, uniforms: np.ndarray) -> tuple[Tensor, Tensor]:
        """Matrices ``(n, 3, 3)`` and offsets ``(n, 3)`` from [0, 255] to [0, 1]; contrast turns at grey."""
        jitter = np.asarray(self.jitter)
        low = np.maximum(0, 1 - jitter)
        factors = low + uniforms[:, 1:] * (1 + jitter - low)
        factors[:, 3] = (2 * uniforms[:, 4] - 1) * jitter[3] * 2 * math.pi
        factors[uniforms[:, 0] >= self.jitter_probability] = (1, 1, 1, 0)
        brightness, contrast, saturation, angle = torch.from_numpy(factors.astype(np.float32)).unbind(1)
        rotation = torch.eye(3).repeat(len(x), 1, 1)
        rotation[:, 1, 1] = rotation[:, 2, 2] = saturation * torch.cos(angle)
        rotation[:, 1, 2] = -saturation * torch.sin(angle)
        rotation[:, 2, 1] = saturation * torch.sin(angle)
        matrix = _YIQ_TO_RGB @ rotation @ _RGB_TO_YIQ * (brightness * contrast / 255)[:, None, None]
        grey = x.mean(dim=(2, 3)) @ x.new_tensor(LUMA) / 255
        offset = ((1 - contrast) * brightness).to(x.device) * grey
        return matrix.to(x.device), offset[:, None].expand(-1, 3)


def _positions(side: np.ndarray, centre: np.ndarray, pixels: int) -> Tensor:
    """Where the pixels of one axis of each box lie in [−1, 1], ``(n, pixels)``; negative ones run back."""
    middle = (2 * np.arange(pixels) + 1) / pixels - 1
    return torch.from_numpy((side[:, None] * middle + 2 * centre[:, None] - 1).astype(np.float32))


def crop_boxes(uniforms: np.ndarray, scale: tuple[float, float], ratio: tuple[float, float]) -> np.ndarray:
    """Random boxes inside the unit square from uniforms ``(n, 4)``: centre x, centre y, width, height.

    Area is uniform in ``scale``, aspect ratio log-uniform in ``ratio``; a side that would leave the square is
    cut to 1.
    """
    area = scale[0] + uniforms[:, 0] * (scale[1] - scale[0])
    aspect = np.exp(math.log(ratio[0]) + uniforms[:, 1] * (math.log(ratio[1]) - math.log(ratio[0])))
    width = np.minimum(1, np.sqrt(area * aspect))
    height = np.minimum(1, np.sqrt(area / aspect))
    x = width / 2 + uniforms[:, 2] * (1 - width)
    y = height / 2 + uniforms[:, 3] * (1 - height)
    return np.stack([x, y, width, height], axis=1)
