"""CLIP's objective: each picture finds its caption among all captions of the batch, and the reverse."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clip_lite.distributed import gather, rank
from clip_lite.losses.base import full_precision


class InfoNCELoss:
    """Symmetric cross entropy over the scores of all pairs (Radford et al. 2021, figure 3).

    Over several processes the rows of this one meet the columns of all: ``(n, N)`` scores in each direction.
    """

    uses_batch = True
    initial_scale = 1 / 0.07

    def __call__(self, image: Tensor, text: Tensor, _negatives: None, scale: Tensor) -> dict[str, Tensor]:
        """``image_to_text`` and ``text_to_image``, each halved, of unit-norm embeddings ``(n, d)``."""
        with full_precision(image, text, scale) as (image, text, scale):
            return {
                "image_to_text": _choice(scale * image, gather(text)) / 2,
                "text_to_image": _choice(scale * text, gather(image)) / 2,
            }


def _choice(rows: Tensor, columns: Tensor) -> Tensor:
    own = torch.arange(len(rows), device=rows.device) + rank() * len(rows)
    return F.cross_entropy(rows @ columns.T, own)
