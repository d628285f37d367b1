"""``DualEncoder``: towers, heads, logit scale and the mitigation that travels with them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from clip_lite.data.cache import atomic_folder
from clip_lite.data.captions import clean
from clip_lite.data.transforms import normalise
from clip_lite.editable import EditableEncoder
from clip_lite.encoder import ImageFeatures
from clip_lite.errors import UsageError
from clip_lite.heads import ProjectionHead
from clip_lite.image_towers import image_tower as make_image_tower
from clip_lite.text_towers import TextTower, pooled_texts
from debias.eraser import Eraser
from debias.neutral import NeutralWords

FORMAT_VERSION = 3
CONFIG_FILE, WEIGHTS_FILE, TEXT_FOLDER = "config.json", "model.safetensors", "text_tower"


class DualEncoder(EditableEncoder):
    """CLIP-Lite's two towers with a shared embedding space.

    The score of a pair is exp(t)·⟨û, v̂⟩ with t learned from log(initial_scale). Erasers attached with
    ``attach`` edit what ``encode_image`` returns, and ``neutral``, if there is any, rewords what
    ``encode_text`` is given, as the training captions were; both unless ``erase`` is set to False.
    """

    def __init__(
        self,
        text_tower: TextTower,
        *,
        image_tower: str = "resnet18",
        small_images: bool = True,
        embedding_dim: int = 512,
        image_size: int = 64,
        initial_scale: float = 1 / 0.07,
    ) -> None:
        super().__init__()
        self.settings = {
            "image_tower": image_tower,
            "small_images": small_images,
            "embedding_dim": embedding_dim,
            "image_size": image_size,
        }
        self.embedding_dim, self.image_size = embedding_dim, image_size
        self.image_tower, self.feature_dim = make_image_tower(
            image_tower, small_images=small_images, image_size=image_size
        )
        self.text_tower = text_tower
        self.image_head = ProjectionHead(self.feature_dim, embedding_dim)
        self.text_head = ProjectionHead(text_tower.dim, embedding_dim)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(initial_scale)))
        self.neutral: NeutralWords | None = None

    def image_transform(self, images: Tensor) -> Tensor:
        """uint8 ``(n, 3, H, W)`` of any size → normalised float32 at the model's size."""
        size = [self.image_size] * 2
        if list(images.shape[-2:]) != size:
            images = (
                F.interpolate(images.float(), size, mode="bilinear", antialias=True).round().to(torch.uint8)
            )
        return normalise(images)

    def unedited(self, pixels: Tensor) -> ImageFeatures:
        """Normalised pictures ``(n, 3, H, W)`` → features and embeddings before any edit."""
        features = self.image_tower(pixels)
        return ImageFeatures(features.float(), F.normalize(self.image_head(features).float(), dim=-1))

    def project_text(self, features: Tensor) -> Tensor:
        """Text-tower features ``(n, f)`` → unit-norm embeddings ``(n, d)``."""
        return F.normalize(self.text_head(features).float(), dim=-1)

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Texts, reworded and cleaned as in training → unit-norm embeddings ``(n, d)``, for evaluation."""
        if self.neutral and self.erase:
            texts = [self.neutral(text) for text in texts]
        features = pooled_texts(self.text_tower, [clean(text) for text in texts])
        return self.project_text(features.to(self.logit_scale.device))

    def fresh(self, seed: int) -> DualEncoder:
        """The same architecture with new random weights in image tower and heads."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            new = DualEncoder(self.text_tower, **self.settings)
        return new.to(self.logit_scale.device).eval()

    def describe(self) -> dict[str, Any]:
        """``architecture``, ``image_tower``, ``image_weights`` and ``text_tower``, in words."""
        return {
            "architecture": "CLIP-Lite dual encoder",
            "image_tower": self.settings["image_tower"],
            "image_weights": "as saved",
            "text_tower": self.text_tower.source,
        }

    @property
    def seeing(self) -> nn.Module:
        """The image tower, for Grad-CAM."""
        return self.image_tower

    def save_pretrained(self, folder: Path) -> None:
        """Write ``config.json``, ``model.safetensors`` and the tokenizer; replaces ``folder`` atomically."""
        config = {
            "format_version": FORMAT_VERSION,
            "architecture": type(self).__name__,
            **self.settings,
            "erasers": {name: eraser.spec() for name, eraser in self.attached.items()},
            "neutral": self.neutral.replacements if self.neutral else None,
        }
        with atomic_folder(Path(folder)) as scratch:
            (scratch / CONFIG_FILE).write_text(json.dumps(config, indent=1), encoding="utf-8")
            state = {  # copies, for safetensors refuses tied weights
                name: tensor.clone(memory_format=torch.contiguous_format)
                for name, tensor in self.state_dict().items()
            }
            save_file(state, scratch / WEIGHTS_FILE)
            (scratch / WEIGHTS_FILE).chmod(0o644)
            (scratch / TEXT_FOLDER).mkdir()
            self.text_tower.save_architecture(scratch / TEXT_FOLDER)

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> DualEncoder:
        """Load what ``save_pretrained`` wrote, in evaluation mode, erasers on.

        Raises:
            UsageError: the folder is no saved model, is of another version, or is damaged.
        """
        folder = Path(folder)
        try:
            config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            weights = load_file(folder / WEIGHTS_FILE)
        except (OSError, json.JSONDecodeError, SafetensorError) as error:
            raise UsageError(f"{folder} is not a saved model: {error}") from error
        if config.pop("format_version", None) != FORMAT_VERSION:
            raise UsageError(f"{folder / CONFIG_FILE}: format_version must be {FORMAT_VERSION}")
        try:
            config.pop("architecture")
            specs, neutral = config.pop("erasers"), config.pop("neutral")
            model = cls(TextTower.from_folder(folder / TEXT_FOLDER), **config)
            model.attach({name: Eraser.from_spec(spec) for name, spec in specs.items()})
            model.load_state_dict(weights)
            model.neutral = NeutralWords(neutral) if neutral else None
        except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"{folder}: {CONFIG_FILE} does not fit the other files: {reason}") from error
        return model.eval()
