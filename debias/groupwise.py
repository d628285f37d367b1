"""``GroupwiseEraser``: one affine edit per group, for methods that need to know the group of every row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from debias.eraser import Eraser, checked_strength, in_float64


class GroupwiseEraser(Eraser):
    """The edit x ↦ x + offset_z − M_z (x − mean_z), where z is the group of the row.

    It can only be used where the group is known: an upper bound to measure others against, or training data.

    Args:
        means: ``(groups, d)``; ``matrices``: M ``(groups, d, d)``; ``offsets``: ``(groups, d)``.
        method: what fitted it, e.g. ``quadratic``.
        changes_images: whether it edits image vectors.
        details: JSON-able provenance.

    Raises:
        ValueError: shapes that do not fit, or numbers that are not finite.
        TypeError: ``details`` that JSON cannot carry.
    """

    kind: ClassVar[str] = "groupwise"
    spec_types: ClassVar[Mapping[str, type]] = {**Eraser.spec_types, "groups": int}
    means: Tensor
    matrices: Tensor
    offsets: Tensor

    def __init__(
        self,
        means: Tensor,
        matrices: Tensor,
        offsets: Tensor,
        *,
        method: str,
        changes_images: bool,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        nn.Module.__init__(self)
        if (
            means.ndim != 2
            or offsets.shape != means.shape
            or matrices.shape != (*means.shape, means.shape[-1])
        ):
            shapes = [tuple(tensor.shape) for tensor in (means, matrices, offsets)]
            raise ValueError(
                f"means, matrices, offsets have shapes {shapes}, expected (g, d), (g, d, d), (g, d)"
            )
        self._keep({"means": means, "matrices": matrices, "offsets": offsets})
        self._describe(method=method, changes_images=changes_images, details=details)

    @property
    def dim(self) -> int:
        """Width d of the vectors."""
        return self.means.shape[1]

    @property
    def groups(self) -> int:
        """Number of groups."""
        return self.means.shape[0]

    @property
    def rank(self) -> int:
        """The most directions that it changes in any group."""
        return int(torch.linalg.matrix_rank(self.matrices).max())

    @property
    def invertible(self) -> bool:
        """False: without the group, nobody knows which edit to undo."""
        return False

    def forward(self, x: Tensor | np.ndarray, z: Tensor | np.ndarray | None = None) -> Tensor | np.ndarray:
        """Edit rows ``(n, d)`` of groups ``z`` ``(n,)``, in float64; half precision comes back as float32.

        Raises:
            ValueError: no ``z``, one of another length, or with anything but group indices below ``groups``.
        """
        if z is None:
            raise ValueError(f"a {self.method} eraser edits each group in its own way: call it with (x, z)")
        index = torch.as_tensor(np.array(z) if isinstance(z, np.ndarray) else z)
        if x.ndim != 2 or index.shape != (len(x),):
            raise ValueError(
                f"x and z have shapes {tuple(x.shape)} and {tuple(index.shape)}, expected (n, d), (n,)"
            )
        if (
            index.is_floating_point()
            or index.dtype == torch.bool
            or not ((index >= 0) & (index < self.groups)).all()
        ):
            raise ValueError(f"z must be the group of every row, integers from 0 to {self.groups - 1}")
        return in_float64(lambda rows: self._edit_groups(rows, index.to(rows.device)), x, self.dim)

    def _edit_groups(self, x: Tensor, z: Tensor) -> Tensor:
        means, matrices, offsets = (buffer.to(x.device) for buffer in self.buffers())
        edited = x + offsets[z]
        for group in range(self.groups):
            rows = z == group
            edited[rows] -= (x[rows] - means[group]) @ matrices[group].mT
        return edited

    def at_strength(self, strength: float) -> GroupwiseEraser:
        """x + strength · (edit(x, z) − x): the identity at 0, this edit at 1.

        Raises:
            ValueError: ``strength`` is not between 0 and 1.
        """
        scale = checked_strength(strength)
        return GroupwiseEraser(
            self.means,
            scale * self.matrices,
            scale * self.offsets,
            method=self.method,
            changes_images=self.changes_images,
            details=self.details | {"strength": scale * self.details.get("strength", 1.0)},
        )

    @staticmethod
    def _shapes(spec: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        groups, dim = spec["groups"], spec["dim"]
        return {"means": (groups, dim), "matrices": (groups, dim, dim), "offsets": (groups, dim)}
