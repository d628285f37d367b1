"""Augmentation and normalisation on whole uint8 batches.

torchvision's v2 transforms draw one set of parameters for a batch. Here every picture of the batch has its
own, and still the batch costs one resampling and one matrix product: crop and flip are one affine grid,
brightness, contrast, saturation and hue one colour matrix.
"""

from __future__ import annotations

import math

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

    def __call__(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """uint8 ``(n, 3, H, W)`` → normalised float32 of that size, and which are mirrored ``(n,)``."""
        n = images.shape[0]
        flipped = torch.rand(n, generator=generator) < self.flip
        crop = self._crop(n, flipped, generator).to(images.device)
        matrix, offset = self._colours(images, generator)
        x = images.float() / 255
        x = F.grid_sample(
            x,
            F.affine_grid(crop, list(x.shape), align_corners=False),
            align_corners=False,
            padding_mode="border",
        )
        x = torch.einsum("noc,nchw->nohw", matrix, x) + offset[:, :, None, None]
        x = v2.functional.normalize(x.clamp_(0, 1), list(IMAGENET_MEAN), list(IMAGENET_STD))
        return x.contiguous(memory_format=torch.channels_last), flipped

    def _crop(self, n: int, flipped: Tensor, generator: torch.Generator) -> Tensor:
        """Affine matrices ``(n, 2, 3)`` of random boxes inside the unit square, mirrored where asked."""
        area = _uniform(n, self.scale, generator)
        log_ratio = (math.log(self.ratio[0]), math.log(self.ratio[1]))
        ratio = torch.exp(_uniform(n, log_ratio, generator))
        width = (area * ratio).sqrt().clamp(max=1)
        height = (area / ratio).sqrt().clamp(max=1)
        theta = torch.zeros(n, 2, 3)
        theta[:, 0, 0] = torch.where(flipped, -width, width)
        theta[:, 1, 1] = height
        theta[:, 0, 2] = _uniform(n, (-1, 1), generator) * (1 - width)
        theta[:, 1, 2] = _uniform(n, (-1, 1), generator) * (1 - height)
        return theta

    def _colours(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Colour matrices ``(n, 3, 3)`` and offsets ``(n, 3)``; contrast turns around the mean grey."""
        n = images.shape[0]
        factors = [_uniform(n, (max(0.0, 1 - s), 1 + s), generator) for s in self.jitter[:3]]
        angle = _uniform(n, (-self.jitter[3], self.jitter[3]), generator) * 2 * math.pi
        off = torch.rand(n, generator=generator) >= self.jitter_probability
        brightness, contrast, saturation = (torch.where(off, 1.0, factor) for factor in factors)
        angle = torch.where(off, 0.0, angle)
        rotation = torch.eye(3).repeat(n, 1, 1)
        rotation[:, 1, 1] = rotation[:, 2, 2] = saturation * torch.cos(angle)
        rotation[:, 1, 2] = -saturation * torch.sin(angle)
        rotation[:, 2, 1] = saturation * torch.sin(angle)
        matrix = _YIQ_TO_RGB @ rotation @ _RGB_TO_YIQ * (brightness * contrast)[:, None, None]
        grey = (images.float().mean(dim=(2, 3)).cpu() @ torch.tensor(LUMA)) / 255
        offset = ((1 - contrast) * brightness * grey)[:, None].expand(n, 3)
        return matrix.to(images.device), offset.to(images.device)


def _uniform(n: int, limits: tuple[float, float], generator: torch.Generator) -> Tensor:
    low, high = limits
    return torch.rand(n, generator=generator) * (high - low) + low
