"""What suppresses an attribute while a model trains: its captions' groups, and terms beside the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from debias.attribute_file import MIXED
from debias.attributes import ProtectedAttribute

NO_GROUP, SEVERAL = -1, -2


def group_number(attribute: ProtectedAttribute) -> Callable[[Sequence[str]], int]:
    """Numbers all captions of one image: the index of the group they name, -1 for none, -2 for several.

    Equal numbers are alike, so negatives can be matched by them; terms leave negative numbers out.
    """
    numbers = {group: index for index, group in enumerate(attribute.groups)} | {MIXED: SEVERAL}

    def number(captions: Sequence[str]) -> int:
        return numbers.get(attribute.label(captions), NO_GROUP)

    return number


class HSICTerm:
    """Dependence of image embeddings on the group: weight · HSIC, minimised beside the contrastive loss.

    The biased estimator tr(K H L H) / n² of Gretton et al. 2005 ("Measuring statistical dependence with
    Hilbert-Schmidt norms", eq. 9) over the n rows of a batch whose captions name one group. K is a Gaussian
    kernel of embeddings as wide as the batch's median distance; L is n / n_g for two rows of one group g and
    0 else, so that a rare group counts as much as a common one. Zero on a batch with fewer than two groups.

    It needs no adversary and sees nonlinear dependence, but only as much as a batch shows.
    """

    def __init__(self, weight: float = 1.0) -> None:
        if not weight > 0:
            raise ValueError(f"weight is {weight}, expected above 0")
        self.weight = weight

    def __call__(self, image: Tensor, group: Tensor) -> dict[str, Tensor]:
        """``{"hsic": …}`` of unit-norm embeddings ``(n, d)`` and groups ``(n,)``, negative for unlabelled."""
        known = group >= 0
        rows, groups = image[known].float(), group[known]
        if len(groups.unique()) < 2:
            return {"hsic": image.sum() * 0.0}
        distance = 2 - 2 * rows @ rows.mT
        apart = distance.detach()[~torch.eye(len(rows), dtype=torch.bool, device=rows.device)]
        kernel = torch.exp(-distance / apart.median().clamp(min=1e-6))
        member = torch.nn.functional.one_hot(groups).to(kernel)
        member = member[:, member.any(0)]
        member = member / member.sum(0).sqrt()
        centred = member - member.mean(0)
        return {"hsic": self.weight * (centred * (kernel @ centred)).sum() / len(rows)}


TERMS: dict[str, type] = {"hsic": HSICTerm}
