"""Where the first relevant item of each query stands, between images and captions, in both directions.

Both directions come from one pass over the scores, a block of images at a time: the matrix of all scores is
never held, and no product is made twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.inference.bootstrap import BLOCK_CELLS
from evaluation.vectors import unit_rows

TIE = 1e-12


@dataclass(frozen=True)
class QueryRanks:
    """The queries of one direction.

    Attributes:
        name: ``i2t`` or ``t2i``.
        rank: of each query's best relevant item, ``(q,)``, from 1.
        relevant: how many items are relevant to each query, ``(q,)``.
        items: how many items are ranked.
        image: position of the image whose cluster the query belongs to, ``(q,)``.
    """

    name: str
    rank: np.ndarray
    relevant: np.ndarray
    items: int
    image: np.ndarray


@dataclass(frozen=True)
class Ranks:
    """Ranks of one system's images among captions (``i2t``) and captions among images (``t2i``)."""

    i2t: QueryRanks
    t2i: QueryRanks

    @property
    def directions(self) -> tuple[QueryRanks, QueryRanks]:
        """Both, in the order of the rows."""
        return self.i2t, self.t2i


def retrieval_ranks(image: np.ndarray, text: np.ndarray, relevant: Sequence[np.ndarray]) -> Ranks:
    """Rank of the best relevant item of every image and of every caption, by cosine.

    An item that is not relevant wins every tie, so an embedding that puts everything in one place earns
    nothing; captions that are word for word the same therefore belong in ``relevant`` of every image they
    describe. A caption belongs to the cluster of its first image.

    Args:
        image: embeddings ``(n, d)``, of any length; zero vectors earn nothing.
        text: embeddings ``(m, d)``.
        relevant: for each image the indices of its captions in ``text``; a caption may be of several images.

    Raises:
        ValueError: an image without caption, a caption without image, an index out of range, shapes that do
            not fit, or embeddings that are not finite.
    """
    owner, caption = _pairs(relevant, len(image), len(text))
    of_image, of_text = _items_ahead(unit_rows(image), unit_rows(text), owner, caption)
    first_owner = np.full(len(text), len(image))
    np.minimum.at(first_owner, caption, owner)
    return Ranks(
        QueryRanks("i2t", 1 + of_image, np.bincount(owner), len(text), np.arange(len(image))),
        QueryRanks("t2i", 1 + of_text, np.bincount(caption), len(image), first_owner),
    )


def _pairs(relevant: Sequence[np.ndarray], images: int, texts: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and caption of every relevant pair, in order of images."""
    if len(relevant) != images:
        raise ValueError(f"{images} images but captions for {len(relevant)}")
    captions = [np.unique(np.asarray(each, dtype=np.intp)) for each in relevant]
    image = np.repeat(np.arange(images), [len(each) for each in captions])
    text = np.concatenate(captions)
    if len(text) and not 0 <= text.min() <= text.max() < texts:
        raise ValueError(f"a caption index is outside 0..{texts - 1}")
    for what, index, count in (("image", image, images), ("text", text, texts)):
        lone = np.flatnonzero(np.bincount(index, minlength=count) == 0)
        if len(lone):
            raise ValueError(f"{what} {lone[0]} has nothing relevant to it ({len(lone)} such)")
    return image, text


def _items_ahead(
    image: np.ndarray, text: np.ndarray, owner: np.ndarray, caption: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How many items that are not relevant score at least as high as each query's best relevant one.

    ``(n,)`` of the images among captions and ``(m,)`` of the captions among images.
    """
    own = np.concatenate(
        [
            np.einsum("pd,pd->p", image[owner[span]], text[caption[span]])
            for span in _spans(len(owner), image.shape[1])
        ]
    )
    bar_of_image, bar_of_text = np.full(len(image), -np.inf), np.full(len(text), -np.inf)
    np.maximum.at(bar_of_image, owner, own)
    np.maximum.at(bar_of_text, caption, own)
    bar_of_image, bar_of_text = bar_of_image[:, None] - TIE, bar_of_text - TIE
    of_image, of_text = np.empty(len(image), dtype=np.intp), np.zeros(len(text), dtype=np.intp)
    for span in _spans(len(image), len(text)):
        scores = image[span] @ text.T
        pairs = slice(*np.searchsorted(owner, [span.start, span.stop]))
        scores[owner[pairs] - span.start, caption[pairs]] = -np.inf
        of_image[span] = np.count_nonzero(scores >= bar_of_image[span], axis=1)
        of_text += np.count_nonzero(scores >= bar_of_text, axis=0)
    return of_image, of_text


def _spans(count: int, width: int) -> list[slice]:
    """Slices over ``count`` rows, each of as many rows of ``width`` cells as fit a block."""
    step = max(1, BLOCK_CELLS // width)
    return [slice(low, min(low + step, count)) for low in range(0, count, step)]
