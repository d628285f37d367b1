"""Average precision of probes that answer yes or no for each class, as published VOC07 figures are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from clip_lite.progress import say
from debias.attributes import ProtectedAttribute
from evaluation.embed import EmbeddingTable
from evaluation.results import Estimate
from evaluation.systems import OFF, Bench
from evaluation.utility.average_precision import map_change, mean_average_precision
from evaluation.utility.linear_probe import GRADIENT_TOLERANCE
from evaluation.utility.objects import object_classes, object_matrix
from evaluation.utility.svm_probe import FOLDS, SVMProbe

Scores = Callable[[np.ndarray], np.ndarray]  # features (m, d) → (m, c)


class Labels(NamedTuple):
    """Which picture shows which of the ``classes`` ``(c,)``: 1, -1, or 0 where that cannot be said.

    ``train`` ``(n, c)``; ``tests`` by split ``(m, c)``.
    """

    name: str
    classes: np.ndarray
    train: np.ndarray
    tests: Mapping[str, np.ndarray]

    def where(self, kept: np.ndarray) -> Labels:
        """The classes under a mask ``(c,)``."""
        tests = {split: own[:, kept] for split, own in self.tests.items()}
        return Labels(self.name, self.classes[kept], self.train[:, kept], tests)


def svm_probe_metrics(bench: Bench, _attribute: ProtectedAttribute | None) -> list[Estimate]:
    """One SVM per class with average precision, as for VOC07, on classes that both splits show."""

    def fitted(train: EmbeddingTable, targets: np.ndarray) -> Scores:
        return SVMProbe(train.features, targets, train.clusters, seed=bench.inference.seed).scores

    rows = []
    for labels in (class_labels(bench), object_labels(bench)):
        if labels is not None:
            rows += _rows(bench, labels, "SVM", labels.name, fitted)
    return rows


def object_probe_rows(bench: Bench) -> list[Estimate]:
    """Rows ``probe/{objects}_linear_map`` and those beside it, of one logistic regression for each class.

    No rows for a corpus whose pictures show one class each.
    """

    def fitted(train: EmbeddingTable, targets: np.ndarray) -> Scores:
        return logistic(train.features, targets, seed=bench.inference.seed)

    labels = object_labels(bench)
    return [] if labels is None else _rows(bench, labels, "linear", f"{labels.name}_linear", fitted)


def logistic(x: np.ndarray, targets: np.ndarray, *, seed: int) -> Scores:
    """Log-odds of every class from logistic regressions on standardised features, C = 1.

    Args:
        x: training features ``(n, d)``.
        targets: ``(n, c)``: 1 for the class, all else is not.
        seed: of the solver.
    """
    solver = LogisticRegression(C=1.0, tol=GRADIENT_TOLERANCE, max_iter=5000, random_state=seed)
    with threadpool_limits(1):
        model = make_pipeline(StandardScaler(), OneVsRestClassifier(solver))
        model.fit(np.asarray(x, dtype=np.float64), (targets == 1).astype(np.int8))
    return lambda new: np.reshape(model.decision_function(np.asarray(new, dtype=np.float64)), (len(new), -1))


def class_labels(bench: Bench) -> Labels | None:
    """The corpus's one class of each picture, a column for each; None where it has none."""
    if (target := bench.corpus.classification) is None:
        return None
    classes = np.unique(bench.tables["train"].attribute(target))
    shown = {
        split: np.where(table.attribute(target)[:, None] == classes, np.int8(1), np.int8(-1))
        for split, table in bench.tables.items()
    }
    return _learnable(bench, Labels(target, classes, shown["train"], {s: shown[s] for s in bench.tests}))


def object_labels(bench: Bench) -> Labels | None:
    """All classes of each picture, what is unsure a negative in train; None where pictures show one each."""
    if (attribute := bench.corpus.objects) is None:
        return None
    train, classes = bench.tables["train"], object_classes(bench.tables["train"], attribute)
    tests = {split: object_matrix(bench.tables[split], attribute, classes) for split in bench.tests}
    truth = object_matrix(train, attribute, classes, unsure=-1)
    return _learnable(bench, Labels(attribute, np.array(classes), truth, tests))


def _learnable(bench: Bench, labels: Labels) -> Labels:
    """The classes that three training clusters show, and three do not: as many as there are folds."""
    names, cluster = np.unique(bench.tables["train"].clusters, return_inverse=True)
    holding = np.array([len(np.unique(cluster[own == 1])) for own in labels.train.T])
    return labels.where(np.minimum(holding, len(names) - holding) >= FOLDS)


def _rows(
    bench: Bench, labels: Labels, kind: str, name: str, fitted: Callable[[EmbeddingTable, np.ndarray], Scores]
) -> list[Estimate]:
    tested = {split: kept for split, own in labels.tests.items() if (kept := _both(own)).any()}
    if not tested:
        return []
    rows: list[Estimate] = []
    before: dict[str, np.ndarray] = {}
    for system, tables in bench.systems.items():
        say(f"audit: {kind} probe of {labels.name}, {system}")
        scores = fitted(tables["train"], labels.train)
        for split, kept in tested.items():
            found, truth = scores(tables[split].features)[:, kept], labels.tests[split][:, kept]
            at, classes = bench.at(split, system), labels.classes[kept].tolist()
            rows += mean_average_precision(found, truth, classes, name=name, at=at)
            if system == OFF:
                before[split] = found
            else:
                rows += map_change(before[split], found, truth, name=name, at=at)
    return rows


def _both(truth: np.ndarray) -> np.ndarray:
    """The classes ``(c,)`` of which there is a picture that shows it and one that does not."""
    return (truth == 1).any(axis=0) & (truth == -1).any(axis=0)
