"""The projection head of CLIP-Lite."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ProjectionHead(nn.Module):
    """Two linear layers with a ReLU between, plus a linear shortcut, then layer normalisation.

    ``(n, in_dim)`` → ``(n, out_dim)``. The shortcut starts as U(−0.01, 0.01) with ones on its diagonal, so
    that the head begins close to the identity (CLIP-Lite §3 and its published code).
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(in_dim, out_dim, bias=False),
            nn.BatchNorm1d(out_dim),
            nn.ReLU(inplace=True),
            nn.Linear(out_dim, out_dim),
        )
        self.shortcut = nn.Linear(in_dim, out_dim)
        self.norm = nn.LayerNorm(out_dim)
        with torch.no_grad():
            self.shortcut.weight.uniform_(-0.01, 0.01).fill_diagonal_(1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Project and normalise each row."""
        return self.norm(self.mlp(x) + self.shortcut(x))
