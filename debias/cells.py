"""Several attributes at once: the cells of their crossing, and designs that say which contrasts to remove."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from debias.moments import group_index


def joint_cells(z: Tensor | np.ndarray, groups: Sequence[int]) -> Tensor:
    """Index ``(n,)`` of every row's combination of groups, the last attribute varying fastest.

    Args:
        z: ``(n, attributes)`` group indices, negative where one is unknown; then the cell is −1.
        groups: number of groups of each attribute.

    Raises:
        ValueError: not one column per attribute, not integers, or an index too large.
    """
    if z.ndim != 2 or z.shape[1] != len(groups):
        raise ValueError(f"z has shape {tuple(z.shape)}, expected (n, {len(groups)})")
    columns = [group_index(z[:, place], rows=len(z), groups=size) for place, size in enumerate(groups)]
    cells = torch.zeros(len(z), dtype=torch.long)
    for column, size in zip(columns, groups, strict=True):
        cells = cells * size + column
    return torch.where(torch.stack(columns).amin(0) < 0, -1, cells)


def marginals(groups: Sequence[int]) -> Tensor:
    """Design ``(cells, sum of groups)`` for ``leace``: the one-hot groups of each attribute side by side.

    With it the means of the groups of every attribute become equal, one attribute at a time; without a design
    the means of all cells do, which takes more directions.
    """
    levels = torch.from_numpy(np.indices(tuple(groups)).reshape(len(groups), -1))
    one_hots = [torch.nn.functional.one_hot(level, size) for level, size in zip(levels, groups, strict=True)]
    return torch.cat(one_hots, dim=1).double()
