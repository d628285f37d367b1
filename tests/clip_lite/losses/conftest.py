"""Pairs of unit-norm embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def pairs(n: int, d: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image, text = torch.randn(2, n, d, generator=generator, dtype=dtype)
    return F.normalize(image, dim=-1), F.normalize(text, dim=-1)


def dot(a: torch.Tensor, b: torch.Tensor) -> float:
    """One number at a time, apart from what torch multiplies with."""
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
