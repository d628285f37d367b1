"""Contrastive objectives: tensors in, named scalars out."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from torch import nn

from clip_lite.errors import UsageError
from clip_lite.losses.base import ContrastiveLoss
from clip_lite.losses.infonce import InfoNCELoss
from clip_lite.losses.jsd import JSDLoss
from clip_lite.losses.siglip import SigLIPLoss

__all__ = ["ContrastiveLoss", "InfoNCELoss", "JSDLoss", "SigLIPLoss", "load_loss"]

LOSSES: dict[str, type] = {"jsd": JSDLoss, "infonce": InfoNCELoss, "siglip": SigLIPLoss}


def load_loss(name: str, options: Mapping[str, Any]) -> ContrastiveLoss:
    """The loss of that name, or the person's own class ``package.module.Class``, made with the options.

    Raises:
        UsageError: no such loss, or options that it does not take.
    """
    chosen = LOSSES.get(name) or _import(name)
    signature = inspect.signature(chosen)
    unknown = sorted(map(str, set(options) - set(signature.parameters)))
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        known = ", ".join(signature.parameters) or "none"
        raise UsageError(f"objective.loss_options: {name} has no {', '.join(unknown)} (its options: {known})")
    _check_choices(chosen, options)
    try:
        loss = chosen(**options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"objective.loss_options do not fit {name}: {error}") from error
    call = loss.forward if isinstance(loss, nn.Module) else loss
    try:
        inspect.signature(call).bind("image", "text", "negatives", "scale")
    except TypeError as error:
        raise UsageError(
            f"objective.loss {name} cannot be called with (image, text, negatives, scale): {error}"
        ) from error
    return loss


def _import(name: str) -> type:
    module, _, attribute = name.rpartition(".")
    if not module:
        known = ", ".join(LOSSES)
        raise UsageError(
            f"objective.loss is {name!r}, expected one of {known} or your own package.module.Class"
        )
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except (ImportError, TypeError, ValueError) as error:
        raise UsageError(f"objective.loss is {name!r}, but {module!r} cannot be imported: {error}") from error
    if not inspect.isclass(found):
        raise UsageError(f"objective.loss is {name!r}, but {module} has no class {attribute!r}")
    return found


def _check_choices(chosen: type, options: Mapping[str, Any]) -> None:
    for key, hint in get_type_hints(chosen.__init__).items():  # type: ignore[misc]
        if key in options and get_origin(hint) is Literal and options[key] not in get_args(hint):
            expected = " or ".join(map(str, get_args(hint)))
            raise UsageError(f"objective.loss_options.{key} is {options[key]!r}, expected {expected}")
