"""Models of other libraries behind ``clip_lite.editable.EditableEncoder``."""

from clip_lite.pretrained.load import ACCEPTED, load_encoder
from clip_lite.pretrained.pipeline import edited_transformers

__all__ = ["ACCEPTED", "edited_transformers", "load_encoder"]
