"""CLIP-Lite: contrastive image–text pre-training with one negative per positive."""

from clip_lite.editable import EditableEncoder
from clip_lite.encoder import ImageFeatures, ImageTextEncoder
from clip_lite.model import DualEncoder
from clip_lite.pretrained import edited_transformers, load_encoder

__all__ = [
    "DualEncoder",
    "EditableEncoder",
    "ImageFeatures",
    "ImageTextEncoder",
    "edited_transformers",
    "load_encoder",
]
