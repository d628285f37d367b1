"""The plain transformers model with the eraser inside its own forward pass, for pipelines of transformers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from clip_lite.errors import UsageError
from clip_lite.pretrained.load import load_encoder
from clip_lite.pretrained.transformers_encoder import TransformersEncoder


def edited_transformers(source: str | Path | TransformersEncoder) -> PreTrainedModel:
    """The transformers model of an encoder, whose image embeddings the encoder's eraser has edited.

    The eraser acts where the model makes the embedding, on its direction, so that ``get_image_features`` and
    the logits of ``forward`` compare what ``encode_image`` returns. Only the eraser of ``embedding`` acts. It
    is no part of the state dict, so the model's own ``save_pretrained`` is refused: save the encoder.

    Args:
        source: what ``load_encoder`` takes, or an encoder, which stays as it is.

    Raises:
        UsageError: it is no image-text model of transformers, or makes its embeddings in an unknown place, or
            has an eraser of its features alone.
    """
    encoder = source if isinstance(source, TransformersEncoder) else load_encoder(source)
    if not isinstance(encoder, TransformersEncoder) or not encoder.has_text:
        raise UsageError(f"{source} is no image-text model of transformers, as its pipelines need one")
    model = copy.deepcopy(encoder.model) if encoder is source else encoder.model
    eraser = encoder.attached.get("embedding")
    if eraser is None and encoder.attached and encoder.erase:
        raise UsageError(
            f"{encoder.name}: its eraser edits {', '.join(encoder.attached)}, and pipelines compare "
            "embeddings: fit one on the embedding (python -m debias.fit --on embedding)"
        )
    if eraser is None or not encoder.erase:
        return model
    model.save_pretrained = _refuse_to_save
    projection = getattr(model, "visual_projection", None)

    def edit(embedding: Tensor) -> Tensor:
        return eraser(F.normalize(embedding.float(), dim=-1)).to(embedding.dtype)

    def edit_output(_tower: nn.Module, _inputs: Any, output: Any) -> Any:
        output.pooler_output = edit(output.pooler_output)
        return output

    if isinstance(projection, nn.Module):
        projection.register_forward_hook(lambda _module, _inputs, output: edit(output))
    elif encoder.feature_dim == encoder.embedding_dim and "siglip" in model.config.model_type:
        model.vision_model.register_forward_hook(edit_output)
    else:
        raise UsageError(f"{encoder.name}: it is not known where {type(model).__name__} makes its embeddings")
    return model


def _refuse_to_save(*_args: Any, **_kwargs: Any) -> None:
    raise UsageError(
        "this would write the model without its eraser: use save_pretrained of load_encoder(...)"
    )
