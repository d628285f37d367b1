"""The concept-editing table (CLIP-Lite, AISTATS 2023, table 6), on held-out images and with its uncertainty.

Prompts that name a group are compared with the images of each group: the mean cosine of the ``k`` best images
of the group, averaged over the group's prompts. A model that knows the concept puts its own images nearer; an
edit that removes it makes the cells of a row equal.

- ``own minus other`` of one row also holds that one group has more or better images; the mean over rows, the
  interaction, does not.
- The best of many are high by chance alone: the null permutes the images' labels.
- Random directions are the control: pass the systems side by side and compare their changes.
- An interval resamples clusters of images. It is about the share of a group that ``k`` of its images stand
  for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from evaluation.bias.editing_draws import Table, permuted, resampled, swapped, table
from evaluation.inference import null_fields, permutation_p
from evaluation.results import Estimate
from evaluation.setting import Setting

TOP = 10

Prompts = Mapping[str, np.ndarray]


def editing(
    images: np.ndarray, prompts: Prompts, groups: np.ndarray, *, name: str, at: Setting, k: int = TOP
) -> list[Estimate]:
    """Rows of one system: the cells of the table, the gap of each prompt group and the interaction.

    ``editing/{name}/{prompt_group}_prompts`` with ``group`` set to the images' group is a cell (no null;
    lower is better for the group's own images, higher for others);
    ``editing/{name}/{prompt_group}_prompts_gap`` is own minus the mean of the others,
    ``editing/{name}/interaction`` the mean of the gaps. p-values are small where the gap is larger than with
    permuted labels.

    Args:
        images: embeddings ``(n, d)`` of held-out images, of any length.
        prompts: text embeddings ``(p, d)`` by group; the groups are those compared.
        groups: perceived or text-derived group of each image ``(n,)``; images of other groups are left out.
        name: of the attribute.
        at: clusters ``(n,)``, split, system, draws.
        k: best images per prompt; at most the size of the smallest group.

    Raises:
        ValueError: fewer than two groups or two clusters, a group without prompts or with fewer than ``k``
            images, shapes that do not fit, or embeddings that are not finite.
    """
    of, at = table(images, prompts, groups, k, at)
    cells, drawn = of.measured(of.once), _defined(resampled(of, at.inference))
    rows = []
    for row, column in np.ndindex(cells.shape[1:]):
        low, high = at.inference.interval(drawn[:, row, column])
        rows.append(
            at.row(
                f"editing/{name}/{safe(of.groups[row])}_prompts",
                float(cells[0, row, column]),
                group=of.groups[column],
                higher_is_better=row != column,
                low=low,
                high=high,
                unit="cosine",
                n_by_group=_sizes(of),
            )
        )
    summaries, draws, null = (_summaries(each, of) for each in (cells, drawn, permuted(of, at.inference)))
    for kind, found in summaries.items():
        low, high = at.inference.interval(draws[kind])
        value = float(found[0])
        fields = null_fields(value, null[kind], at.inference)
        row = {"low": low, "high": high, "unit": "cosine", "n_by_group": _sizes(of), **fields}
        rows.append(at.row(f"editing/{name}/{kind}", value, higher_is_better=False, **row))
    return rows


def editing_changes(
    before: tuple[np.ndarray, Prompts],
    after: tuple[np.ndarray, Prompts],
    groups: np.ndarray,
    *,
    name: str,
    at: Setting,
    k: int = TOP,
) -> list[Estimate]:
    """Rows ``{...}_prompts_gap_change`` and ``interaction_change``: after minus before, on the same images.

    The interval is paired. The null is no change. The p-value is small where a gap *fell*: it exchanges the
    cosines of the two systems (less each prompt's mean, which no gap depends on) in whole clusters.

    Args:
        before, after: images ``(n, d)`` and prompts by group of each system, in the same order.
        groups, name, at, k: as in ``editing``.

    Raises:
        ValueError: as in ``editing``, or systems with other images or prompts.
    """
    (old, own), (new, _) = (table(*each, groups, k, at) for each in (before, after))
    if old.groups != new.groups or not np.array_equal(old.prompt, new.prompt):
        raise ValueError("the two systems have prompts of other groups or in other numbers")
    cells = new.measured(new.once) - old.measured(old.once)
    drawn = _defined(resampled(new, own.inference) - resampled(old, own.inference))
    mixed_old, mixed_new = swapped(old, new, own.inference)
    found, draws, null = (_summaries(each, old) for each in (cells, drawn, mixed_new - mixed_old))
    rows = []
    for kind, change in found.items():
        low, high = own.inference.interval(draws[kind])
        rows.append(
            own.row(
                f"editing/{name}/{kind}_change",
                float(change[0]),
                higher_is_better=False,
                low=low,
                high=high,
                null=0.0,
                p_value=permutation_p(-float(change[0]), -null[kind]),
                unit="cosine",
                n_by_group=_sizes(old),
            )
        )
    return rows


def safe(group: str) -> str:
    """A group's name as part of a row's name: lower snake case, ``&`` written out."""
    return re.sub(r"[^a-z0-9]+", "_", group.lower().replace("&", " and ")).strip("_")


def _summaries(cells: np.ndarray, of: Table) -> dict[str, np.ndarray]:
    """Gap of each prompt group and their mean, ``(b,)`` each, by the end of the row's name."""
    own = np.diagonal(cells, axis1=1, axis2=2)
    gaps = own - (cells.sum(axis=2) - own) / (len(of.groups) - 1)
    named = {f"{safe(group)}_prompts_gap": gaps[:, code] for code, group in enumerate(of.groups)}
    return {**named, "interaction": gaps.mean(axis=1)}


def _defined(drawn: np.ndarray) -> np.ndarray:
    """The resamples that hold every group."""
    kept = drawn[~np.isnan(drawn).any(axis=(1, 2))]
    if not len(kept):
        raise ValueError("no resample of the clusters holds an image of every group")
    return kept


def _sizes(of: Table) -> dict[str, int]:
    return dict(zip(of.groups, np.bincount(of.image).tolist(), strict=True))
