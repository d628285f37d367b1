"""LEACE on image vectors with the group read from the captions: no image is ever labelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from debias.attributes import MIXED, NONE, ProtectedAttribute
from debias.eraser import Eraser
from debias.methods.leace import expected_residual, leace
from debias.moments import StreamingMoments


class CaptionLeaceFitter:
    """Needs captions; LEACE with the group that they name: on fitted rows linear attackers are at chance.

    That is the group named: fresh rows, labels that captions get wrong and
    nonlinear attackers keep more. No image is ever labelled; images whose captions name no group or several
    are dropped.

    Args:
        attribute: whose lexicon reads the captions.
        dim: width d of the vectors.
        strength: 0, the identity, to 1, the full edit.
    """

    def __init__(self, attribute: ProtectedAttribute, dim: int, *, strength: float = 1.0) -> None:
        self.attribute = attribute
        self.moments = StreamingMoments(dim, len(attribute.groups))
        self.dropped = Counter({MIXED: 0, NONE: 0})
        self.strength = strength

    def update(self, x: Tensor | np.ndarray, captions: Sequence[Sequence[str]]) -> Self:
        """Add image vectors ``(n, d)``, each with all the captions of its image.

        Raises:
            ValueError: not one entry of ``captions`` per row, or what ``StreamingMoments.update`` refuses.
            TypeError: an entry of ``captions`` is a bare string.
        """
        if len(captions) != len(x):
            raise ValueError(f"captions of {len(captions)} images for {len(x)} rows of x")
        labels = [self.attribute.label(texts) for texts in captions]
        index = {group: place for place, group in enumerate(self.attribute.groups)}
        self.moments.update(x, torch.tensor([index.get(label, -1) for label in labels], dtype=torch.long))
        self.dropped.update(label for label in labels if label not in index)
        return self

    def merge(self, other: CaptionLeaceFitter) -> Self:
        """Add the rows that another fitter has seen.

        Raises:
            ValueError: ``other`` reads another attribute, another version of it, or another width.
        """
        if other.attribute.digest != self.attribute.digest:
            raise ValueError(
                f"cannot merge {other.attribute.name!r} version {other.attribute.version} "
                f"into {self.attribute.name!r} version {self.attribute.version}"
            )
        self.moments.merge(other.moments)
        self.dropped.update(other.dropped)
        return self

    @property
    def eraser(self) -> Eraser:
        """LEACE on the labelled rows so far.

        ``details`` holds the attribute's description, the rows ``labelled`` per group and ``dropped`` per
        reason, and ``expected_residual`` on fresh images, which holds if rows are independent and is null
        where it cannot be estimated.

        Raises:
            ValueError: captions of fewer than two groups so far, or ``strength`` is not from 0 to 1.
        """
        counts = [int(count) for count in self.moments.counts]
        details = {
            "attribute": self.attribute.describe(),
            "labelled": dict(zip(self.attribute.groups, counts, strict=True)),
            "dropped": dict(self.dropped),
            "expected_residual_if_rows_independent": expected_residual(self.moments),
        }
        return leace(self.moments, method="caption_leace", details=details).at_strength(self.strength)
