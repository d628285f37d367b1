"""Grounding without annotated boxes: scenes of four pictures, of which a phrase names one."""

from __future__ import annotations

import numpy as np

from clip_lite.data.pairs import PairTable, Phrases

BLANK = 250  # channels at least so bright are background


def compose(table: PairTable, *, count: int, seed: int) -> Phrases:
    """Scenes of two by two pictures from four clusters; each picture is named once before any is named again.

    A scene is uint8 ``(3, 2s, 2s)`` of pictures ``(3, s, s)``. The phrase is the first caption of one cell,
    its box the part of the cell that is not white; a picture without white around it fills the cell.

    Raises:
        ValueError: pictures of fewer than four clusters.
    """
    clusters = table.clusters
    if len(np.unique(clusters)) < 4:
        raise ValueError(f"scenes need pictures of four clusters, got {len(np.unique(clusters))}")
    rng = np.random.default_rng([seed, 51])
    named = np.resize(rng.permutation(len(table)), count)
    cells = rng.integers(4, size=count)
    images, boxes = [], []
    for place, cell in zip(named, cells, strict=True):
        quartet = np.insert(_others(int(place), clusters, rng), cell, place)
        parts = table.pixels(quartet).numpy()
        side = parts.shape[-1]
        top, bottom = (np.concatenate(parts[pair], axis=2) for pair in (slice(0, 2), slice(2, 4)))
        images.append(np.concatenate([top, bottom], axis=1))
        row, column = divmod(int(cell), 2)
        boxes.append(_drawn(parts[cell]) + side * np.array([column, row, column, row]))
    phrases = [table.records[int(place)].captions[0] for place in named]
    return Phrases(
        images=np.stack(images),
        rows=np.arange(count),
        phrases=phrases,
        boxes=np.stack(boxes) / (2 * side),
        clusters=clusters[named],
    )


def _others(place: int, clusters: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Three pictures of three clusters other than the one of ``place``."""
    order = rng.permutation(len(clusters))
    order = order[clusters[order] != clusters[place]]
    return order[np.sort(np.unique(clusters[order], return_index=True)[1])[:3]]


def _drawn(picture: np.ndarray) -> np.ndarray:
    """Box of what is not white in ``(3, s, s)``."""
    ink = picture.min(axis=0) < BLANK
    if not ink.any():
        return np.array([0, 0, *ink.shape[::-1]])
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
