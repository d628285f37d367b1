"""Contrastive objectives: tensors in, named scalars out."""

from clip_lite.losses.jsd import JSDLoss

__all__ = ["JSDLoss"]
