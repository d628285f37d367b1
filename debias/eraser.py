"""``Eraser``: a frozen affine edit of vectors that travels as safetensors and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from debias.eraser_files import (
    SPEC_FILE,
    EraserFileError,
    check_spec,
    read_spec,
    read_tensors,
    write_files,
)

_NO_FLOAT64 = frozenset({"mps"})
# What is left of a direction that is shrunk by more than this does not survive float32 output.
FITTED_ON = "fitted_on"  # of ``details``: digest of the pictures, where they are a corpus's split
_SHRUNK_AWAY = 1e-6


class Eraser(nn.Module):
    """The edit x ↦ x + offset − ((x − mean) right) leftᵀ.

    The buffers stay float64 when a parent module is cast to a smaller dtype: a mean or an oblique projection
    rounded to bfloat16 lets back in what it was fitted to remove.

    Args:
        mean: ``(d,)``; ``left``, ``right``: ``(d, rank)``.
        method: what fitted it, e.g. ``leace``.
        changes_images: whether it edits image vectors; if not, leakage from images stays as it is.
        details: JSON-able provenance, e.g. calibration size.
        offset: ``(d,)``, zero by default.

    Raises:
        ValueError: shapes that do not fit, or numbers that are not finite.
        TypeError: ``details`` that JSON cannot carry.
    """

    kind: ClassVar[str] = "affine"
    spec_types: ClassVar[Mapping[str, type]] = {
        "kind": str,
        "method": str,
        "dim": int,
        "rank": int,
        "changes_images": bool,
        "details": dict,
    }
    mean: Tensor
    left: Tensor
    right: Tensor
    offset: Tensor

    def __init__(
        self,
        mean: Tensor,
        left: Tensor,
        right: Tensor,
        *,
        method: str,
        changes_images: bool,
        details: Mapping[str, Any] | None = None,
        offset: Tensor | None = None,
    ) -> None:
        super().__init__()
        if mean.ndim != 1 or left.ndim != 2 or left.shape != right.shape or len(left) != len(mean):
            shapes = [tuple(tensor.shape) for tensor in (mean, left, right)]
            raise ValueError(f"mean, left, right have shapes {shapes}, expected (d,), (d, rank), (d, rank)")
        shift = torch.zeros_like(mean) if offset is None else offset
        if shift.shape != mean.shape:
            raise ValueError(f"offset has shape {tuple(shift.shape)}, expected {tuple(mean.shape)}")
        self._keep({"mean": mean, "left": left, "right": right, "offset": shift})
        self._describe(method=method, changes_images=changes_images, details=details)

    def _keep(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            if not tensor.isfinite().all():
                raise ValueError(f"{name} holds numbers that are not finite")
            exact = tensor.detach().double().clone(memory_format=torch.contiguous_format)
            self.register_buffer(name, exact)

    def _describe(self, *, method: str, changes_images: bool, details: Mapping[str, Any] | None) -> None:
        self.method = method
        self.changes_images = changes_images
        self.details: dict[str, Any] = json.loads(json.dumps(dict(details or {}), allow_nan=False))

    @property
    def dim(self) -> int:
        """Width d of the vectors."""
        return self.left.shape[0]

    @property
    def rank(self) -> int:
        """Number of directions that it changes."""
        return self.left.shape[1]

    @property
    def invertible(self) -> bool:
        """Whether I − left rightᵀ can be undone, so that an attacker who trains anew loses nothing.

        det(I − left rightᵀ) = det(I − rightᵀ left), the determinant lemma. With left rightᵀ = U S Vᵀ this is
        asked of I − √S VᵀU √S, which does not depend on how the product is split into left and right: no
        when its smallest singular value is below 1e-6, what float32 still tells from zero.
        """
        u, s, v = _svd(self.left, self.right)
        root = s.sqrt()
        small = torch.eye(len(s), dtype=s.dtype, device=s.device) - root[:, None] * (v.mT @ u) * root
        return bool((torch.linalg.svdvals(small) > _SHRUNK_AWAY).all())

    def forward(self, x: Tensor | np.ndarray) -> Tensor | np.ndarray:
        """Edit ``(..., d)`` on its own device, in float64; half precision comes back as float32.

        A numpy array comes back as a numpy array.

        Raises:
            ValueError: the last axis is not ``dim`` wide.
        """
        return in_float64(self._edit, x, self.dim)

    def _edit(self, x: Tensor) -> Tensor:
        mean, left, right, offset = (buffer.to(x.device) for buffer in self.buffers())
        return x + offset - ((x - mean) @ right) @ left.mT

    def then(self, other: Eraser) -> Eraser:
        """First this edit, then ``other``, as one affine edit of the lowest rank that does it.

        ``details["steps"]`` holds both specs; ``changes_images`` where either does.

        Raises:
            ValueError: ``other`` is of another width or needs the group of each row.
        """
        if self.kind != "affine" or other.kind != "affine":
            raise ValueError(f"cannot join a {self.kind} and a {other.kind} eraser, expected two affine ones")
        if other.dim != self.dim:
            raise ValueError(f"cannot join an eraser of dim {other.dim} to one of dim {self.dim}")
        mean, left, right, offset = (buffer.to(self.mean.device) for buffer in other.buffers())
        through = right - self.right @ (self.left.mT @ right)
        u, s, v = _svd(torch.cat([self.left, left], dim=1), torch.cat([self.right, through], dim=1))
        return Eraser(
            self.mean,
            u * s,
            v,
            offset=self.offset + offset - left @ (right.mT @ (self.mean + self.offset - mean)),
            method=f"{self.method}+{other.method}",
            changes_images=self.changes_images or other.changes_images,
            details={"steps": [self.spec(), other.spec()]},
        )

    def at_strength(self, strength: float) -> Eraser:
        """x + strength · (edit(x) − x): the identity at 0, this edit at 1; said in ``details["strength"]``.

        Below 1 a linear projection is no longer one: it can be undone, see ``invertible``.

        Raises:
            ValueError: ``strength`` is not between 0 and 1.
        """
        scale = checked_strength(strength)
        kept = self.rank if scale else 0
        return Eraser(
            self.mean,
            scale * self.left[:, :kept],
            self.right[:, :kept],
            offset=scale * self.offset,
            method=self.method,
            changes_images=self.changes_images,
            details=self.details | {"strength": scale * self.details.get("strength", 1.0)},
        )

    def spec(self) -> dict[str, Any]:
        """Everything but the numbers, as JSON carries it; the inverse of ``from_spec``."""
        return {key: getattr(self, key) for key in self.spec_types}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Eraser:
        """An eraser of the spec's kind and shape that changes nothing, for ``load_state_dict`` to fill.

        Raises:
            EraserFileError: a key is missing or has a wrong value.
        """
        kind = _class_of(spec, source="eraser spec")
        return kind._of({name: torch.zeros(shape) for name, shape in kind._shapes(spec).items()}, spec)

    def save(self, directory: Path | str) -> None:
        """Write ``eraser.safetensors`` and ``eraser.json``, which holds spec and digest of the former."""
        write_files(Path(directory), self.spec(), dict(self.named_buffers()))

    @classmethod
    def load(cls, directory: Path | str) -> Eraser:
        """Read what ``save`` wrote, of whatever kind.

        Raises:
            EraserFileError: a file is missing, altered, of another version, or does not fit the other.
        """
        folder = Path(directory)
        spec = read_spec(folder)
        kind = _class_of(spec, source=str(folder / SPEC_FILE))
        return kind._of(read_tensors(folder, spec, kind._shapes(spec)), spec)

    @classmethod
    def _of(cls, tensors: Mapping[str, Any], spec: Mapping[str, Any]) -> Self:
        settings: dict[str, Any] = {key: spec[key] for key in ("method", "changes_images", "details")}
        return cls(**tensors, **settings)

    @staticmethod
    def _shapes(spec: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        vector, sides = (spec["dim"],), (spec["dim"], spec["rank"])
        return {"mean": vector, "left": sides, "right": sides, "offset": vector}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: ARG002, torch's signature
        """Follow a parent to another device, but keep float64 and stay on the CPU for devices without it."""
        for name, buffer in self.named_buffers():
            target = fn(torch.empty(0, device=buffer.device)).device
            if target.type in _NO_FLOAT64:
                continue
            moved = fn(buffer)
            setattr(self, name, moved if moved.dtype == torch.float64 else buffer.to(target))
        return self


def in_float64(edit: Callable[[Tensor], Tensor], x: Tensor | np.ndarray, dim: int) -> Tensor | np.ndarray:
    """``edit`` of ``(..., dim)`` in float64, back in what ``x`` was, at least float32.

    Raises:
        ValueError: the last axis is not ``dim`` wide.
    """
    rows = torch.from_numpy(np.array(x)) if isinstance(x, np.ndarray) else x
    if rows.shape[-1:] != (dim,):
        raise ValueError(f"x has shape {tuple(rows.shape)}, expected (..., {dim})")
    device = torch.device("cpu") if rows.device.type in _NO_FLOAT64 else rows.device
    edited = edit(rows.to(device).double()).to(torch.promote_types(rows.dtype, torch.float32)).to(rows.device)
    return edited.numpy() if isinstance(x, np.ndarray) else edited


def checked_strength(strength: float) -> float:
    """``strength`` if it is between 0 and 1.

    Raises:
        ValueError: it is not.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength is {strength}, expected 0 (no edit) to 1 (the full edit)")
    return float(strength)


def _svd(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """left rightᵀ = U diag(s) Vᵀ with as many columns as its numerical rank, at a cost linear in d.

    What left and right cancel to is rounding when it is below eps ‖left‖ ‖right‖ of the whole.
    """
    (q, outer), (p, inner) = torch.linalg.qr(left), torch.linalg.qr(right)
    u, s, vh = torch.linalg.svd(outer @ inner.mT)
    noise = left.shape[0] * torch.finfo(s.dtype).eps * (1 + outer.norm() * inner.norm())
    kept = s > noise * s.max() if len(s) else slice(0)
    return q @ u[:, kept], s[kept], p @ vh.mT[:, kept]


def _class_of(spec: Mapping[str, Any], *, source: str) -> type[Eraser]:
    """The class for a spec, which is checked against it."""
    from debias.groupwise import GroupwiseEraser

    kinds: dict[Any, type[Eraser]] = {each.kind: each for each in (Eraser, GroupwiseEraser)}
    if spec.get("kind") not in kinds:
        raise EraserFileError(f"{source}: kind is {spec.get('kind')!r}, expected {' or '.join(kinds)}")
    found = kinds[spec["kind"]]
    check_spec(spec, found.spec_types, source=source)
    return found
