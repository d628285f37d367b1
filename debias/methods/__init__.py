"""Ways to fit an ``Eraser``: one method, one file; the tables below name them for the command line.

- ``FITTERS`` learn from vectors with a group index each: ``FITTERS[name](dim, groups, **options)``, then
  ``update(x, z)`` and ``eraser``; a class with ``needs_task`` has ``update(x, z, y)`` with task labels, the
  eraser of one with ``needs_group`` is called with ``(x, z)``. With ``z = attribute.indices(captions)`` any
  of them learns from captions alone.
- ``CAPTION_FITTERS`` read captions: ``CAPTION_FITTERS[name](attribute, dim, **options)``, then
  ``update(x, captions)`` and ``eraser``.
- ``TEXT_METHODS`` need no image: ``TEXT_METHODS[name](encode_text, attribute, **options)`` is the eraser.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from debias.eraser import Eraser
from debias.methods.caption_leace import CaptionLeaceFitter
from debias.methods.hsic import HsicFitter
from debias.methods.inlp import InlpFitter
from debias.methods.leace import LeaceFitter
from debias.methods.mean_projection import MeanProjectionFitter
from debias.methods.pareto_shrink import ParetoShrinkFitter
from debias.methods.quadratic import QuadraticFitter
from debias.methods.splince import SplinceFitter
from debias.methods.text_calibrated import text_calibrated
from debias.methods.text_pca import text_pca

FITTERS: Mapping[str, type[Any]] = MappingProxyType(
    {
        "leace": LeaceFitter,
        "mean_projection": MeanProjectionFitter,
        "inlp": InlpFitter,
        "splince": SplinceFitter,
        "quadratic": QuadraticFitter,
        "hsic": HsicFitter,
        "pareto_shrink": ParetoShrinkFitter,
    }
)
CAPTION_FITTERS: Mapping[str, type[Any]] = MappingProxyType({"caption_leace": CaptionLeaceFitter})
TEXT_METHODS: Mapping[str, Callable[..., Eraser]] = MappingProxyType(
    {"text_pca": text_pca, "text_calibrated": text_calibrated}
)


def describe_methods() -> dict[str, str]:
    """Name → one line for every method, the first of its docstring: what it needs, removes and leaves."""
    methods: dict[str, Any] = {**CAPTION_FITTERS, **TEXT_METHODS, **FITTERS}
    return {name: (method.__doc__ or "").partition("\n")[0] for name, method in methods.items()}
