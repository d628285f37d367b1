"""The two files of a saved eraser: numbers as safetensors, everything else as JSON; never pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

SCHEMA_VERSION = 2
SPEC_FILE, TENSOR_FILE = "eraser.json", "eraser.safetensors"


class EraserFileError(ValueError):
    """A saved eraser or its spec that is incomplete, altered or of another version; one line."""


def write_files(folder: Path, spec: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write both files; the JSON holds the spec, the schema version and the digest of the other file."""
    folder.mkdir(parents=True, exist_ok=True)
    blob = save({name: tensor.cpu() for name, tensor in tensors.items()})
    content = {"schema_version": SCHEMA_VERSION, **spec, "sha256": hashlib.sha256(blob).hexdigest()}
    _write(folder / TENSOR_FILE, blob)
    _write(folder / SPEC_FILE, json.dumps(content, indent=1).encode())


def read_spec(folder: Path) -> dict[str, Any]:
    """The JSON of a saved eraser.

    Raises:
        EraserFileError: it cannot be read or is of another version.
    """
    try:
        spec = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EraserFileError(f"{folder} is not a saved eraser: {error}") from error
    version = spec.get("schema_version") if isinstance(spec, dict) else None
    if version != SCHEMA_VERSION:
        raise EraserFileError(
            f"{folder / SPEC_FILE}: schema_version is {version!r}, this release reads {SCHEMA_VERSION}"
        )
    return spec


def read_tensors(
    folder: Path, spec: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    """The numbers of a saved eraser, which must have the spec's digest and ``shapes``.

    Raises:
        EraserFileError: they cannot be read, or have another digest or other shapes.
    """
    path = folder / TENSOR_FILE
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise EraserFileError(f"{folder} is not a saved eraser: {error}") from error
    if hashlib.sha256(blob).hexdigest() != spec.get("sha256"):
        raise EraserFileError(f"{path} does not have the sha256 that {SPEC_FILE} gives")
    try:
        tensors = load(blob)
    except SafetensorError as error:
        raise EraserFileError(f"{path} is not a safetensors file: {error}") from error
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != dict(shapes):
        raise EraserFileError(f"{path} holds {found}, expected {dict(shapes)}")
    return tensors


def check_spec(spec: Mapping[str, Any], types: Mapping[str, type], *, source: str) -> None:
    """Refuse a spec in which a key is missing or has a value of the wrong type or size.

    Raises:
        EraserFileError: with every problem, in one line that opens with ``source``.
    """
    if problems := list(_problems(spec, types)):
        raise EraserFileError(f"{source}: {'; '.join(problems)}")


def _problems(spec: Mapping[str, Any], types: Mapping[str, type]) -> Iterator[str]:
    wrong = [key for key, kind in types.items() if type(spec.get(key)) is not kind]
    for key in wrong:
        yield f"{key} is {spec.get(key)!r}, expected {types[key].__name__}"
    if not {"dim", "rank"} & set(wrong) and not 0 <= spec["rank"] <= spec["dim"]:
        yield f"rank is {spec['rank']}, expected 0 to dim, which is {spec['dim']}"


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)
