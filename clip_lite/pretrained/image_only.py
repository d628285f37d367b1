"""Image towers of timm and torchvision with their published weights, without a text tower."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.transforms import CenterCrop, Resize

from clip_lite.editable import EditableEncoder
from clip_lite.encoder import ImageFeatures
from clip_lite.errors import UsageError
from clip_lite.image_towers import TIMM, image_tower, load_image_weights
from clip_lite.pretrained.pictures import Steps, normalised, prepared, split
from clip_lite.pretrained.reasons import check_safetensors, loading, why
from clip_lite.pretrained.saved import Note, save

WEIGHTS_FILE = "model.safetensors"


class ImageOnlyEncoder(EditableEncoder):
    """A tower of timm or torchvision; its embedding is the direction of its features.

    Args:
        tower: pictures ``(n, 3, s, s)`` → features ``(n, f)``.
        library: ``timm`` or ``torchvision``.
        architecture: the library's name of the tower.
        steps, mean, std: the library's own preprocessing for these weights.
        image_weights: where the weights come from, in words.
    """

    has_text = False

    def __init__(
        self,
        tower: nn.Module,
        *,
        library: str,
        architecture: str,
        steps: Steps,
        mean: Sequence[float],
        std: Sequence[float],
        image_weights: str,
    ) -> None:
        super().__init__()
        self.tower = tower.float()
        self.library, self.architecture, self.image_weights = library, architecture, image_weights
        self.prepare, self.mean, self.std = steps, list(mean), list(std)
        self.image_size = steps.size
        self.settings = {
            "library": library,
            "library_version": version(library),
            "model": architecture,
            "preprocessing": {
                "steps": [" ".join(repr(step).split()) for step in steps.steps],
                "mean": self.mean,
                "std": self.std,
            },
        }
        self.eval()
        with torch.no_grad():
            blank = torch.zeros(1, 3, self.image_size, self.image_size, device=self.device)
            features = self.tower(blank)
        if features.ndim != 2:
            raise UsageError(f"{library}:{architecture} does not pool its features, take another")
        self.feature_dim = self.embedding_dim = features.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.tower.parameters()).device

    def image_transform(self, images: Tensor) -> Tensor:
        """uint8 ``(n, 3, H, W)`` → normalised float32 at the model's size."""
        assert self.prepare is not None
        return normalised(prepared(images, self.prepare), self.mean, self.std)

    def unedited(self, pixels: Tensor) -> ImageFeatures:
        """Transformed pictures → features, and their directions as embeddings, before any edit."""
        features = self.tower(pixels).float()
        return ImageFeatures(features, F.normalize(features, dim=-1))

    def encode_text(self, texts: Sequence[str]) -> Tensor:  # noqa: ARG002, the contract's signature
        """There is nothing to encode a text with.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{self.library}:{self.architecture} has no text tower")

    def fresh(self, seed: int) -> ImageOnlyEncoder:
        """The same architecture with new random weights."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            tower = self._untrained()
        assert isinstance(self.prepare, Steps)
        return ImageOnlyEncoder(
            tower.to(self.device),
            library=self.library,
            architecture=self.architecture,
            steps=self.prepare,
            mean=self.mean,
            std=self.std,
            image_weights="random initialisation",
        )

    def describe(self) -> dict[str, Any]:
        """``architecture``, ``image_tower``, ``image_weights`` and ``text_tower``, in words."""
        return {
            "architecture": f"image tower of {self.library} {version(self.library)}",
            "image_tower": f"{self.architecture}, {self.image_size} px",
            "image_weights": self.image_weights,
            "text_tower": "none",
        }

    @property
    def seeing(self) -> nn.Module:
        """The tower, for Grad-CAM."""
        return self.tower

    def save_pretrained(self, folder: Path) -> None:
        """Write timm's own layout, or torchvision's weights, with the erasers; replaces ``folder``."""
        details = {} if self.library == "timm" else {"architecture": self.architecture}
        save(self, folder, Note(self.library, self.image_weights, details=details), self._write)

    def _write(self, folder: Path) -> None:
        if self.library == "timm":
            timm.models.save_for_hf(self.tower, str(folder), safe_serialization=True)
        else:
            state = {name: tensor.contiguous() for name, tensor in self.tower.state_dict().items()}
            save_file(state, folder / WEIGHTS_FILE)

    def _untrained(self) -> nn.Module:
        if self.library == "torchvision":
            return image_tower(self.architecture, small_images=False, image_size=self.image_size)[0]
        return timm.create_model(
            self.architecture, pretrained=False, **timm.models.get_model_args(self.tower)
        )


def load_timm(name: str, *, image_weights: str | None = None) -> ImageOnlyEncoder:
    """A tower of timm: its name with or without tag, ``hf-hub:ORG/NAME``, or a directory in its layout.

    Raises:
        UsageError: no such tower, or weights that cannot be had here.
    """
    folder = Path(name.removeprefix("local-dir:"))
    with loading(f"timm:{name}"):
        if folder.is_dir():
            check_safetensors(folder)
            tower, origin = _strictly(f"local-dir:{folder}"), str(folder)
        elif name.startswith("hf-hub:"):
            tower, origin = _strictly(name), name
        else:
            _check_timm_name(name)
            tower = timm.create_model(name, pretrained=False, num_classes=0)
            origin = _load_published(tower, TIMM + name, said=f"timm:{name}")
        config = timm.data.resolve_model_data_config(tower)
        transform = timm.data.create_transform(**config, is_training=False)
    steps, mean, std = split(transform, name=f"timm:{name}")
    return ImageOnlyEncoder(
        tower,
        library="timm",
        architecture=tower.pretrained_cfg["architecture"],
        steps=steps,
        mean=mean,
        std=std,
        image_weights=image_weights or origin,
    )


def load_torchvision(
    name: str, *, folder: Path | None = None, image_weights: str | None = None
) -> ImageOnlyEncoder:
    """A classifier of torchvision without its classifier, with its default weights or those of a folder.

    Raises:
        UsageError: no such classifier, or weights that cannot be had here.
    """
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise UsageError(
            f"torchvision has no classifier {name!r}, expected one of torchvision.models.list_models()"
        )
    expects = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    tower, _ = image_tower(name, small_images=False, image_size=expects.crop_size[0])
    with loading(f"torchvision:{name}" if folder is None else str(folder)):
        if folder is None:
            origin = _load_published(tower, name, said=f"torchvision:{name}")
        else:
            tower.load_state_dict(load_file(folder / WEIGHTS_FILE))
            origin = str(folder)
    resize = Resize(expects.resize_size, expects.interpolation, antialias=expects.antialias)
    return ImageOnlyEncoder(
        tower,
        library="torchvision",
        architecture=name,
        steps=Steps([resize, CenterCrop(expects.crop_size)], name=f"torchvision:{name}"),
        mean=expects.mean,
        std=expects.std,
        image_weights=image_weights or origin,
    )


def _strictly(name: str) -> Any:
    """A pre-trained tower of timm; its classifier goes last, for without one weights may miss unsaid."""
    tower: Any = timm.create_model(name, pretrained=True)
    tower.reset_classifier(0)
    return tower


def _load_published(tower: nn.Module, name: str, *, said: str) -> str:
    """Load the published weights into a tower; returns where they come from, in words."""
    try:
        return load_image_weights(tower, name, source="pretrained")
    except UsageError as error:
        raise UsageError(why(said, error)) from error


def _check_timm_name(name: str) -> None:
    if not timm.is_model(name):
        raise UsageError(
            f"timm has no tower {name!r}, expected one of timm.list_models(), hf-hub:ORG/NAME or a directory"
        )
