"""``AttributeEraser``: every labelled method as a scikit-learn transformer."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from functools import cached_property
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import FLOAT_DTYPES, check_is_fitted, validate_data

from debias.eraser import Eraser
from debias.methods import FITTERS


class AttributeEraser(TransformerMixin, BaseEstimator):
    """Fits an eraser from rows and their groups, and edits rows with it.

    What is removed is what ``method`` removes from the fitted rows; a nonlinear attacker may read what a
    linear one no longer does, and fresh rows keep a part.

    Args:
        method: a name in ``debias.methods.FITTERS``.
        strength: 0 (rows stay as they are) to 1 (the full edit).
        options: further arguments of the fitter.
        groups: all groups, in the order of ``classes_``; by default those that ``fit`` meets, sorted.

    Attributes:
        eraser_: the ``Eraser`` of all rows so far.
        classes_: groups in the order of their index, ``(groups,)`` of dtype object.
        n_features_in_: width of the rows.
    """

    def __init__(
        self,
        method: str = "leace",
        *,
        strength: float = 1.0,
        options: Mapping[str, Any] | None = None,
        groups: Iterable[Hashable] | None = None,
    ) -> None:
        self.method = method
        self.strength = strength
        self.options = options
        self.groups = groups

    def fit(self, X: Any, y: Any) -> Self:
        """Fit on rows ``X`` ``(n, d)`` of groups ``y`` ``(n,)``.

        ``y`` holds any hashable labels; None, NaN and −1 stand for unlabelled, unless ``groups`` has them.

        Raises:
            ValueError: an unknown method, rows or labels that do not fit, or too few for the method.
        """
        rows, labels = self._rows(X, reset=True), _labels(y)
        self._start(rows.shape[1], _sorted(labels) if self.groups is None else self.groups)
        self._add(rows, labels)
        _ = self.eraser_
        return self

    def partial_fit(self, X: Any, y: Any, classes: Iterable[Hashable] | None = None) -> Self:
        """Go on with more rows; the first call needs ``classes``, all groups, unless ``groups`` says them.

        Raises:
            ValueError: see ``fit``; or neither ``classes`` nor ``groups`` was given at first.
        """
        first = not hasattr(self, "fitter_")
        rows, labels = self._rows(X, reset=first), _labels(y)
        if first:
            known = self.groups if classes is None else classes
            if known is None:
                raise ValueError("the first partial_fit needs classes, the list of all groups")
            self._start(rows.shape[1], known)
        elif classes is not None and list(classes) != self.classes_.tolist():
            raise ValueError(
                f"classes is {list(classes)}, the first partial_fit had {self.classes_.tolist()}"
            )
        self._add(rows, labels)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Edited rows ``(n, d)``, at least float32.

        Raises:
            ValueError: rows of another width, or a method whose eraser needs the group of every row.
            NotFittedError: before ``fit``.
        """
        check_is_fitted(self, "fitter_")
        return self.eraser_(self._rows(X, reset=False))

    @cached_property
    def eraser_(self) -> Eraser:
        """The eraser of all rows so far, at ``strength``."""
        check_is_fitted(self, "fitter_")
        return self.fitter_.eraser.at_strength(self.strength)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def _rows(self, rows: Any, *, reset: bool) -> np.ndarray:
        found = validate_data(self, rows, dtype=FLOAT_DTYPES, ensure_all_finite=False, reset=reset)
        if not np.isfinite(found).all():
            raise ValueError("X holds NaN or infinity, expected finite numbers")
        return found

    def _start(self, dim: int, groups: Iterable[Hashable]) -> None:
        fitter = FITTERS.get(self.method)
        if fitter is None:
            raise ValueError(f"method is {self.method!r}, expected one of {', '.join(sorted(FITTERS))}")
        if getattr(fitter, "needs_task", False):
            raise ValueError(f"method {self.method!r} needs task labels too: use {fitter.__name__}")
        known = list(groups)
        if len(known) < 2:
            raise ValueError(f"y has {len(known)} class{'es' * (not known)}, expected at least two groups")
        self.classes_ = np.fromiter(known, dtype=object, count=len(known))
        self.fitter_ = fitter(dim, len(known), **(self.options or {}))

    def _add(self, rows: np.ndarray, labels: list[Hashable]) -> None:
        place = {label: index for index, label in enumerate(self.classes_)}
        for label in labels:
            if label not in place and not _is_missing(label):
                raise ValueError(f"y has label {label!r}, expected one of {list(place)}")
        self.fitter_.update(rows, np.array([place.get(label, -1) for label in labels], dtype=np.int64))
        self.__dict__.pop("eraser_", None)


def _labels(y: Any) -> list[Hashable]:
    if y is None:
        raise ValueError("AttributeEraser requires y to be passed, but the target y is None")
    labels = list(y) if isinstance(y, list | tuple) else np.asarray(y).tolist()
    if not all(isinstance(label, Hashable) for label in labels):
        raise ValueError("y must hold one label per row")
    return labels


def _is_missing(label: Hashable) -> bool:
    return label is None or label == -1 or label != label


def _sorted(labels: Iterable[Hashable]) -> list[Hashable]:
    """Labels that occur, in order within each type."""
    found = {label for label in labels if not _is_missing(label)}
    return sorted(found, key=lambda label: (type(label).__name__, label))
