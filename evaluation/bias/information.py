"""Usable information: how many bits about a protected attribute a family of attackers gets out of embeddings.

V-information (Xu et al. 2020, arXiv 2002.10689): the entropy of the groups minus the cross-entropy of the
family's held-out predictions. Unlike an accuracy it counts how sure an attacker may rightly be, and it is
added up over observations, so its interval is that of a mean.

Traps, and what is done about them:

- A badly calibrated attacker knows much and scores less than nothing. The family here is an attacker with one
  exponent on its evidence, ``p(group) * q(group | x) ** b``, the exponent fitted on training clusters held
  back from the attacker. At exponent zero it answers with the training frequencies and gets zero bits.
- What a family finds after training on shuffled labels is no information: the mean over ``SHUFFLES`` such
  trainings is taken off. Clusters trade labels whatever groups they hold: labels that only move inside their
  own cluster would still tell which clusters hold a rare group, and an attacker would learn it from them.
- The entropy is that of the training frequencies on held-out groups, which the family could have known.
- Bits depend on how common the groups are: one per observation at most for two equal groups.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from evaluation.bias.attackers import Attacker, logistic, mlp, trained
from evaluation.bias.leakage import Sample
from evaluation.inference import Inference, null_fields, permuted_labels
from evaluation.results import Estimate
from evaluation.setting import Setting

SHUFFLES = 3
HELD_BACK = 0.2
MOST_EXPONENT = 10.0
SMALLEST = 1e-12

FAMILIES: Mapping[str, Attacker] = {"logistic": logistic, "mlp": mlp}


Answering = Callable[[np.ndarray], np.ndarray]


def usable_information(
    train: Sample,
    *held_out: tuple[Sample, Setting],
    name: str,
    families: Mapping[str, Attacker] = FAMILIES,
) -> list[Estimate]:
    """Rows ``leakage_bits/{name}/{family}``, in bits per observation, of every held-out sample.

    A family that is sure of what does not hold on other data gains less than nothing. The null permutes the
    held-out labels by cluster, as for leakage: what the same answers gain where they say nothing. Its mean
    lies below zero, and a value can be above the null and below zero at once.

    Args:
        train: what families are fitted on, once; shares no cluster with the held-out samples.
        held_out: samples with their settings, whose clusters they share in order.
        name: attribute and representation.
        families: attackers whose scores are probabilities, trained on groups as equally common.

    Raises:
        ValueError: one group only, a held-out group that ``train`` does not hold, a group that the training
            clusters held back (or the others) lack, clusters other than the sample's, or fewer than two.
    """
    groups, codes = np.unique(train.labels, return_inverse=True)
    for test, at in held_out:
        if len(groups) < 2 or not np.isin(test.labels, groups).all():
            raise ValueError(f"trained on {groups.tolist()}, held out {np.unique(test.labels).tolist()}")
        if not np.array_equal(at.clusters, test.clusters):
            raise ValueError(f"split {at.split!r} has other clusters than those given")
    inference = held_out[0][1].inference
    held_back = _held_back(train.clusters, inference)
    shuffled = _shuffled(codes, train.clusters, inference)
    rows = []
    for family, attacker in families.items():
        own, *others = [
            _answering(attacker, train.x, each, held_back, inference.seed) for each in (codes, *shuffled)
        ]
        for test, at in held_out:
            # of every group the observation might have
            bits = own(test.x) - np.mean([each(test.x) for each in others], axis=0)
            rows.append(
                _row(f"leakage_bits/{name}/{family}", bits, np.searchsorted(groups, test.labels), groups, at)
            )
    return rows


def _row(name: str, bits: np.ndarray, own: np.ndarray, groups: np.ndarray, at: Setting) -> Estimate:
    null = [_mean_of(bits, drawn) for drawn in permuted_labels(own, at.clusters, at.inference)]
    return at.mean(
        name,
        bits[np.arange(len(own)), own],
        higher_is_better=False,
        **null_fields(_mean_of(bits, own), np.array(null), at.inference),
        n_by_group=dict(zip(groups.tolist(), np.bincount(own, minlength=len(groups)).tolist(), strict=True)),
        unit="bits",
    )


def _mean_of(bits: np.ndarray, codes: np.ndarray) -> float:
    return float(bits[np.arange(len(codes)), codes].mean())


def _held_back(clusters: np.ndarray, inference: Inference) -> np.ndarray:
    """Mask ``(n,)`` of the training clusters that fit the exponent."""
    names, cluster = np.unique(clusters, return_inverse=True)
    held = inference.rng(30).permutation(len(names)) < max(1, round(HELD_BACK * len(names)))
    return held[cluster]


def _shuffled(codes: np.ndarray, clusters: np.ndarray, inference: Inference) -> list[np.ndarray]:
    """Labels dealt anew, those of one cluster together to the rows of another where sizes allow."""
    _, cluster = np.unique(clusters, return_inverse=True)
    rng = inference.rng(32)
    rows = np.argsort(cluster, kind="stable")
    shuffles = []
    for _ in range(SHUFFLES):
        key = rng.permutation(cluster.max() + 1)[cluster]
        dealt = np.empty_like(codes)
        dealt[rows] = codes[np.lexsort((rng.random(len(codes)), key))]
        shuffles.append(dealt)
    return shuffles


def _answering(
    attacker: Attacker, x: np.ndarray, codes: np.ndarray, held_back: np.ndarray, seed: int
) -> Answering:
    """What gives the calibrated log2-probability ``(n, groups)`` of a group over its training frequency."""
    for part in (codes[held_back], codes[~held_back]):
        if len(np.unique(part)) < len(np.unique(codes)):
            raise ValueError("too few training clusters to hold some back: a part of them lacks a group")
    scores = trained(attacker, x[~held_back], codes[~held_back], seed)
    prior = np.log(np.bincount(codes) / len(codes))
    known, own = _evidence(scores(x[held_back])), codes[held_back]

    def loss(exponent: float) -> float:
        return -_mean_of(_posterior(prior, exponent * known), own)

    exponent = minimize_scalar(loss, bounds=(0.0, MOST_EXPONENT), method="bounded").x
    return lambda x: (_posterior(prior, exponent * _evidence(scores(x))) - prior) / np.log(2)


def _evidence(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, SMALLEST))


def _posterior(prior: np.ndarray, evidence: np.ndarray) -> np.ndarray:
    joint = prior + evidence
    return joint - logsumexp(joint, axis=1, keepdims=True)
