"""Visual grounding: does the heat map of a phrase lie where the thing is (RefCOCO+ protocol)?

Accuracy counts a phrase as found where the box around the heat map and the true box overlap with an
intersection over union of at least one half; the pointing game (Zhang et al. 2016) where the hottest pixel
lies in the true box. Boxes are ``(x0, y0, x1, y1)`` in pixels of the heat map, ``x1`` and ``y1`` excluded.
Several phrases of one box, and several boxes of one picture, are observations of one cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects, label

from evaluation.inference import null_fields
from evaluation.results import Estimate
from evaluation.setting import Setting

THRESHOLD = 0.5  # of the hottest pixel
OVERLAP = 0.5
PEAK = 1 - 1e-5  # rounding apart, as hot as the hottest pixel
PURPOSE = 50


@dataclass(frozen=True)
class Found:
    """What heat maps say of every phrase: a box ``(n, 4)`` and a point ``(n, 2)`` of x and y.

    Of a map that is the same everywhere the box is empty and the point lies outside the picture.
    """

    boxes: np.ndarray
    points: np.ndarray

    def rows_of(self, order: np.ndarray) -> Found:
        """The answers in another order."""
        return Found(self.boxes[order], self.points[order])


def found_in(heat: np.ndarray) -> Found:
    """Box and point of heat maps ``(n, H, W)``.

    The box bounds the largest connected part (by area, of equals the first) of the pixels that are at least
    half as hot as the hottest. The point is the middle of the hottest pixels, or of the largest part of them:
    a map enlarged from a few places is flat over half a place along the edge of the picture, and the first of
    those pixels would be its corner. A map that is the same everywhere has neither.
    """
    boxes, points = np.zeros((len(heat), 4)), np.full((len(heat), 2), -1.0)
    for place, each in enumerate(heat):
        top = each.max()
        if not top > each.min():
            continue
        boxes[place] = _largest_part(each >= THRESHOLD * top)
        points[place] = _largest_part(each >= PEAK * top).reshape(2, 2).mean(axis=0)
    return Found(boxes, points)


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union ``(n,)`` of boxes ``(n, 4)`` and ``(n, 4)``; 0 with an empty box."""
    low, high = np.maximum(first[:, :2], second[:, :2]), np.minimum(first[:, 2:], second[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    union = _area(first) + _area(second) - shared
    return np.divide(shared, union, out=np.zeros(len(first)), where=union > 0)


def hits(found: Found, boxes: np.ndarray) -> dict[str, np.ndarray]:
    """Which phrases ``(n,)`` are found, by measure: ``iou50`` and ``pointing``."""
    inside = (found.points >= boxes[:, :2]) & (found.points < boxes[:, 2:])
    overlap = np.asarray(iou(found.boxes, boxes) >= OVERLAP)
    return {"iou50": overlap, "pointing": np.asarray(inside.all(axis=1))}


def grounding(heat: np.ndarray, boxes: np.ndarray, *, name: str, at: Setting) -> list[Estimate]:
    """Rows ``grounding/{name}_iou50`` and ``grounding/{name}_pointing``.

    The null gives the boxes of a cluster the maps of another one, drawn at random; so it knows where things
    tend to be, where maps tend to be hot, and that phrases of one picture fare alike. The p-value is small
    where the phrase's own map does better.

    Args:
        heat: maps ``(n, H, W)``, one for each phrase.
        boxes: true ones ``(n, 4)``.
        name: of the task.
        at: clusters are pictures, or what makes pictures alike.

    Raises:
        ValueError: shapes that do not fit, a box without area or outside its map, or fewer than two clusters.
    """
    boxes, found = _checked(heat, boxes), found_in(heat)
    if len(at) != len(boxes):
        raise ValueError(f"{len(boxes)} phrases but {len(at)} cluster names")
    own, null = hits(found, boxes), _null(found, boxes, at)
    return [
        at.mean(
            f"grounding/{name}_{measure}",
            hit,
            higher_is_better=True,
            **null_fields(float(np.mean(hit)), null[measure], at.inference),
        )
        for measure, hit in own.items()
    ]


def grounding_change(
    before: np.ndarray, after: np.ndarray, boxes: np.ndarray, *, name: str, at: Setting
) -> list[Estimate]:
    """Rows of ``grounding`` with ``_change``: after minus before, paired phrase by phrase.

    The null is no change; a small p-value says that grounding got worse. ``before`` and ``after`` are heat
    maps of two systems, other arguments and errors as in ``grounding``.
    """
    old, new = (hits(found_in(heat), _checked(heat, boxes)) for heat in (before, after))
    return [
        at.change(f"grounding/{name}_{measure}", new[measure], old[measure], higher_is_better=True)
        for measure in new
    ]


def _checked(heat: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    boxes = np.asarray(boxes, dtype=np.float64)
    if heat.ndim != 3 or boxes.shape != (len(heat), 4):
        raise ValueError(f"heat maps {heat.shape} and boxes {boxes.shape}: expected (n, H, W) and (n, 4)")
    size = (heat.shape[2], heat.shape[1])
    if not ((boxes[:, :2] >= 0) & (boxes[:, :2] < boxes[:, 2:]) & (boxes[:, 2:] <= size)).all():
        raise ValueError(f"a box is empty or reaches out of its map of {size[0]} by {size[1]} pixels")
    return boxes


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)


def _largest_part(mask: np.ndarray) -> np.ndarray:
    """Box ``(4,)`` of the largest connected part."""
    parts, _ = label(mask)
    sizes = np.bincount(parts.ravel())[1:]
    rows, columns = find_objects(parts)[int(sizes.argmax())]
    return np.array([columns.start, rows.start, columns.stop, rows.stop])


def _null(found: Found, boxes: np.ndarray, at: Setting) -> dict[str, np.ndarray]:
    """Shares of hits ``(permutations,)`` when every cluster answers with the maps of another one.

    Whole clusters move, for phrases of one picture that moved apart would make the null too narrow. A smaller
    cluster repeats its maps.
    """
    _, code, size = np.unique(at.clusters, return_inverse=True, return_counts=True)
    first = np.cumsum(size) - size
    members = np.argsort(code, kind="stable")
    turn = np.empty_like(members)
    turn[members] = np.arange(len(members)) - np.repeat(first, size)
    rng = at.inference.rng(PURPOSE)
    drawn = []
    for _ in range(at.inference.permutations):
        order = rng.permutation(len(size))
        donor = np.empty_like(order)
        donor[order] = np.roll(order, 1)  # one cycle through all: none keeps its own
        start = rng.integers(size[donor])
        giver = donor[code]
        other = members[first[giver] + (start[code] + turn) % size[giver]]
        drawn.append({k: v.mean() for k, v in hits(found.rows_of(other), boxes).items()})
    return {measure: np.array([each[measure] for each in drawn]) for measure in drawn[0]}
