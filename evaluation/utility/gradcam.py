"""Grad-CAM of the image-text score (Selvaraju et al. 2017): where in a picture a text is seen.

The gradient of the score at the last map of the image tower, averaged over places, weighs its channels; their
sum, cut at zero, is the heat map. A convolutional tower's last map is the last square output larger than one
place. In a vision transformer that pools the class token, the last block's other tokens no longer reach the
score; its map is what the last block's attention reads (the output of its first norm), without prefix tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from math import isqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip_lite.editable import EditableEncoder
from clip_lite.encoder import Edit

BATCH = 64
# where vision transformers keep their blocks, and what a block calls its first norm: timm, torchvision,
# open_clip, transformers
BLOCKS = ("blocks", "encoder.layers", "transformer.resblocks", "encoder.layer", "layers")
FIRST_NORMS = ("norm1", "ln_1", "layer_norm1", "layernorm_before")


def heat_maps(
    model: EditableEncoder, pixels: Tensor, text: Tensor, *, layer: nn.Module, edit: Edit | None = None
) -> Tensor:
    """Heat map of each picture for its own text, float32 ``(n, H, W)`` on the CPU, largest value 1.

    A picture in which nothing speaks for the text has a map of zeros. Weights, their gradients and the mode
    of the model stay as they are.

    Args:
        model: the encoder; its own erasers act while ``model.erase`` holds.
        pixels: transformed pictures ``(n, 3, H, W)``.
        text: unit-norm embeddings ``(n, d)``.
        layer: of the image tower, see ``target_layer``; gives a map ``(n, c, h, w)`` or tokens ``(n, t, c)``.
        edit: of the image embedding, before it is compared.

    Raises:
        ValueError: not one text per picture.
    """
    if len(pixels) != len(text):
        raise ValueError(f"{len(pixels)} pictures but {len(text)} texts")
    parts = []
    with _evaluating(model):
        for images, texts in zip(pixels.split(BATCH), text.split(BATCH), strict=True):
            read = _activation(model, layer, images, texts, edit)
            parts.append(_upsampled(*read, pixels.shape[-2:]))
    return torch.cat(parts)


def target_layer(tower: nn.Module, pixels: Tensor) -> nn.Module:
    """The layer whose output is the last map of a tower; ``pixels`` ``(1, 3, H, W)`` are run through it.

    Raises:
        ValueError: the tower has none.
    """
    inner = getattr(tower, "tower", tower)  # towers of another normalisation are wrapped
    for path in BLOCKS:
        blocks: Any = reduce(lambda module, name: getattr(module, name, None), path.split("."), inner)
        if isinstance(blocks, nn.Sequential | nn.ModuleList) and len(blocks):
            norms = [getattr(blocks[-1], name, None) for name in FIRST_NORMS]
            if norm := next((each for each in norms if isinstance(each, nn.LayerNorm)), None):
                return norm
    found: list[nn.Module] = []

    def notice(module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(
            module, nn.Dropout | nn.Softmax
        ):  # their square outputs may be attention between places
            return
        if (
            isinstance(output, Tensor)
            and output.ndim == 4
            and (output.shape[3] == output.shape[2] > 1 or _channels_last(output))
        ):
            found.append(module)

    hooks = [module.register_forward_hook(notice) for module in inner.modules() if module is not inner]
    try:
        with torch.no_grad(), _evaluating(tower):
            tower(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise ValueError(f"{type(inner).__name__} has no map of places that Grad-CAM could read")
    return found[-1]


def _activation(
    model: EditableEncoder, layer: nn.Module, pixels: Tensor, text: Tensor, edit: Edit | None
) -> tuple[Tensor, Tensor]:
    """Output of the layer and the gradient of the score there."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        kept.append(output.detach().clone().requires_grad_())
        return kept[-1].clone()  # what follows may work in place

    hook = layer.register_forward_hook(keep)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            embedding = model.encode_image(pixels.clone()).embedding
            if edit:
                embedding = edit(embedding)
            score = (F.normalize(embedding, dim=-1) * text.clone().to(embedding)).sum()
            (gradient,) = torch.autograd.grad(score, kept[-1])
    finally:
        hook.remove()
    return kept[-1].detach(), gradient


def _upsampled(activation: Tensor, gradient: Tensor, size: torch.Size) -> Tensor:
    activation, gradient = _as_map(activation), _as_map(gradient)
    weight = gradient.mean(dim=(2, 3), keepdim=True)
    heat = (weight * activation).sum(dim=1, keepdim=True).relu().float()
    heat = F.interpolate(heat, list(size), mode="bilinear", align_corners=False)[:, 0].cpu()
    top = heat.amax(dim=(1, 2), keepdim=True)
    return heat / torch.where(top > 0, top, 1.0)


def _as_map(output: Tensor) -> Tensor:
    """Maps as they are; of tokens ``(n, t, c)`` the last h·h as a square, what stands before is prefix."""
    if output.ndim == 4:
        return output.permute(0, 3, 1, 2) if _channels_last(output) else output
    side = isqrt(output.shape[1])
    return output[:, -side * side :].mT.unflatten(2, (side, side))


def _channels_last(output: Tensor) -> bool:
    return output.shape[1] == output.shape[2] > 1 and output.shape[2] != output.shape[3]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
