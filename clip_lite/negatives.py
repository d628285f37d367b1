"""Who is whose negative."""

from __future__ import annotations

from torch import Tensor


def shifted(text: Tensor) -> Tensor:
    """The paper's single negative: every image gets the next text of its batch, ``(n, d)`` → ``(n, d)``.

    Rolling the projected texts gives the scores and gradients of projecting the rolled texts again.
    """
    return text.roll(1, dims=0)
