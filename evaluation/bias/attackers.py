"""Attackers: classifiers of five kinds that try to read a protected attribute from embeddings.

All treat groups as equally common in training, so none earns anything by answering the commonest group.
At 100,000 embeddings of 512 dimensions each must cost a minute or so at most. Those whose cost grows too fast
with the data are trained on a part of it (see ``balanced_rows``), drawn by the seed.

Which geometry an attacker minds: all but gradient boosting standardise every dimension. On data that vary
alike in every direction a rotation then changes only rounding for logistic, RBF-SVM and k-NN, and the random
start for the MLP. Gradient boosting splits one dimension at a time: a leak that a rotation spreads over many
dimensions is harder for it, and it is in the set to find what sits in few.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

SVM_ROWS = 5000
BOOSTING_ROWS = 20_000
NEIGHBOUR_ROWS = 20_000
MLP_EPOCHS = 60
MLP_VISITS = 1_200_000  # rows seen in all epochs together
BLOCK_ROWS = 1024

Scorer = Callable[[np.ndarray], np.ndarray]
"""``(n, d)`` embeddings to ``(n, groups)`` scores; the answer is the column of the largest."""

Attacker = Callable[[np.ndarray, np.ndarray, int], Scorer]
"""Trained with ``x`` ``(n, d)``, group codes ``(n,)`` that hold every code from 0, and a seed."""


def logistic(x: np.ndarray, codes: np.ndarray, seed: int) -> Scorer:
    """Linear attacker: logistic regression, C = 1. Scores are probabilities."""
    model = LogisticRegression(C=1.0, class_weight="balanced", max_iter=5000, random_state=seed)
    return make_pipeline(StandardScaler(), model).fit(x, codes).predict_proba


def rbf_svm(x: np.ndarray, codes: np.ndarray, seed: int) -> Scorer:
    """Kernel attacker, C = 1, width by the data's variance; trained on ``SVM_ROWS`` rows at most.

    Scores are signed distances to the margin; no probability is fitted to them. The kernel is computed
    outside the solver, in matrix products, which is several times faster.
    """
    kept = balanced_rows(codes, SVM_ROWS, seed)
    scaler = StandardScaler().fit(x[kept])
    known = scaler.transform(x[kept])
    gamma = 1.0 / (known.shape[1] * max(known.var(), np.finfo(np.float64).tiny))
    model = SVC(C=1.0, class_weight="balanced", kernel="precomputed")
    model.fit(rbf_kernel(known, gamma=gamma), codes[kept])

    def scores(x: np.ndarray) -> np.ndarray:
        margin = model.decision_function(rbf_kernel(scaler.transform(x), known, gamma=gamma))
        return np.column_stack([-margin, margin]) if margin.ndim == 1 else margin

    return scores


def mlp(x: np.ndarray, codes: np.ndarray, seed: int) -> Scorer:
    """One hidden layer of 128, a fixed number of epochs, smaller groups repeated to equal size.

    The weight decay of 3 is strong on purpose: at scikit-learn's default of 1e-4 this attacker overfits
    512 dimensions and misses leakage that it finds here. scikit-learn divides it by the batch and not by
    the data, so past 10,000 rows it is lowered with their number, or a weak leak would be decayed away. Past
    20,000 rows there are fewer epochs, so that ``MLP_VISITS`` rows are seen. Scores are probabilities.
    """
    rng = np.random.default_rng(seed)
    members = [rng.permutation(np.flatnonzero(codes == group)) for group in np.unique(codes)]
    largest = max(len(each) for each in members)
    rows = rng.permutation(np.concatenate([np.resize(each, largest) for each in members]))
    epochs = max(1, min(MLP_EPOCHS, MLP_VISITS // len(rows)))
    model = MLPClassifier(
        (128,),
        alpha=min(3.0, 30_000 / len(rows)),
        batch_size=min(64, len(rows)),
        max_iter=epochs,
        n_iter_no_change=epochs,
        random_state=seed,
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fitted = make_pipeline(StandardScaler(), model).fit(x[rows], codes[rows])
    if any("interrupted by user" in str(warning.message) for warning in said):
        raise KeyboardInterrupt  # which scikit-learn keeps to itself, and returns a half-trained model
    return fitted.predict_proba


def gradient_boosting(x: np.ndarray, codes: np.ndarray, seed: int) -> Scorer:
    """Trees on trees: 100 rounds of at most 15 leaves (Friedman 2001), trained on ``BOOSTING_ROWS`` at most.

    Every split sees a random quarter of the dimensions. Without it no split takes the first of two dimensions
    that tell something only together: in 10,000 x 512 with a planted exclusive or, held-out accuracy went
    from .70 to .87. The rounds are fixed: stopping early would watch a random part of the rows, which
    near-duplicates in the other part give away. Scores are probabilities.
    """
    kept = balanced_rows(codes, BOOSTING_ROWS, seed)
    model = HistGradientBoostingClassifier(
        max_iter=100,
        max_leaf_nodes=15,
        max_bins=63,
        max_features=0.25,
        l2_regularization=1.0,
        class_weight="balanced",
        early_stopping=False,
        random_state=seed,
    )
    return model.fit(x[kept], codes[kept]).predict_proba


def knn(x: np.ndarray, codes: np.ndarray, seed: int) -> Scorer:
    """Nearest neighbours by cosine of standardised embeddings, trained on ``NEIGHBOUR_ROWS`` at most.

    The number of neighbours is the root of the number of rows, rounded down and then up to an odd number. A
    neighbour's vote counts one over its group's size, so that a rare group is not outvoted for being rare.
    Scores are shares of the vote.
    """
    kept = balanced_rows(codes, NEIGHBOUR_ROWS, seed)
    unit = make_pipeline(StandardScaler(), Normalizer()).fit(x[kept])
    known, said = unit.transform(x[kept]), codes[kept]
    neighbours = min(len(kept), int(np.sqrt(len(kept))) | 1)
    vote = np.eye(codes.max() + 1)[said] / np.bincount(said)

    def scores(x: np.ndarray) -> np.ndarray:
        cosine = unit.transform(x) @ known.T
        nearest = np.argpartition(-cosine, neighbours - 1, axis=1)[:, :neighbours]
        votes = vote[nearest].sum(axis=1)
        return votes / votes.sum(axis=1, keepdims=True)

    return scores


ATTACKERS: Mapping[str, Attacker] = {
    "logistic": logistic,
    "rbf_svm": rbf_svm,
    "mlp": mlp,
    "gradient_boosting": gradient_boosting,
    "knn": knn,
}


def trained(attacker: Attacker, x: np.ndarray, codes: np.ndarray, seed: int) -> Scorer:
    """The attacker's scores of any number of rows, in float64, read in blocks and on one thread.

    A second thread gains nothing in products this small, and costs tenfold on a busy machine.
    """
    with threadpool_limits(limits=1):
        score = attacker(np.asarray(x, dtype=np.float64), codes, seed)

    def scores(x: np.ndarray) -> np.ndarray:
        starts = range(0, len(x), BLOCK_ROWS)
        with threadpool_limits(limits=1):
            blocks = [score(np.asarray(x[low : low + BLOCK_ROWS], dtype=np.float64)) for low in starts]
        return np.concatenate(blocks)

    return scores


def balanced_rows(codes: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """Positions of at most ``limit`` rows, in order: as many of every group as the smaller groups allow.

    Small groups are kept whole before larger ones are thinned, since they decide what can be learnt.
    """
    if len(codes) <= limit:
        return np.arange(len(codes))
    rng = np.random.default_rng(seed)
    kept: list[np.ndarray] = []
    left = limit
    members = [np.flatnonzero(codes == group) for group in np.unique(codes)]
    for done, each in enumerate(sorted(members, key=len)):
        share = min(len(each), left // (len(members) - done))
        kept.append(rng.permutation(each)[:share])
        left -= share
    return np.sort(np.concatenate(kept))
