"""Parts that a configuration names: one of ours, or the person's own class."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

from torch import nn

from clip_lite.errors import UsageError


def load_part(
    name: str, options: Mapping[str, Any], *, known: Mapping[str, type], key: str, arguments: Sequence[str]
) -> Any:
    """The known part of that name, or an own class ``package.module.Class``, made with the options.

    Args:
        key: of the configuration, for messages; its options are under ``{key}_options``.
        arguments: what the part will be called with.

    Raises:
        UsageError: no such part, options that it does not take, or it cannot be called so.
    """
    chosen = known.get(name) or _import(name, known, key)
    signature = inspect.signature(chosen)
    unknown = sorted(map(str, set(options) - set(signature.parameters)))
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        takes = ", ".join(signature.parameters) or "none"
        raise UsageError(f"{key}_options: {name} has no {', '.join(unknown)} (its options: {takes})")
    _check_choices(chosen, options, key)
    try:
        part = chosen(**options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{key}_options do not fit {name}: {error}") from error
    call = part.forward if isinstance(part, nn.Module) else part
    try:
        inspect.signature(call).bind(*arguments)
    except TypeError as error:
        raise UsageError(f"{key} {name} cannot be called with ({', '.join(arguments)}): {error}") from error
    return part


def _import(name: str, known: Mapping[str, type], key: str) -> type:
    module, _, attribute = name.rpartition(".")
    if not module:
        raise UsageError(
            f"{key} is {name!r}, expected one of {', '.join(known)} or your own package.module.Class"
        )
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except (ImportError, TypeError, ValueError) as error:
        raise UsageError(f"{key} is {name!r}, but {module!r} cannot be imported: {error}") from error
    if not inspect.isclass(found):
        raise UsageError(f"{key} is {name!r}, but {module} has no class {attribute!r}")
    return found


def _check_choices(chosen: type, options: Mapping[str, Any], key: str) -> None:
    for option, hint in get_type_hints(chosen.__init__).items():  # type: ignore[misc]
        if option in options and get_origin(hint) is Literal and options[option] not in get_args(hint):
            expected = " or ".join(map(str, get_args(hint)))
            raise UsageError(f"{key}_options.{option} is {options[option]!r}, expected {expected}")
