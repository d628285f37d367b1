"""SigLIP's objective: every picture and caption of the batch, do they belong together, yes or no."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip_lite.distributed import gather, rank
from clip_lite.losses.base import full_precision


class SigLIPLoss(nn.Module):
    """−Σ_ij log σ(z_ij·(s·⟨x_i, y_j⟩ + b)) per picture, z = ±1 for pairs and others (Zhai et al. 2023, §3.2).

    The bias b is learned from −10, the scale s from 10: most answers are no, and training begins there.
    Over several processes the pictures of this one meet the captions of all.
    """

    uses_batch = True
    initial_scale = 10.0

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(-10.0))

    def forward(self, image: Tensor, text: Tensor, _negatives: None, scale: Tensor) -> dict[str, Tensor]:
        """``sigmoid``: summed over captions, averaged over pictures; of unit-norm embeddings ``(n, d)``."""
        with full_precision(image, text, scale) as (image, text, scale):
            scores = (scale * image) @ gather(text).T + self.bias
            answers = torch.full_like(scores, -1.0)
            answers.diagonal(rank() * len(image)).fill_(1.0)
            return {"sigmoid": -F.logsigmoid(answers * scores).sum() / len(image)}
