"""Uncertainty that respects clusters: bootstrap intervals, permutation nulls, paired swaps, many tests.

A cluster (a role drawn in six skin tones, an image with five captions) is the independent unit.
"""

from evaluation.inference.bootstrap import (
    Bootstrap,
    bca_interval,
    bootstrap,
    bootstrap_mean,
    centred,
    cluster_count,
    cluster_sums,
    mean_interval,
    paired_mean_difference,
    resampled_counts,
    resampled_sums,
)
from evaluation.inference.multiple import benjamini_hochberg, holm, holm_by_family
from evaluation.inference.permutation import (
    NullFields,
    null_fields,
    paired_swaps,
    permutation_p,
    permuted_labels,
)
from evaluation.inference.settings import Inference

__all__ = [
    "Bootstrap",
    "Inference",
    "NullFields",
    "bca_interval",
    "benjamini_hochberg",
    "bootstrap",
    "bootstrap_mean",
    "centred",
    "cluster_count",
    "cluster_sums",
    "holm",
    "holm_by_family",
    "mean_interval",
    "null_fields",
    "paired_mean_difference",
    "paired_swaps",
    "permutation_p",
    "permuted_labels",
    "resampled_counts",
    "resampled_sums",
]
