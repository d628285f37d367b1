"""Directional bias amplification (Wang & Russakovsky 2021, arXiv 2102.12594).

For every cell of a group and a task that go together in the training labels (more often than if independent,
or less often), does the model push further the same way? From attribute to task: how much oftener than in
truth the task is answered for the group. From task to attribute: how much oftener than in truth the group is
answered where the task holds. Pushes against the training correlation count negative.

Traps, and what is done about them:

- Near independence the side a cell lies on is noise, and a push of any sign would count as amplification. A
  cell counts only where independence is rejected in the training labels: a test of their covariance with
  cluster-robust variance (t with clusters minus one degrees of freedom), corrected by Holm over the cells.
  With two groups the cells of the second mirror those of the first and are not tested twice.
- Which cells count and their sides are fixed by training data, so the interval resamples test data alone.
- With no cell that counts there is nothing to amplify: the count is the only row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from evaluation.inference import Bootstrap, bootstrap, cluster_sums, holm, null_fields, paired_swaps
from evaluation.results import Estimate
from evaluation.setting import Setting


@dataclass(frozen=True)
class Cells:
    """Which groups and tasks go together in training labels.

    Attributes:
        groups: names, in the order of the rows.
        sides: ``(groups, tasks)``: 1 where they come together more often than if independent, -1 where less
            often, 0 where that cannot be told.
    """

    groups: tuple[str, ...]
    sides: np.ndarray


def training_cells(labels: np.ndarray, truth: np.ndarray, clusters: np.ndarray, *, level: float) -> Cells:
    """Sides of every cell, from training labels.

    Args:
        labels: groups ``(n,)``.
        truth: tasks ``(n, t)`` of 0 and 1, one-hot or several.
        clusters: ``(n,)`` names.
        level: one minus the chance of any wrong cell.

    Raises:
        ValueError: one group only, numbers other than 0 and 1, or fewer than two clusters.
    """
    groups, codes = np.unique(labels, return_inverse=True)
    if len(groups) < 2:
        raise ValueError(f"training labels hold only the group {groups.tolist()}")
    _refuse_undecided(truth, "true labels")
    task = truth - truth.mean(axis=0)
    member = np.eye(len(groups))[codes]
    member -= member.mean(axis=0)
    tested = 1 if len(groups) == 2 else len(groups)
    sums = [cluster_sums(member[:, group, None] * task, clusters) for group in range(tested)]
    count = len(sums[0])
    if count < 2:
        raise ValueError(f"a test of independence needs at least two clusters, got {count}")
    shared = np.stack([each.sum(axis=0) for each in sums])
    error = np.sqrt(np.stack([(each**2).sum(axis=0) for each in sums]) * count / (count - 1))
    ratio = np.divide(shared, error, out=np.zeros_like(shared), where=error > 1e-9)
    p_values = holm(2 * student.sf(np.abs(ratio), count - 1).ravel()).reshape(ratio.shape)
    sides = np.where(p_values < 1 - level, np.sign(shared), 0.0)
    if len(groups) == 2:
        sides = np.vstack([sides, -sides])
    return Cells(tuple(groups.tolist()), sides)


def attribute_to_task(
    cells: Cells, labels: np.ndarray, truth: np.ndarray, answers: np.ndarray, *, name: str, at: Setting
) -> list[Estimate]:
    """Rows ``amplification/{name}/attribute_to_task`` and ``.../attribute_to_task_cells``.

    The mean over counting cells of the change from truth to answer in how often the task holds in the group.
    The null lets truth and answer change places in whole clusters; a small p-value says amplification.

    Args:
        cells: of the training labels.
        labels: true groups ``(n,)``.
        truth: tasks ``(n, t)`` of 0 and 1.
        answers: the model's, ``(n, t)``.
        name: of attribute and task.
        at: clusters, split and system.

    Raises:
        ValueError: shapes that do not fit, numbers other than 0 and 1, a group that training labels lack, or
            fewer than two clusters.
    """
    _refuse_undecided(truth, "true labels")
    _refuse_undecided(answers, "answers")
    if not truth.shape == answers.shape == (len(labels), cells.sides.shape[1]):
        raise ValueError(f"true labels are {truth.shape}, answers {answers.shape}, cells {cells.sides.shape}")
    member = _members(cells, labels)
    group, task = np.nonzero(cells.sides)
    moved = (np.asarray(answers, dtype=np.float64) - truth)[:, task] * member[:, group]
    return _rows("attribute_to_task", cells, moved, member[:, group], member, name, at)


def task_to_attribute(
    cells: Cells, labels: np.ndarray, truth: np.ndarray, answered: np.ndarray, *, name: str, at: Setting
) -> list[Estimate]:
    """Rows ``amplification/{name}/task_to_attribute`` and ``.../task_to_attribute_cells``.

    The mean over counting cells of the change from true group to answered group where the task holds. The
    null lets them change places in whole clusters; a small p-value says amplification.

    Args:
        cells: of the training labels.
        labels: true groups ``(n,)``.
        truth: tasks ``(n, t)`` of 0 and 1.
        answered: groups a model answers, ``(n,)``.
        name: of attribute and task.
        at: clusters, split and system.

    Raises:
        ValueError: shapes that do not fit, numbers other than 0 and 1, a group that training labels lack, or
            fewer than two clusters.
    """
    _refuse_undecided(truth, "true labels")
    if truth.shape != (len(labels), cells.sides.shape[1]) or len(answered) != len(labels):
        raise ValueError(f"true labels are {truth.shape}, groups {len(labels)} and {len(answered)} answered")
    member = _members(cells, labels)
    group, task = np.nonzero(cells.sides)
    holds = np.asarray(truth, dtype=np.float64)[:, task]
    moved = (_members(cells, answered) - member)[:, group] * holds
    return _rows("task_to_attribute", cells, moved, holds, member, name, at)


def _rows(
    way: str,
    cells: Cells,
    moved: np.ndarray,
    base: np.ndarray,
    member: np.ndarray,
    name: str,
    at: Setting,
) -> list[Estimate]:
    """From what moved in every counting cell ``(n, cells)`` and what it is a share of, ``(n, cells)``."""
    sides = cells.sides[cells.sides != 0]
    seen = base.sum(axis=0) > 0
    moved, base, sides = (moved * sides)[:, seen], base[:, seen], sides[seen]
    sizes = {
        group: int(count) for group, count in zip(cells.groups, member.sum(axis=0), strict=True) if count
    }
    rows = [
        at.row(
            f"amplification/{name}/{way}_cells",
            float(len(sides)),
            higher_is_better=True,
            n_by_group=sizes,
            unit="cells",
        )
    ]
    if not len(sides):
        return rows
    found = _mean_push(moved, base, at)
    low, high = found.interval(at.inference)
    per_cluster = cluster_sums((moved / base.sum(axis=0)).mean(axis=1)[:, None], at.clusters)[:, 0]
    first = np.unique(at.clusters, return_index=True)[1]
    null = np.array(
        [np.where(swap[first], -1.0, 1.0) @ per_cluster for swap in paired_swaps(at.clusters, at.inference)]
    )
    row = at.row(
        f"amplification/{name}/{way}",
        found.value,
        higher_is_better=False,
        low=low,
        high=high,
        n_by_group=sizes,
        **null_fields(found.value, null, at.inference),
    )
    return [row, *rows]


def _mean_push(moved: np.ndarray, base: np.ndarray, at: Setting) -> Bootstrap:
    def mean_ratio(sums: np.ndarray) -> np.ndarray:
        top, bottom = np.split(sums, 2, axis=-1)
        ratio = top / np.where(bottom > 0, bottom, 1.0)
        return ratio.sum(axis=-1) / np.maximum((bottom > 0).sum(axis=-1), 1)

    return bootstrap(np.hstack([moved, base]), at.clusters, mean_ratio, at.inference)


def _members(cells: Cells, labels: np.ndarray) -> np.ndarray:
    """Which group each observation is of, ``(n, groups)``."""
    if not np.isin(labels, cells.groups).all():
        raise ValueError(
            f"groups are {np.unique(labels).tolist()}, training labels hold {list(cells.groups)}"
        )
    return (np.asarray(labels)[:, None] == np.array(cells.groups)).astype(np.float64)


def _refuse_undecided(tasks: np.ndarray, what: str) -> None:
    if not np.isin(tasks, (0, 1)).all():
        raise ValueError(f"{what} are decided: 0 or 1")
