"""Text semantics to suppressed directions.

``ProtectedAttribute`` says which words name the groups; methods fit an ``Eraser`` from word pairs, or from
vectors with captions or labels; ``judge`` says before it acts what it will leave; ``random_direction`` is the
control to measure it against. An eraser removes directions from vectors; what an attacker still reads from
them is for ``evaluation`` to measure. ``NeutralWords`` and ``debias.training`` act while a model trains.
"""

from debias.attribute_file import AttributeFileError, UnknownAttribute, available_attributes
from debias.attributes import Intersection, ProtectedAttribute
from debias.calibration import Calibration, fit_eraser
from debias.cells import joint_cells, marginals
from debias.eraser import Eraser, EraserFileError
from debias.estimator import AttributeEraser
from debias.gate import Verdict, judge
from debias.groupwise import GroupwiseEraser
from debias.label_noise import LabelNoise, label_noise
from debias.methods import CAPTION_FITTERS, FITTERS, TEXT_METHODS, describe_methods
from debias.methods.caption_leace import CaptionLeaceFitter
from debias.methods.leace import LeaceFitter, expected_residual, leace
from debias.methods.random_direction import random_direction
from debias.methods.text_calibrated import text_calibrated
from debias.methods.text_pca import text_direction, text_pca
from debias.moments import StreamingMoments
from debias.neutral import Census, NeutralWords

__all__ = [
    "CAPTION_FITTERS",
    "FITTERS",
    "TEXT_METHODS",
    "AttributeEraser",
    "AttributeFileError",
    "Calibration",
    "CaptionLeaceFitter",
    "Census",
    "Eraser",
    "EraserFileError",
    "GroupwiseEraser",
    "Intersection",
    "LabelNoise",
    "LeaceFitter",
    "NeutralWords",
    "ProtectedAttribute",
    "StreamingMoments",
    "UnknownAttribute",
    "Verdict",
    "available_attributes",
    "describe_methods",
    "expected_residual",
    "fit_eraser",
    "joint_cells",
    "judge",
    "label_noise",
    "leace",
    "marginals",
    "random_direction",
    "text_calibrated",
    "text_direction",
    "text_pca",
]
