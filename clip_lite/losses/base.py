"""What every contrastive loss is, and what they share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class ContrastiveLoss(Protocol):
    """Tensors in, named scalars out; their sum is minimised.

    A loss is any callable of this signature. It may also have the attributes

    - ``uses_batch`` (default False): it contrasts with every other pair of the batch, over all processes,
      and gets None for negatives;
    - ``takes_picked`` (default False): it gets negatives as ``negatives.Picked``, which saves their copy;
    - ``initial_scale`` (default 1/0.07): where the learned scale begins;

    and it may be an ``nn.Module``, whose weights are then trained too. On several processes every one gets
    its own rows, and the mean over processes of their losses must be the loss of the whole batch.
    """

    def __call__(self, image: Tensor, text: Tensor, negatives: Any, scale: Tensor, /) -> dict[str, Tensor]:
        """Scalar terms by name.

        Args:
            image, text: unit-norm embeddings of pairs, ``(n, d)``.
            negatives: for each image k texts that do not belong to it, ``(n, k, d)``: unit norm, or zero
                where there was none. Or ``Picked``, or None, see above.
            scale: positive scalar; a score is scale·⟨image, text⟩.
        """
        ...


@contextmanager
def full_precision(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The tensors in float32 at least (float64 stays), and autocast off."""
    with torch.autocast(tensors[0].device.type, enabled=False):
        yield tuple(x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors)
