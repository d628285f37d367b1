"""CLIP-Lite: contrastive image–text pre-training with one negative per positive."""

from clip_lite.encoder import ImageFeatures, ImageTextEncoder
from clip_lite.model import DualEncoder

__all__ = ["DualEncoder", "ImageFeatures", "ImageTextEncoder"]
