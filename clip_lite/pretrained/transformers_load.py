"""Models of transformers by name or directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

from clip_lite.errors import UsageError
from clip_lite.pretrained.reasons import loading
from clip_lite.pretrained.transformers_encoder import TransformersEncoder

SAFE: dict[str, Any] = {"trust_remote_code": False}


def load_transformers(source: str | Path, *, image_weights: str | None = None) -> TransformersEncoder:
    """A model of transformers from a directory or the hub, in evaluation mode, as float32.

    Args:
        image_weights: where the weights come from, in words; by default ``source`` and its commit, if any.

    Raises:
        UsageError: there is no such model here, the hub is out of reach, or the model does not fit.
    """
    name = str(source)
    with loading(f"hf:{name}"):
        config = AutoConfig.from_pretrained(name, **SAFE)
        model, report = AutoModel.from_pretrained(
            name, config=config, dtype=torch.float32, weights_only=True, output_loading_info=True, **SAFE
        )
        image_processor = AutoImageProcessor.from_pretrained(name, **SAFE)
        has_text = all(hasattr(model, f"get_{kind}_features") for kind in ("image", "text"))
        tokenizer = AutoTokenizer.from_pretrained(name, **SAFE) if has_text else None
    _drop_noise(model, set(report["missing_keys"]), name)
    commit = getattr(config, "_commit_hash", None)
    return TransformersEncoder(
        model,
        image_processor,
        tokenizer,
        name=name,
        image_weights=image_weights or (f"{name}, commit {commit}" if commit else name),
    )


def _drop_noise(model: Any, missing: set[str], name: str) -> None:
    """Leave out a pooler that an image classifier's checkpoint does not have; no other weight may miss.

    Raises:
        UsageError: the model would be partly random.
    """
    pooler = {key for key in missing if key.startswith("pooler.")}
    if pooler:
        model.pooler = None
    if others := missing - pooler:
        raise UsageError(f"{name} comes without {len(others)} of the model's weights, such as {min(others)}")
