"""Text semantics to suppressed directions.

``ProtectedAttribute`` says which words name the groups, the methods fit an ``Eraser`` from word pairs or
from vectors with their captions, and ``random_direction`` is the control to measure them against. An eraser
removes directions from vectors; what an attacker still reads from them is for ``evaluation`` to measure.
"""

from debias.attributes import (
    AttributeFileError,
    ProtectedAttribute,
    UnknownAttribute,
    available_attributes,
)
from debias.eraser import Eraser, EraserFileError
from debias.methods.caption_leace import CaptionLeaceFitter
from debias.methods.leace import LeaceFitter, expected_residual, leace
from debias.methods.random_direction import random_direction
from debias.methods.text_pca import text_direction, text_pca
from debias.moments import StreamingMoments

__all__ = [
    "AttributeFileError",
    "CaptionLeaceFitter",
    "Eraser",
    "EraserFileError",
    "LeaceFitter",
    "ProtectedAttribute",
    "StreamingMoments",
    "UnknownAttribute",
    "available_attributes",
    "expected_residual",
    "leace",
    "random_direction",
    "text_direction",
    "text_pca",
]
