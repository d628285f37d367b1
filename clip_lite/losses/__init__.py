"""Contrastive objectives: tensors in, named scalars out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clip_lite.losses.base import ContrastiveLoss
from clip_lite.losses.infonce import InfoNCELoss
from clip_lite.losses.jsd import JSDLoss
from clip_lite.losses.siglip import SigLIPLoss
from clip_lite.plugins import load_part

__all__ = ["ContrastiveLoss", "InfoNCELoss", "JSDLoss", "SigLIPLoss", "load_loss"]

LOSSES: dict[str, type] = {"jsd": JSDLoss, "infonce": InfoNCELoss, "siglip": SigLIPLoss}


def load_loss(name: str, options: Mapping[str, Any]) -> ContrastiveLoss:
    """The loss of that name, or the person's own class ``package.module.Class``, made with the options.

    Raises:
        UsageError: no such loss, or options that it does not take.
    """
    return load_part(
        name,
        options,
        known=LOSSES,
        key="objective.loss",
        arguments=("image", "text", "negatives", "scale"),
    )
