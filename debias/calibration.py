"""``Calibration``: vectors with their groups and clusters; ``fit_eraser``: one entrance to every method."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from debias.attributes import ProtectedAttribute
from debias.eraser import Eraser, checked_strength
from debias.methods import FITTERS, TEXT_METHODS
from debias.methods.random_direction import random_direction
from debias.methods.text_pca import EncodeText

CAPTION_METHOD, CONTROL = "caption_leace", "random_direction"
# What calibration gives a method by itself, so that it is no option of the person's.
GIVEN = frozenset({"self", "dim", "groups", "tasks", "encode_text", "attribute", "mean", "design"})


@dataclass(frozen=True, eq=False)
class Calibration:
    """Vectors that an eraser is fitted on or judged by.

    Attributes:
        x: ``(n, d)``, numpy or torch; kept as numpy.
        z: group index ``(n,)`` int64, −1 where no single group is known.
        clusters: ``(n,)``, names of what is independent: rows of one name count as copies as far as they are
            alike. Every row its own by default.
        y: task label index ``(n,)``, −1 where unknown, or None.

    Raises:
        ValueError: lengths that differ, or vectors that are not ``(n, d)`` and finite.
    """

    x: Any
    z: Any
    clusters: Any = None
    y: Any = None

    def __post_init__(self) -> None:
        """Bring everything to numpy and check it."""
        x = self.x.detach().cpu().float().numpy() if _is_narrow(self.x) else _numpy(self.x)
        clusters = np.arange(len(x)) if self.clusters is None else np.asarray(self.clusters)
        columns = {"z": _numpy(self.z).astype(np.int64), "clusters": clusters}
        if self.y is not None:
            columns["y"] = _numpy(self.y).astype(np.int64)
        if x.ndim != 2 or not np.isfinite(x).all():
            raise ValueError(f"x has shape {x.shape}, expected (n, d) with finite numbers")
        for name, column in columns.items():
            if column.shape != (len(x),):
                raise ValueError(f"{name} has shape {column.shape}, expected ({len(x)},), one per row of x")
        for name, value in {"x": x, **columns}.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, keep: np.ndarray) -> Self:
        """The rows under a mask ``(n,)``."""
        y = None if self.y is None else self.y[keep]
        return type(self)(self.x[keep], self.z[keep], self.clusters[keep], y)

    @property
    def labelled(self) -> Self:
        """The rows whose group is known, and whose task is, where there are task labels."""
        return self.rows((self.z >= 0) & (True if self.y is None else self.y >= 0))

    def counts(self, groups: int) -> np.ndarray:
        """Labelled rows per group ``(groups,)``."""
        return np.bincount(self.labelled.z, minlength=groups)

    def clusters_per_group(self, groups: int) -> np.ndarray:
        """Distinct clusters with a row of each group ``(groups,)``."""
        known = self.labelled
        return np.array([len(np.unique(known.clusters[known.z == group])) for group in range(groups)])

    def split(self, share: float, seed: int) -> tuple[Self, Self]:
        """The rest, and held-out rows: about ``share`` of the clusters, drawn within what group they show.

        A cluster counts for the rarest group in it, so that a rare group is held out in proportion too.
        """
        names, cluster = np.unique(self.clusters, return_inverse=True)
        stratum = np.full(len(names), -1)
        counts = np.bincount(self.z + 1)
        for group in np.argsort(-counts[1:], kind="stable"):
            stratum[cluster[self.z == group]] = group
        rng = np.random.default_rng(seed)
        held_out = np.zeros(len(names), dtype=bool)
        for group in np.unique(stratum):
            members = rng.permutation(np.flatnonzero(stratum == group))
            held_out[members[: round(share * len(members))]] = True
        return self.rows(~held_out[cluster]), self.rows(held_out[cluster])


def available_methods() -> list[str]:
    """Every name that ``fit_eraser`` takes, sorted."""
    return sorted({*FITTERS, *TEXT_METHODS, CAPTION_METHOD, CONTROL})


def fit_eraser(
    method: str,
    calibration: Calibration,
    *,
    attribute: ProtectedAttribute,
    encode_text: EncodeText | None = None,
    options: Mapping[str, Any] | None = None,
) -> Eraser:
    """Fit any method; what it was fitted on goes into the eraser's ``details``.

    ``caption_leace`` is LEACE whose groups were read from captions, as ``attribute.indices`` gives them.
    ``random_direction`` is the control: one direction, or options ``rank`` and ``seed``.

    Args:
        method: a name of ``available_methods()``.
        calibration: rows to fit on; of a text method, what it will be applied to.
        attribute: names the groups that ``calibration.z`` counts.
        encode_text: texts → embeddings ``(n, d)``; text methods need it.
        options: keyword arguments of the method.

    Raises:
        ValueError: an unknown method or option (the message lists what there is), text methods without
            ``encode_text`` or of another width, task methods without task labels, or what the method refuses.
    """
    chosen = dict(options or {})
    check_method(method, chosen)
    if method in TEXT_METHODS and encode_text is None:
        raise ValueError(f"{method} reads word pairs and needs a text encoder")
    if needs_task(method) and calibration.y is None:
        raise ValueError(f"{method} needs a task label per row")
    dim, groups = calibration.x.shape[1], len(attribute.groups)
    if method in TEXT_METHODS:
        eraser = TEXT_METHODS[method](encode_text, attribute, **chosen)
    elif method == CONTROL:
        mean = torch.from_numpy(calibration.labelled.x.mean(0, dtype=np.float64))
        eraser = random_direction(dim, mean=mean, **{"rank": 1, "seed": 0, **chosen})
    else:
        eraser = _fitted(method, calibration, groups=groups, options=chosen)
    if eraser.dim != dim:
        raise ValueError(f"{method} gives an eraser of width {eraser.dim}, the vectors have width {dim}")
    eraser.method = method
    eraser.details |= _provenance(calibration, attribute, chosen)
    return eraser


def _fitted(method: str, calibration: Calibration, *, groups: int, options: Mapping[str, Any]) -> Eraser:
    dim, columns = calibration.x.shape[1], [calibration.z]
    if needs_task(method):
        columns.append(calibration.y)
        options = {"tasks": int(calibration.y.max()) + 1, **options}
    return _maker(method)(dim, groups, **options).update(calibration.x, *columns).eraser


def _provenance(
    calibration: Calibration, attribute: ProtectedAttribute, options: Mapping[str, Any]
) -> dict[str, Any]:
    groups = attribute.groups
    counts, clusters = calibration.counts(len(groups)), calibration.clusters_per_group(len(groups))
    return {
        "attribute": attribute.describe(),
        "options": dict(options),
        "labelled": dict(zip(groups, counts.tolist(), strict=True)),
        "clusters": dict(zip(groups, clusters.tolist(), strict=True)),
        "dropped": len(calibration) - int(counts.sum()),
    }


def needs_task(method: str) -> bool:
    """Whether a method is fitted with task labels besides the groups."""
    return bool(getattr(FITTERS.get(method), "needs_task", False))


def needs_group(method: str) -> bool:
    """Whether a method's eraser has to be told the group of every row that it edits."""
    return bool(getattr(FITTERS.get(method), "needs_group", False))


def check_method(method: str, options: Mapping[str, Any]) -> None:
    """Refuse what no data could make right.

    Raises:
        ValueError: an unknown method or option; the message lists what there is.
    """
    if method not in available_methods():
        raise ValueError(f"no method {method!r}, expected one of {', '.join(available_methods())}")
    known = method_options(method)
    if unknown := [name for name in options if name not in known]:
        there = f"its options are {', '.join(known)}" if known else "it has no options"
        raise ValueError(f"{method} has no option {unknown[0]!r}: {there}")
    for name, value in options.items():
        _check_value(method, name, value)
    if method not in (*TEXT_METHODS, CONTROL):
        sizes = {"tasks": 2} if needs_task(method) else {}
        _maker(method)(2, 2, **sizes, **options)


def _check_value(method: str, name: str, value: Any) -> None:
    """Refuse a value that is not of the kind which the option's annotation names, or no strength or seed."""
    kind = str(inspect.signature(_maker(method)).parameters[name].annotation)
    kinds: dict[str, tuple[type, ...]] = {
        "int": (int,),
        "float": (int, float),
        "Sequence[str]": (list, tuple),
    }
    words = {"int": "a whole number", "float": "a number", "Sequence[str]": "a list of texts"}
    if kind in kinds and (not isinstance(value, kinds[kind]) or isinstance(value, bool)):
        raise ValueError(f"option {name} of {method} is {value!r}, expected {words[kind]}")
    if name == "strength":
        checked_strength(value)
    if name == "seed" and value < 0:
        raise ValueError(f"option seed of {method} is {value}, expected 0 or above")


def method_options(method: str) -> list[str]:
    """Names of the options of a method, sorted."""
    return sorted(set(inspect.signature(_maker(method)).parameters) - GIVEN)


def _maker(method: str) -> Any:
    """What makes the eraser or its fitter."""
    made_by: dict[str, Any] = {
        **FITTERS,
        **TEXT_METHODS,
        CONTROL: random_direction,
        CAPTION_METHOD: FITTERS["leace"],
    }
    return made_by[method]


def _is_narrow(values: Any) -> bool:
    return isinstance(values, Tensor) and values.dtype in {torch.bfloat16, torch.float16}


def _numpy(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
