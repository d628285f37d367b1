"""``Eraser``: a frozen affine edit of vectors that travels as safetensors and JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

SCHEMA_VERSION = 1
SPEC_FILE, TENSOR_FILE = "eraser.json", "eraser.safetensors"
_NO_FLOAT64 = frozenset({"mps"})
_SPEC_TYPES = {"method": str, "dim": int, "rank": int, "changes_images": bool, "details": dict}


class EraserFileError(ValueError):
    """A saved eraser or its spec that is incomplete, altered or of another version; one line."""


class Eraser(nn.Module):
    """The edit x ↦ x − ((x − mean) right) leftᵀ.

    The buffers stay float64 when a parent module is cast to a smaller dtype: a mean or an oblique projection
    rounded to bfloat16 lets back in what it was fitted to remove.

    Args:
        mean: ``(d,)``; ``left``, ``right``: ``(d, rank)``.
        method: what fitted it, e.g. ``leace``.
        changes_images: whether it edits image vectors; if not, leakage from images stays as it is.
        details: JSON-able provenance, e.g. calibration size.

    Raises:
        ValueError: shapes that do not fit, or numbers that are not finite.
        TypeError: ``details`` that JSON cannot carry.
    """

    mean: Tensor
    left: Tensor
    right: Tensor

    def __init__(
        self,
        mean: Tensor,
        left: Tensor,
        right: Tensor,
        *,
        method: str,
        changes_images: bool,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if mean.ndim != 1 or left.ndim != 2 or left.shape != right.shape or len(left) != len(mean):
            shapes = [tuple(tensor.shape) for tensor in (mean, left, right)]
            raise ValueError(f"mean, left, right have shapes {shapes}, expected (d,), (d, rank), (d, rank)")
        for name, tensor in (("mean", mean), ("left", left), ("right", right)):
            if not tensor.isfinite().all():
                raise ValueError(f"{name} holds numbers that are not finite")
            exact = tensor.detach().double().clone(memory_format=torch.contiguous_format)
            self.register_buffer(name, exact)
        self.method = method
        self.changes_images = changes_images
        self.details: dict[str, Any] = json.loads(json.dumps(dict(details or {}), allow_nan=False))

    @property
    def dim(self) -> int:
        """Width d of the vectors."""
        return self.left.shape[0]

    @property
    def rank(self) -> int:
        """Number of directions removed."""
        return self.left.shape[1]

    def forward(self, x: Tensor) -> Tensor:
        """Edit ``(..., d)`` on its own device, in float64; half precision comes back as float32.

        Raises:
            ValueError: the last axis is not ``dim`` wide.
        """
        if x.shape[-1:] != (self.dim,):
            raise ValueError(f"x has shape {tuple(x.shape)}, expected (..., {self.dim})")
        device = torch.device("cpu") if x.device.type in _NO_FLOAT64 else x.device
        exact = x.to(device).double()
        mean, left, right = (buffer.to(device) for buffer in (self.mean, self.left, self.right))
        edited = exact - ((exact - mean) @ right) @ left.mT
        return edited.to(torch.promote_types(x.dtype, torch.float32)).to(x.device)

    def spec(self) -> dict[str, Any]:
        """Everything but the numbers, as JSON carries it; the inverse of ``from_spec``."""
        return {key: getattr(self, key) for key in _SPEC_TYPES}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Self:
        """An eraser of the right shape with zero buffers, for a parent's ``load_state_dict`` to fill.

        Raises:
            EraserFileError: a key is missing or has a wrong value.
        """
        _check_spec(spec, source="eraser spec")
        sides = torch.zeros(spec["dim"], spec["rank"])
        return cls(torch.zeros(spec["dim"]), sides, sides, **_settings(spec))

    def save(self, directory: Path | str) -> None:
        """Write ``eraser.safetensors`` and ``eraser.json``, which holds spec and digest of the former."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = save({name: buffer.cpu() for name, buffer in self.named_buffers()})
        digest = hashlib.sha256(tensors).hexdigest()
        spec = {"schema_version": SCHEMA_VERSION, **self.spec(), "sha256": digest}
        _write(folder / TENSOR_FILE, tensors)
        _write(folder / SPEC_FILE, json.dumps(spec, indent=1).encode())

    @classmethod
    def load(cls, directory: Path | str) -> Self:
        """Read what ``save`` wrote.

        Raises:
            EraserFileError: a file is missing, altered, of another version, or does not fit the other.
        """
        folder = Path(directory)
        try:
            spec = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8"))
            blob = (folder / TENSOR_FILE).read_bytes()
        except (OSError, ValueError) as error:
            raise EraserFileError(f"{folder} is not a saved eraser: {error}") from error
        version = spec.get("schema_version") if isinstance(spec, dict) else None
        if version != SCHEMA_VERSION:
            raise EraserFileError(
                f"{folder / SPEC_FILE}: schema_version is {version!r}, this release reads {SCHEMA_VERSION}"
            )
        _check_spec(spec, source=str(folder / SPEC_FILE))
        if hashlib.sha256(blob).hexdigest() != spec.get("sha256"):
            raise EraserFileError(f"{folder / TENSOR_FILE} does not have the sha256 that {SPEC_FILE} gives")
        tensors = _tensors(blob, spec, source=folder / TENSOR_FILE)
        return cls(tensors["mean"], tensors["left"], tensors["right"], **_settings(spec))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: ARG002, torch's signature
        """Follow a parent to another device, but keep float64 and stay on the CPU for devices without it."""
        for name, buffer in self.named_buffers():
            target = fn(torch.empty(0, device=buffer.device)).device
            if target.type in _NO_FLOAT64:
                continue
            moved = fn(buffer)
            setattr(self, name, moved if moved.dtype == torch.float64 else buffer.to(target))
        return self


def _settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {key: spec[key] for key in ("method", "changes_images", "details")}


def _check_spec(spec: Mapping[str, Any], *, source: str) -> None:
    problems = list(_spec_problems(spec))
    if problems:
        raise EraserFileError(f"{source}: {'; '.join(problems)}")


def _spec_problems(spec: Mapping[str, Any]) -> Iterator[str]:
    wrong = [key for key, kind in _SPEC_TYPES.items() if type(spec.get(key)) is not kind]
    for key in wrong:
        yield f"{key} is {spec.get(key)!r}, expected {_SPEC_TYPES[key].__name__}"
    if not {"dim", "rank"} & set(wrong) and not 0 <= spec["rank"] <= spec["dim"]:
        yield f"rank is {spec['rank']}, expected 0 to dim, which is {spec['dim']}"


def _tensors(blob: bytes, spec: Mapping[str, Any], *, source: Path) -> dict[str, Tensor]:
    try:
        tensors = load(blob)
    except SafetensorError as error:
        raise EraserFileError(f"{source} is not a safetensors file: {error}") from error
    sides = (spec["dim"], spec["rank"])
    expected = {"mean": sides[:1], "left": sides, "right": sides}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != expected:
        raise EraserFileError(f"{source} holds {found}, expected {expected}")
    return tensors


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)
