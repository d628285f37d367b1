"""The Jensen–Shannon bound on mutual information that CLIP-Lite maximises."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from clip_lite.losses.base import full_precision
from clip_lite.negatives import Picked, parts, rows_of, scores_of


class JSDLoss:
    """Negative of Î_JSD = E_joint[−softplus(−T)] − E_marginal[softplus(T)] (CLIP-Lite, eq. 3).

    The score is T(x, y) = s·⟨x, y⟩ on unit-norm embeddings. Time is O(n·k·d) and nothing is gathered across
    processes; with ``Picked`` negatives no memory grows with n·k·d.

    Args:
        reduction: what several negatives of one image count as: their mean or their sum. The paper has one.
    """

    uses_batch = False
    takes_picked = True
    initial_scale = 1 / 0.07

    def __init__(self, reduction: Literal["mean", "sum"] = "mean") -> None:
        self.reduction = reduction

    def __call__(
        self, image: Tensor, text: Tensor, negatives: Tensor | Picked, scale: Tensor
    ) -> dict[str, Tensor]:
        """Two terms whose sum is minimised.

        Args:
            image, text: unit-norm embeddings of pairs, ``(n, d)``.
            negatives: k texts for each image that do not belong to it: ``(n, k, d)``, or rows of a pool.
            scale: positive scalar s.

        Returns:
            ``joint``: mean softplus(−T) over pairs; ``marginal``: mean over images of the mean, or sum, of
            softplus(T) over their negatives.
        """
        pool, rows = negatives if isinstance(negatives, Picked) else _all_rows(negatives)
        with full_precision(image, text, pool, scale) as (image, text, pool, scale):
            positive, negative = _Scores.apply(image, text, pool, rows)
            marginal = F.softplus(scale * negative)
            per_image = marginal.mean(dim=1) if self.reduction == "mean" else marginal.sum(dim=1)
            return {"joint": F.softplus(-scale * positive).mean(), "marginal": per_image.mean()}


def _all_rows(negatives: Tensor) -> Picked:
    n, k, _ = negatives.shape
    return Picked(negatives.flatten(0, 1), torch.arange(n * k, device=negatives.device).view(n, k))


class _Scores(torch.autograd.Function):
    """⟨image, text⟩ of pairs ``(n,)`` and ⟨image, pool[rows]⟩ ``(n, k)``, without a copy of what is picked.

    Plain operations would keep pool[rows] for the backward pass and form its gradient, both ``(n, k, d)``.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, text: Tensor, pool: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(image, text, pool, rows)
        ctx.own_pool = pool is text
        return torch.einsum("nd,nd->n", image, text), scores_of(image, Picked(pool, rows))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, positive: Tensor, negative: Tensor) -> tuple[Tensor | None, ...]:
        image, text, pool, rows = ctx.saved_tensors
        to_image, to_text = text * positive[:, None], image * positive[:, None]
        to_pool = to_text if ctx.own_pool else torch.zeros_like(pool)
        weight = negative.masked_fill(rows < 0, 0.0)[..., None]
        rows = rows.clamp(min=0)
        for part in parts(rows):
            to_image[part].unsqueeze(2).baddbmm_(rows_of(pool, rows[part]).mT, weight[part])
            to_pool.index_add_(0, rows[part].flatten(), (weight[part] * image[part, None]).flatten(0, 1))
        return to_image, to_text, None if ctx.own_pool else to_pool, None
