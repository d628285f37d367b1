"""Models of open_clip."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from clip_lite.editable import EditableEncoder
from clip_lite.encoder import ImageFeatures
from clip_lite.errors import UsageError
from clip_lite.pretrained.pictures import normalised, prepared, split
from clip_lite.pretrained.reasons import check_safetensors, loading
from clip_lite.pretrained.saved import Note, save
from clip_lite.pretrained.texts import embedded

CONFIG_FILE, WEIGHTS_FILE = "open_clip_config.json", "open_clip_model.safetensors"


def library() -> Any:
    """open_clip, which is optional.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import open_clip
    except ImportError as error:
        raise UsageError(
            "models of open_clip need a package: pip install open_clip_torch (or pip install "
            "'clip-lite[open_clip]')"
        ) from error
    return open_clip


class OpenClipEncoder(EditableEncoder):
    """An open_clip model behind ``EditableEncoder``.

    ``features`` are the pooled output of the image tower before its projection, where the tower keeps the two
    apart (its own vision transformer, timm's towers), else the embedding before it is normalised.

    Args:
        model, tokenizer: of open_clip.
        config: its ``model_cfg``.
        name: where they come from, for messages.
        image_weights: where the weights come from, in words.
    """

    def __init__(
        self, model: Any, tokenizer: Any, config: dict[str, Any], *, name: str, image_weights: str
    ) -> None:
        super().__init__()
        self.model: Any = model.float()
        self.tokenizer, self.config = tokenizer, config
        self.name, self.image_weights = name, image_weights
        open_clip, preprocess = library(), dict(model.visual.preprocess_cfg)
        transform = open_clip.transform.image_transform_v2(
            open_clip.transform.PreprocessCfg(**preprocess), is_train=False
        )
        self.prepare, self.mean, self.std = split(transform, name=name)
        self.image_size = self.prepare.size
        self.settings = json.loads(
            json.dumps(
                {
                    "library": "open_clip",
                    "library_version": version("open_clip_torch"),
                    "model": config,
                    "preprocessing": preprocess,
                    "tokenizer": type(tokenizer).__name__,
                }
            )
        )
        self.eval()
        with torch.no_grad():
            blank = torch.zeros(1, 3, self.image_size, self.image_size, device=self.device)
            image = self.unedited(blank)
        self.feature_dim, self.embedding_dim = image.features.shape[1], image.embedding.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.model.logit_scale.device

    def image_transform(self, images: Tensor) -> Tensor:
        """uint8 ``(n, 3, H, W)`` → normalised float32 at the model's size."""
        assert self.prepare is not None
        return normalised(prepared(images, self.prepare), self.mean, self.std)

    def unedited(self, pixels: Tensor) -> ImageFeatures:
        """Transformed pictures → features and embeddings before any edit."""
        visual = self.model.visual
        if isinstance(getattr(visual, "trunk", None), nn.Module):
            features = visual.trunk(pixels)
            embedding = visual.head(features)
        elif isinstance(getattr(visual, "proj", None), Tensor) and not visual.output_tokens:
            features = _before_projection(visual, pixels)
            embedding = features @ visual.proj
        else:
            features = embedding = self.model.encode_image(pixels)
        if features.ndim != 2:  # a head that pools
            features = embedding
        return ImageFeatures(features.float(), F.normalize(embedding.float(), dim=-1))

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Texts → unit-norm embeddings ``(n, d)``."""

        def encode(batch: list[str]) -> Tensor:
            return self.model.encode_text(self.tokenizer(batch).to(self.device))

        return embedded(texts, encode, dim=self.embedding_dim, device=self.device)

    def fresh(self, seed: int) -> OpenClipEncoder:
        """The same architecture with new random weights in its image tower; the text tower is shared."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            built = type(self.model)(**_arguments(self.config))
        new = copy.copy(self.model)
        new._modules = self.model._modules | {"visual": built.visual.to(self.device)}
        library().model.set_model_preprocess_cfg(new, self.model.visual.preprocess_cfg)
        return OpenClipEncoder(
            new, self.tokenizer, self.config, name=self.name, image_weights="random initialisation"
        )

    def describe(self) -> dict[str, Any]:
        """``architecture``, ``image_tower``, ``image_weights`` and ``text_tower``, in words."""
        text = getattr(self.model, "text", self.model)
        return {
            "architecture": f"{type(self.model).__name__} of open_clip {version('open_clip_torch')}",
            "image_tower": f"{type(self.seeing).__name__}, {self.image_size} px",
            "image_weights": self.image_weights,
            "text_tower": type(text.transformer).__name__,
        }

    @property
    def seeing(self) -> nn.Module:
        """The image tower, for Grad-CAM."""
        trunk = getattr(self.model.visual, "trunk", None)
        return trunk if isinstance(trunk, nn.Module) else self.model.visual

    def save_pretrained(self, folder: Path) -> None:
        """Write open_clip's ``local-dir`` layout with the erasers; replaces ``folder`` atomically."""
        save(self, folder, Note("open_clip", self.image_weights), self._write)

    def _write(self, folder: Path) -> None:
        content = {"model_cfg": self.config, "preprocess_cfg": dict(self.model.visual.preprocess_cfg)}
        (folder / CONFIG_FILE).write_text(json.dumps(content, indent=2), encoding="utf-8")
        state = {name: tensor.clone().contiguous() for name, tensor in self.model.state_dict().items()}
        save_file(state, folder / WEIGHTS_FILE)
        if hasattr(self.tokenizer, "save_pretrained"):
            self.tokenizer.save_pretrained(folder)


def load_open_clip(name: str, *, image_weights: str | None = None) -> OpenClipEncoder:
    """A model of open_clip: a directory, ``NAME/TAG``, ``hf-hub:ORG/NAME``; in evaluation mode, as float32.

    A name without tag is taken where the library knows one set of weights for it alone.

    Raises:
        UsageError: no such name, weights that cannot be had here, or open_clip is not installed.
    """
    open_clip = library()
    model_name, tag = _resolved(name, open_clip)
    pretrained = open_clip.get_pretrained_cfg(model_name, tag) if tag else {}
    quick = bool(pretrained.get("quick_gelu", False))
    with loading(f"open_clip:{name}"):
        config = open_clip.get_model_config(model_name)
        model = open_clip.create_model(model_name, tag, force_quick_gelu=quick, require_pretrained=True)
        tokenizer = open_clip.get_tokenizer(model_name)
    if quick:
        config["quick_gelu"] = True
    return OpenClipEncoder(model, tokenizer, config, name=name, image_weights=image_weights or name)


def _resolved(name: str, open_clip: Any) -> tuple[str, str | None]:
    """open_clip's own name for a model, and the tag of its weights."""
    if name.startswith(("hf-hub:", "local-dir:")):
        return name, None
    if Path(name).is_dir():
        check_safetensors(Path(name))
        return f"local-dir:{name}", None
    known = open_clip.list_models()
    whole, (stem, _, tag) = name.replace("/", "-"), name.rpartition("/")
    if whole in known:
        tags = open_clip.list_pretrained_tags_by_model(whole)
        if len(tags) == 1:
            return whole, tags[0]
        said = ", ".join(tags) or "none"
        raise UsageError(f"open_clip:{name} does not say which weights: add /TAG, one of {said}")
    model = stem.replace("/", "-")
    if model not in known:
        raise UsageError(
            f"open_clip has no model {name!r}, expected a directory, hf-hub:ORG/NAME or NAME/TAG with a NAME "
            f"of open_clip.list_models()"
        )
    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag not in tags:
        raise UsageError(f"open_clip has no weights {tag!r} for {model}, expected one of {', '.join(tags)}")
    return model, tag


def _before_projection(visual: Any, pixels: Tensor) -> Tensor:
    """Pooled output of open_clip's vision transformer, whose projection is the last thing it does."""
    projection, visual.proj = visual.proj, None
    try:
        return visual(pixels)
    finally:
        visual.proj = projection


def _arguments(config: dict[str, Any]) -> dict[str, Any]:
    """What a model's class is built with, nothing of it pre-trained."""
    arguments = copy.deepcopy(config)
    arguments.pop("custom_text", None)
    if "timm_model_name" in arguments["vision_cfg"]:
        arguments["vision_cfg"]["timm_model_pretrained"] = False
    if "hf_model_name" in arguments["text_cfg"]:
        arguments["text_cfg"]["hf_model_pretrained"] = False
    return arguments
