"""Image-text models of transformers (CLIP, SigLIP and their kin), and its models of images alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from PIL import Image
from torch import Tensor, nn

from clip_lite.editable import EditableEncoder
from clip_lite.encoder import ImageFeatures
from clip_lite.errors import UsageError
from clip_lite.pretrained.pictures import prepared, probe, square
from clip_lite.pretrained.saved import Note, save
from clip_lite.pretrained.texts import embedded

RAW = {"do_rescale": False, "do_normalize": False}  # the image processor stops at uint8
NUMBERS = {"do_resize": False, "do_center_crop": False, "do_pad": False}  # it begins there
UNSAID = ("_", "transformers_version", "architectures", "dtype", "torch_dtype")  # of a configuration


class ProcessorPrepare:
    """The resize and crop of a transformers image processor.

    Raises:
        UsageError: it gives anything but a square of pixels, such as a list of patches.
    """

    def __init__(self, processor: Any, *, name: str) -> None:
        self.processor = processor
        self.size = square(self(probe()), name=name)

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Upright RGB picture → uint8 ``(3, size, size)``."""
        return np.asarray(self.processor(images=image, return_tensors="pt", **RAW)["pixel_values"][0])


class TransformersEncoder(EditableEncoder):
    """A transformers model behind ``EditableEncoder``.

    ``features`` are the pooled output of the vision tower before any projection, ``embedding`` what
    ``get_image_features`` gives. A model without ``get_image_features`` and ``get_text_features`` has no text
    tower: its pooled features are its embedding.

    Args:
        model, image_processor, tokenizer: of transformers; ``tokenizer`` None for an image model.
        name: where they come from, for messages.
        image_weights: where the weights come from, in words.

    Raises:
        UsageError: the model does not fit.
    """

    def __init__(
        self, model: Any, image_processor: Any, tokenizer: Any, *, name: str, image_weights: str
    ) -> None:
        super().__init__()
        self.model: Any = model.float()
        self.image_processor, self.tokenizer = image_processor, tokenizer
        self.name, self.image_weights = name, image_weights
        self.has_text = tokenizer is not None
        self.prepare = ProcessorPrepare(image_processor, name=name)
        self.image_size = self.prepare.size
        self.eval()
        image = self._measured()
        self.feature_dim, self.embedding_dim = image.features.shape[1], image.embedding.shape[1]
        self.padding = _padding(model.config, tokenizer) if self.has_text else {}
        self.settings = {
            "library": "transformers",
            "library_version": transformers.__version__,
            "model": _said(model.config.to_dict()),
            "preprocessing": _said(image_processor.to_dict()) | {"class": type(image_processor).__name__},
            "text": self.padding | {"tokenizer": _digest(tokenizer)} if self.has_text else None,
        }

    def image_transform(self, images: Tensor) -> Tensor:
        """uint8 ``(n, 3, H, W)`` → the processor's rescaled and normalised pictures at the model's size."""
        assert self.prepare is not None
        rows = list(prepared(images, self.prepare))
        return self.image_processor(images=rows, return_tensors="pt", **NUMBERS)["pixel_values"]

    def unedited(self, pixels: Tensor) -> ImageFeatures:
        """Transformed pictures → features and embeddings before any edit."""
        if not self.has_text:
            features = _pooled(self.model(pixel_values=pixels)).float()
            return ImageFeatures(features, F.normalize(features, dim=-1))
        kept: list[Tensor] = []
        hook = self.model.vision_model.register_forward_hook(lambda *call: kept.append(_pooled(call[-1])))
        try:
            embedding = pooled_output(self.model.get_image_features(pixel_values=pixels)).float()
        finally:
            hook.remove()
        return ImageFeatures(kept[-1].float(), F.normalize(embedding, dim=-1))

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Texts, padded and cut as the model was trained → unit-norm embeddings ``(n, d)``.

        Raises:
            UsageError: the model has no text tower.
        """
        if not self.has_text:
            raise UsageError(f"{self.name} has no text tower")

        def encode(batch: list[str]) -> Tensor:
            tokens = self.tokenizer(batch, return_tensors="pt", **self.padding).to(self.model.device)
            return pooled_output(self.model.get_text_features(**tokens))

        return embedded(texts, encode, dim=self.embedding_dim, device=self.model.device)

    def fresh(self, seed: int) -> TransformersEncoder:
        """The same architecture with new random weights; the inside of the text tower is shared."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            new = type(self.model)(self.model.config)
        if self.has_text:
            new.text_model = self.model.text_model
        return TransformersEncoder(
            new.to(self.model.device),
            self.image_processor,
            self.tokenizer,
            name=self.name,
            image_weights="random initialisation",
        )

    def describe(self) -> dict[str, Any]:
        """``architecture``, ``image_tower``, ``image_weights`` and ``text_tower``, in words."""
        vision = getattr(self.model, "vision_model", self.model)
        return {
            "architecture": f"{type(self.model).__name__} of transformers {transformers.__version__}",
            "image_tower": f"{type(vision).__name__}, {self.image_size} px",
            "image_weights": self.image_weights,
            "text_tower": type(self.model.text_model).__name__ if self.has_text else "none",
        }

    @property
    def seeing(self) -> nn.Module:
        """The image tower, for Grad-CAM."""
        return self.model.vision_model if self.has_text else self.model

    def save_pretrained(self, folder: Path) -> None:
        """Write a transformers directory with the erasers beside it; replaces ``folder`` atomically."""
        save(self, folder, Note("transformers", self.image_weights), self._write)

    def _write(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self.image_processor.save_pretrained(folder)
        if self.has_text:
            self.tokenizer.save_pretrained(folder)

    def _measured(self) -> ImageFeatures:
        """What comes out for one picture, to learn the widths and whether the model fits at all."""
        assert self.prepare is not None
        pixels = self.image_transform(torch.from_numpy(self.prepare(probe()))[None])
        own = self.image_processor(images=probe(), return_tensors="pt")["pixel_values"]
        if own.shape != pixels.shape or not torch.allclose(own, pixels, atol=1e-5):
            raise UsageError(f"{self.name}: its image processor does more than resize, crop and normalise")
        try:
            with torch.no_grad():
                image = self.unedited(pixels.to(self.model.device))
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"{self.name}: {type(self.model).__name__} does not fit: {reason}") from error
        if image.features.ndim != 2 or image.embedding.ndim != 2:
            raise UsageError(f"{self.name}: {type(self.model).__name__} does not pool its features")
        return image


def pooled_output(output: Any) -> Tensor:
    """What ``get_image_features`` and ``get_text_features`` give: a tensor, or an output that carries it."""
    return output if isinstance(output, Tensor) else output.pooler_output


def _pooled(output: Any) -> Tensor:
    """Pooled output of a tower ``(n, f)``; where it has none, its class token."""
    pooled = getattr(output, "pooler_output", None)
    return output.last_hidden_state[:, 0] if pooled is None else pooled.flatten(1)


def _padding(config: Any, tokenizer: Any) -> dict[str, Any]:
    """How texts are padded and cut: to the longest of a batch, or always to the full length (SigLIP)."""
    text = config.text_config
    places = text.max_position_embeddings
    if config.model_type == "altclip":  # RoBERTa's positions begin behind the padding's
        places -= text.pad_token_id + 1
    longest = min(tokenizer.model_max_length, places)
    padding: bool | str = "max_length" if "siglip" in config.model_type else True
    return {"padding": padding, "truncation": True, "max_length": int(longest)}


def _said(config: Any) -> Any:
    """A configuration as plain JSON, without names of places and versions."""
    if isinstance(config, Mapping):
        return {
            str(key): _said(value)
            for key, value in sorted(config.items(), key=lambda item: str(item[0]))
            if not str(key).startswith(UNSAID)
        }
    if isinstance(config, list | tuple):
        return [_said(item) for item in config]
    return config if config is None or isinstance(config, bool | int | float | str) else str(config)


def _digest(tokenizer: Any) -> str:
    """SHA-256 over what a tokenizer does to a text, whatever it padded last."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        content: Any = sorted(tokenizer.get_vocab().items())
    else:
        content = json.loads(backend.to_str()) | {"padding": None, "truncation": None}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
