"""Texts through another library's text tower, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

BATCH = 256


@torch.inference_mode()
def embedded(
    texts: Sequence[str], encode: Callable[[list[str]], Tensor], *, dim: int, device: torch.device
) -> Tensor:
    """Unit-norm float32 embeddings ``(n, dim)`` of what ``encode`` gives for each batch."""
    parts = [torch.empty(0, dim, device=device)]
    parts += [encode(list(texts[start : start + BATCH])).float() for start in range(0, len(texts), BATCH)]
    return F.normalize(torch.cat(parts), dim=-1)
