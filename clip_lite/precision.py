"""Where arithmetic runs, and where it may be narrowed."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from clip_lite.errors import UsageError

NARROW = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(name: str, *, key: str = "training.device") -> torch.device:
    """The device that ``key`` of a configuration names; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        UsageError: no such device, here or at all.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"{key} {name!r} cannot be used here, expected auto, cpu or cuda") from error
    return torch.device(name)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 natively."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def resolve_precision(device: torch.device, precision: str) -> str:
    """``auto`` is bfloat16 where it is native, else float32; every other name is itself."""
    if precision == "auto":
        return "bfloat16" if has_bfloat16(device) else "float32"
    return precision


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Autocast to ``bfloat16`` or ``float16``, also as ``auto`` resolves; ``float32`` changes nothing."""
    narrow = NARROW.get(resolve_precision(device, precision))
    return torch.autocast(device.type, narrow or torch.bfloat16, enabled=narrow is not None)
