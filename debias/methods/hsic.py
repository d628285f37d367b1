"""HSIC: remove the subspace on which a Gaussian kernel sees the group, however it depends on it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from debias.eraser import Eraser
from debias.methods.base import RowFitter
from debias.methods.leace import leace
from debias.rows import DEFAULT_LIMIT, Split

BATCH = 400  # rows in each half of a batch of the search
RATE = 0.05  # step size of the search, relative to unit directions
RIDGE = 1e-3
ROWS_PER_COMPONENT = 20  # fewer, and a search finds structure in noise that fresh rows do not have
TESTED = 2000  # most held-out rows in a kernel matrix
PERMUTATIONS = 200
LEVEL = 0.05


class HsicFitter(RowFitter):
    """Needs labels; LEACE, then the subspace a kernel attacker uses: linear and RBF attackers find less.

    LEACE equalises the group means of the fitted rows; the directions Q of the whitened rows that are
    removed next are those from which a Gaussian kernel ridge regression tells the groups apart best on rows
    it was not fitted on. On fitted rows the squares it explains are HSIC (Gretton
    et al. 2005) with a delta kernel on the group and the other normalised by its ridge, K (K + nεI)⁻¹: the
    criterion of kernel dimension reduction (Fukumizu, Bach & Jordan 2004). Groups count alike, however rare.

    If z depends on x through Qᵀ W x alone and x is Gaussian, nothing of z is left: x ↦ x − W⁺QQᵀW (x − μ)
    makes what stays uncorrelated, so independent, of what goes. Elsewhere something stays, and the search is
    repeated on what is left, until HSIC between the directions found and the group cannot be told from its
    value for permuted groups on held-out rows, or ``rank`` directions are gone. A search can miss what
    only many directions together tell (parities), and looks at the leading principal components only,
    one for every twenty rows.

    Args:
        dim: width d of the vectors.
        groups: number of groups.
        rank: most directions removed beyond those of LEACE; also the width of each search.
        steps: gradient steps of each search.
        seed: of the sample, the batches and the permutations.
        strength: 0, the identity, to 1, the full edit.
        limit: most rows kept, see ``LabelledRows``.

    Raises:
        ValueError: ``rank`` or ``steps`` below 1, or what ``LabelledRows`` refuses.
    """

    def __init__(
        self,
        dim: int,
        groups: int,
        *,
        rank: int = 8,
        steps: int = 300,
        seed: int = 0,
        strength: float = 1.0,
        limit: int = DEFAULT_LIMIT,
    ) -> None:
        if rank < 1 or steps < 1:
            raise ValueError(f"rank and steps must be at least 1, got {rank} and {steps}")
        super().__init__(dim, groups, limit=limit, seed=seed)
        self.rank, self.steps, self.seed, self.strength = rank, steps, seed, strength

    @property
    def eraser(self) -> Eraser:
        """The edit on the rows so far; LEACE on all of them, the searches on the sample.

        ``details`` holds the rows ``labelled`` per group, the ``rank`` removed beyond LEACE, the options, and
        HSIC of held-out rows as they came and as they leave: ``hsic_before``, ``hsic_after``, and
        ``hsic_permuted``, which the latter exceeds for one in twenty permutations of the groups. In many
        dimensions whole rows are all about equally far apart and HSIC of them sees little; ``searches`` tells
        more: per search, the ``directions`` removed and HSIC of held-out rows along those it tried.

        Raises:
            ValueError: what ``LabelledRows.split`` refuses, or ``strength`` is not from 0 to 1.
        """
        split = self.rows.split()
        generator = torch.Generator().manual_seed(self.seed)
        edit, searches = leace(self.rows.moments), list[_Found]()
        while (removed := sum(search.removal.rank for search in searches)) < self.rank:
            search = self._directions(edit, split, generator, most=self.rank - removed)
            searches.append(search)
            if not search.removal.rank:
                break
            edit = edit.then(search.removal)
        before, _ = hsic_test(split.held_x, split.held_z, generator)
        after, permuted = hsic_test(edit(split.held_x), split.held_z, generator)
        details = {
            "labelled": self.labelled,
            "rank": removed,
            "hsic_before": before,
            "hsic_after": after,
            "hsic_permuted": permuted,
            "searches": [search.describe() for search in searches],
            "options": {"rank": self.rank, "steps": self.steps, "seed": self.seed, "limit": self.rows.limit},
        }
        return _eraser(edit.mean, edit.left, edit.right, details).at_strength(self.strength)

    def _directions(self, edit: Eraser, split: Split, generator: torch.Generator, *, most: int) -> _Found:
        """What one search finds in the edited rows; a removal of rank 0 where it finds nothing."""
        matrix = torch.eye(edit.dim, dtype=torch.float64) - edit.left @ edit.right.mT
        components = max(1, len(split.x) // ROWS_PER_COMPONENT)
        basis, scale = _principal(matrix @ self.rows.moments.covariance @ matrix.mT, components)
        to_white = basis / scale
        white, held = ((edit(x) - edit.mean) @ to_white for x in (split.x, split.held_x))
        start = _most_different(white, split.z, self.rank)
        wide = _search(white, split.z, start, self.steps, generator)
        directions = _cut(wide, split._replace(x=white, held_x=held), generator)
        value, permuted = hsic_test(held @ directions, split.held_z, generator)
        directions = directions[:, : most if value > permuted else 0]
        removal = _eraser(edit.mean, basis @ (scale[:, None] * directions), to_white @ directions, {})
        return _Found(removal, value, permuted)


class _Found(NamedTuple):
    """One search: what it removes and HSIC of held-out rows along the directions it tried."""

    removal: Eraser
    hsic: float
    permuted: float

    def describe(self) -> dict[str, Any]:
        return {"directions": self.removal.rank, "hsic": self.hsic, "hsic_permuted": self.permuted}


def hsic_test(rows: Tensor, z: Tensor, generator: torch.Generator) -> tuple[float, float]:
    """HSIC of ``rows`` ``(n, k)`` with groups ``z`` ``(n,)``, and what 5% of permuted groups exceed.

    Σ_g ‖μ_g − μ‖² / G² in the feature space of a Gaussian kernel of median bandwidth, with μ_g the mean of
    group g and μ the mean of the G of them: HSIC (Gretton et al. 2005) as if groups were equally frequent.
    Products of a row with itself are left out, so it is 0 on average, and may be below, for independent rows.
    """
    share = TESTED // (int(z.max()) + 1)
    tested = torch.cat([(z == group).nonzero()[:share, 0] for group in z.unique()])
    rows, z = rows[tested], z[tested]
    squares = _squares(rows, rows)
    kernel = torch.exp(-squares / squares.median().clamp_min(torch.finfo(torch.float64).tiny))
    shuffles = [torch.randperm(len(z), generator=generator) for _ in range(PERMUTATIONS)]
    values = _hsic(kernel, torch.stack([z, *(z[shuffle] for shuffle in shuffles)]))
    return float(values[0]), float(values[1:].quantile(1 - LEVEL))


def _hsic(kernel: Tensor, z: Tensor) -> Tensor:
    """One value for each labelling in ``z`` ``(labellings, n)``, all with the same counts."""
    member = torch.nn.functional.one_hot(z).double()
    counts, groups = member[0].sum(0), member.shape[2]
    sums = member.mT @ (kernel @ member)
    same = sums.diagonal(dim1=1, dim2=2)
    within = ((same - counts) / (counts * (counts - 1))).sum(1)
    between = (sums / (counts[:, None] * counts)).sum((1, 2)) - (same / counts**2).sum(1)
    return (within / groups - (between + within) / groups**2) / groups


def _principal(covariance: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """At most ``most`` leading eigenvectors ``(d, m)`` and the deviations ``(m,)`` along them.

    Those are left out whose variance is below the rounding of the sample's float32.
    """
    values, vectors = torch.linalg.eigh(covariance)
    support = int((values > values[-1] * len(values) * torch.finfo(torch.float32).eps ** 2).sum())
    leading = slice(len(values) - min(support, most), None)
    return vectors[:, leading], values[leading].sqrt()


def _most_different(white: Tensor, z: Tensor, rank: int) -> Tensor:
    """Directions ``(m, rank)`` along which group covariances differ most from the pooled I, in mean square.

    Sliced average variance estimation (Cook & Weisberg 1991). Exact for what second moments tell, an XOR
    of two directions among it.
    """
    identity = torch.eye(white.shape[1], dtype=torch.float64)
    differences = [white[z == group].mT.cov() - identity for group in z.unique()]
    _, vectors = torch.linalg.eigh(sum((each @ each for each in differences), torch.zeros_like(identity)))
    return vectors[:, -rank:]


def _search(white: Tensor, z: Tensor, start: Tensor, steps: int, generator: torch.Generator) -> Tensor:
    """Orthonormal directions ``(m, rank)`` from which a kernel ridge regression predicts the group best.

    Adam on a free matrix whose QR factor is the directions; each batch is two halves with as many rows of
    every group, one to fit the regression, one to predict.
    """
    free = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([free], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        fitted, asked = _halves(z, generator)
        directions = torch.linalg.qr(free).Q
        loss = _unexplained(white[fitted] @ directions, z[fitted], white[asked] @ directions, z[asked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return torch.linalg.qr(free.detach()).Q


def _halves(z: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Indices of two disjoint sets, each with equally many rows of every group; rare rows come repeatedly."""
    groups = int(z.max()) + 1
    size = min(BATCH, len(z) // 2) // groups
    halves: tuple[list[Tensor], list[Tensor]] = ([], [])
    for group in range(groups):
        members = (z == group).nonzero()[:, 0]
        shuffled = members[torch.randperm(len(members), generator=generator)]
        for half, part in zip(halves, shuffled.tensor_split(2), strict=True):
            half.append(part[torch.arange(size) % len(part)])
    return torch.cat(halves[0]), torch.cat(halves[1])


def _unexplained(x: Tensor, z: Tensor, asked: Tensor, asked_z: Tensor) -> Tensor:
    """Share of the one-hot group's variance that a ridge regression fitted on x leaves on ``asked``."""
    predicted = _kernel(asked, x) @ _coefficients(x, z)
    target = _centred(asked_z)
    return (target - predicted).square().sum() / target.square().sum()


def _coefficients(x: Tensor, z: Tensor) -> Tensor:
    ridge = RIDGE * len(x) * torch.eye(len(x), dtype=x.dtype)
    return torch.linalg.solve(
        _kernel(x, x) + ridge, _centred(z)
    )  # a Cholesky factor costs 5 times as much to derive


def _cut(wide: Tensor, split: Split, generator: torch.Generator) -> Tensor:
    """The first of the directions, most used first, that predict held-out rows best; at least one.

    Use is the eigenvalue of the predictor's mean outer gradient. A direction of no use makes distances
    noisier and so the prediction worse.
    """
    chosen, _ = _halves(split.z, generator)
    asked, _ = _halves(split.held_z, generator)
    x, z, target = split.x[chosen], split.z[chosen], split.held_z[asked]
    low = (x @ wide).requires_grad_()
    answers = _kernel(low, (x @ wide)) @ _coefficients(x @ wide, z)
    outer = torch.zeros(wide.shape[1], wide.shape[1], dtype=torch.float64)
    for column in answers.unbind(1):
        (gradient,) = torch.autograd.grad(column.sum(), low, retain_graph=True)
        outer += gradient.mT @ gradient
    ordered = wide @ torch.linalg.eigh(outer).eigenvectors.flip(1)
    losses = []
    for rank in range(1, wide.shape[1] + 1):
        first = ordered[:, :rank]
        losses.append(float(_unexplained(x @ first, z, split.held_x[asked] @ first, target)))
    return ordered[:, : 1 + int(np.argmin(losses))]


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    """Gaussian, of whitened rows: squared distances are about twice the width."""
    return torch.exp(-_squares(a, b) / a.shape[1])


def _squares(a: Tensor, b: Tensor) -> Tensor:
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.mT).clamp_min(0)


def _centred(z: Tensor) -> Tensor:
    """One-hot ``(n, groups)``, centred where groups are equally frequent."""
    member = torch.nn.functional.one_hot(z).double()
    return member - 1 / member.shape[1]


def _eraser(mean: Tensor, left: Tensor, right: Tensor, details: dict[str, Any]) -> Eraser:
    return Eraser(mean, left, right, method="hsic", changes_images=True, details=details)
