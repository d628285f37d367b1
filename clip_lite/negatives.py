"""Who is whose negative."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from clip_lite.errors import UsageError

WINDOW = 64  # texts that are looked at together, where the nearest ones are false negatives
PICKS = 2048  # rows of a pool that are copied at a time


class View(NamedTuple):
    """What a chooser sees of a batch; no gradients, and keys stay on the CPU so that no device is waited for.

    Attributes:
        image: unit-norm embeddings of the pictures, ``(n, d)``.
        text: unit-norm embeddings of their captions, ``(n, d)``.
        features: what the text tower gives for the captions, ``(n, f)``.
        caption: keys of the captions, ``(n,)``.
        own: keys of all captions of each picture, ``(n, c)``, padded with -1; none is a negative of it.
        pool_caption: keys of the texts that negatives are chosen from, ``(p,)``: the batch's own captions, or
            the extra ones for a chooser with ``uses_cache``.
        group, pool_group: numbers of the groups that pictures and texts belong to, ``(n,)`` and ``(p,)``;
            where given, a negative is of its picture's own group, so that the group never helps to tell pairs
            apart.
    """

    image: Tensor
    text: Tensor
    features: Tensor
    caption: Tensor
    own: Tensor
    pool_caption: Tensor
    group: Tensor | None = None
    pool_group: Tensor | None = None

    def valid(self, rows: Tensor, texts: Tensor) -> Tensor:
        """Whether ``texts (n or 1, m)`` of the pool may be negatives of pictures ``rows (n,)``."""
        allowed = ~(self.pool_caption[texts][:, :, None] == self.own[rows][:, None, :]).any(dim=2)
        if self.group is None or self.pool_group is None:
            return allowed
        return allowed & (self.pool_group[texts] == self.group[rows][:, None])


class Picked(NamedTuple):
    """Negatives that are chosen but not copied: ``rows (n, k)`` of ``pool (p, d)``; -1 is a zero vector."""

    pool: Tensor
    rows: Tensor


class Negatives(Protocol):
    """Chooses k negatives for each picture of a batch.

    Attributes:
        k: how many.
        uses_cache: whether the pool is k captions of the whole corpus and not the batch's own.
    """

    k: int
    uses_cache: bool

    def __call__(self, view: View) -> Tensor:
        """Rows of the pool, ``(n, k)`` int64 on the embeddings' device; -1 where no valid one is left."""
        ...


class Rolled:
    """The next k texts of the batch: picture i gets texts i−1, i−2, …, without the false negatives."""

    uses_cache = False

    def __init__(self, k: int) -> None:
        self.k = k

    def __call__(self, view: View) -> Tensor:
        """See ``Negatives``."""
        return nearest(view, self.k).to(view.image.device, non_blocking=True)


class Shifted(Rolled):
    """The paper's one negative: the next text of the batch, or the next valid one."""

    def __init__(self) -> None:
        super().__init__(1)


class Hard:
    """Among the next ``pool`` valid texts the k hardest.

    Args:
        by: "score" takes the texts with the highest score with the picture; "text" those whose text-tower
            features have the highest cosine with the picture's own caption, whatever the heads have learned.
        pool: how many texts of the batch are ranked, at least k.
    """

    uses_cache = False

    def __init__(self, k: int, by: Literal["score", "text"] = "score", pool: int = 64) -> None:
        self.k, self.by, self.pool = k, by, max(k, pool)

    def __call__(self, view: View) -> Tensor:
        """See ``Negatives``."""
        if self.by == "score":
            own, texts = view.image, view.text
        else:
            own = texts = F.normalize(view.features.float(), dim=-1)
        candidates = nearest(view, self.pool).to(own.device, non_blocking=True)
        scores = scores_of(own, Picked(texts, candidates)).masked_fill_(candidates < 0, -torch.inf)
        return candidates.gather(1, scores.topk(self.k, dim=1).indices)


class Cached:
    """The batch's k captions from the whole corpus for every picture, without its false negatives."""

    uses_cache = True

    def __init__(self, k: int) -> None:
        self.k = k

    def __call__(self, view: View) -> Tensor:
        """See ``Negatives``."""
        texts = torch.arange(len(view.pool_caption))[None]
        valid = view.valid(torch.arange(len(view.own)), texts)
        return torch.where(valid, texts, -1).to(view.image.device, non_blocking=True)


def load_negatives(name: str, *, k: int, by: Literal["score", "text"] = "score") -> Negatives:
    """The chooser of that name with k negatives for each picture; ``by`` is how "hard" ranks.

    Raises:
        UsageError: no such chooser.
    """
    choosers: dict[str, Negatives] = {
        "shifted": Shifted(),
        "rolled": Rolled(k),
        "hard": Hard(k, by),
        "cached": Cached(k),
    }
    if name not in choosers:
        raise UsageError(f"objective.negatives is {name!r}, expected one of {', '.join(choosers)}")
    return choosers[name]


def nearest(view: View, k: int) -> Tensor:
    """For each picture i the first k of texts i−1, i−2, … of the batch that may be its negatives.

    Returns ``(n, k)`` int64 on the CPU, -1 where fewer are left. Looks at k texts of every picture, and at
    more only for the pictures that had false negatives among these.
    """
    n = len(view.own)
    chosen = torch.full((n, k), -1)
    found = torch.zeros(n, dtype=torch.int64)
    rows, first, last = torch.arange(n), 1, 1 + k
    while len(rows) and first < n:
        candidates = (rows[:, None] - torch.arange(first, min(last, n))) % n
        valid = view.valid(rows, candidates)
        place = found[rows, None] + valid.cumsum(1) - 1
        row, column = (valid & (place < k)).nonzero(as_tuple=True)
        chosen[rows[row], place[row, column]] = candidates[row, column]
        found[rows] += valid.sum(1)
        rows = rows[found[rows] < k]
        first, last = last, last + WINDOW
    return chosen


def take(pool: Tensor, rows: Tensor) -> Tensor:
    """Rows ``(n, k)`` of embeddings ``(p, d)`` as ``(n, k, d)``, zero vectors at -1; differentiable."""
    return rows_of(pool, rows.clamp(min=0)).masked_fill_((rows < 0)[..., None], 0.0)


def rows_of(pool: Tensor, rows: Tensor) -> Tensor:
    """``take`` where no row is -1."""
    return pool.index_select(0, rows.flatten()).view(*rows.shape, -1)


def scores_of(x: Tensor, picked: Picked) -> Tensor:
    """⟨x[i], pool[rows[i, j]]⟩ for x ``(n, d)``, as ``(n, k)`` with 0 at -1; without gradient.

    Copies about ``PICKS`` rows of the pool at a time.
    """
    rows = picked.rows.clamp(min=0)
    scores = x.new_empty(rows.shape)
    for part in parts(rows):
        torch.bmm(rows_of(picked.pool, rows[part]), x[part, :, None], out=scores[part, :, None])
    return scores.masked_fill_(picked.rows < 0, 0.0)


def parts(rows: Tensor) -> Iterator[slice]:
    """Slices of ``rows (n, k)`` that pick about ``PICKS`` rows of the pool each."""
    size = max(1, PICKS // rows.shape[1])
    return (slice(first, first + size) for first in range(0, len(rows), size))
