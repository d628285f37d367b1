"""The Jensen–Shannon bound on mutual information that CLIP-Lite maximises."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


class JSDLoss:
    """Negative of Î_JSD = E_joint[−softplus(−T)] − E_marginal[softplus(T)] (CLIP-Lite, eq. 3).

    The score is T(x, y) = s·⟨x, y⟩ on unit-norm embeddings. With one negative per positive the cost is
    O(n·d) and nothing is gathered across processes.
    """

    def __call__(self, image: Tensor, text: Tensor, negatives: Tensor, scale: Tensor) -> dict[str, Tensor]:
        """Two terms whose sum is minimised.

        Args:
            image, text: unit-norm embeddings of pairs, ``(n, d)``.
            negatives: unit-norm embeddings of texts that do not belong to the images, ``(n, d)``.
            scale: positive scalar s.

        Returns:
            ``joint``: mean softplus(−T) over pairs; ``marginal``: mean softplus(T) over negatives.
        """
        image, text, negatives = image.float(), text.float(), negatives.float()
        positive = scale * (image * text).sum(dim=-1)
        negative = scale * (image * negatives).sum(dim=-1)
        return {"joint": F.softplus(-positive).mean(), "marginal": F.softplus(negative).mean()}
