"""``load_encoder``: from a name or a directory to an encoder that can be edited and audited."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clip_lite.editable import EditableEncoder
from clip_lite.errors import UsageError
from clip_lite.model import CONFIG_FILE, DualEncoder
from clip_lite.pretrained import open_clip_encoder
from clip_lite.pretrained.image_only import load_timm, load_torchvision
from clip_lite.pretrained.open_clip_encoder import load_open_clip
from clip_lite.pretrained.reasons import check_safetensors
from clip_lite.pretrained.saved import NOTE_FILE, Note, attach_saved, read_note
from clip_lite.pretrained.tracked import SCHEMES, downloaded
from clip_lite.pretrained.transformers_load import load_transformers

LIBRARIES: dict[str, Callable[..., EditableEncoder]] = {
    "hf": load_transformers,
    "open_clip": load_open_clip,
    "timm": load_timm,
    "torchvision": load_torchvision,
}
KINDS: dict[str, Callable[[Path, Note], EditableEncoder]] = {
    "transformers": lambda folder, note: load_transformers(folder, image_weights=note.image_weights),
    "open_clip": lambda folder, note: load_open_clip(str(folder), image_weights=note.image_weights),
    "timm": lambda folder, note: load_timm(str(folder), image_weights=note.image_weights),
    "torchvision": lambda folder, note: load_torchvision(
        note.details.get("architecture", ""), folder=folder, image_weights=note.image_weights
    ),
}
ACCEPTED = (
    "a directory of this package, transformers, open_clip or timm, or hf:NAME, open_clip:NAME/TAG, "
    "timm:NAME, torchvision:NAME, runs:/RUN_ID/PATH, models:/NAME/VERSION, models:/MODEL_ID"
)


def load_encoder(name: str | Path) -> EditableEncoder:
    """An encoder in evaluation mode with its erasers on.

    Args:
        name: a directory, which is looked into for whose it is, or a name with the library before it:
            ``hf:openai/clip-vit-base-patch32``, ``open_clip:ViT-B-32/laion2b_s34b_b79k``,
            ``timm:vit_small_patch16_224``, ``torchvision:resnet50``, ``runs:/RUN_ID/PATH`` and
            ``models:/...`` for what MLflow keeps. After a library's prefix a directory works as well.

    Raises:
        UsageError: there is nothing of that name, it cannot be had here, or it is damaged.
        CommandError: the MLflow store cannot be used.
    """
    said = str(name)
    if said.startswith(SCHEMES):
        with downloaded(said) as folder:
            return _from_folder(_inner(folder), said)
    if Path(said).is_dir():
        return _from_folder(Path(said), said)
    library, _, rest = said.partition(":")
    if library not in LIBRARIES or not rest:
        raise UsageError(f"there is no model {said!r}, expected {ACCEPTED}")
    folder = Path(rest)
    note = read_note(folder)
    return _from_note(folder, note, said) if note else LIBRARIES[library](rest, image_weights=None)


def _from_folder(folder: Path, said: str) -> EditableEncoder:
    kind = kind_of(folder)
    if kind is None:
        raise UsageError(f"{said} holds no model, expected {ACCEPTED}")
    if kind == "clip-lite":
        return DualEncoder.from_pretrained(folder)
    if note := read_note(folder):
        return _from_note(folder, note, said)
    if kind != "hf":  # transformers reads older weights too, by a reader that takes nothing but numbers
        check_safetensors(folder)
    return LIBRARIES[kind](str(folder), image_weights=said)


def _from_note(folder: Path, note: Note, said: str) -> EditableEncoder:
    """What ``save_pretrained`` of an encoder of this package wrote."""
    if note.kind not in KINDS:
        raise UsageError(f"{said}: {NOTE_FILE} is of kind {note.kind!r}, expected one of {', '.join(KINDS)}")
    check_safetensors(folder)
    encoder = KINDS[note.kind](folder, note)
    attach_saved(encoder, folder, note)
    return encoder


def kind_of(folder: Path) -> str | None:
    """Whose model a directory holds: ``clip-lite``, ``hf``, ``open_clip``, ``timm``; None for no model.

    Raises:
        UsageError: its ``config.json`` is not what it should be.
    """
    config = _config(folder / CONFIG_FILE)
    if config.get("architecture") == DualEncoder.__name__:
        return "clip-lite"
    if "model_type" in config:
        return "hf"
    if (folder / open_clip_encoder.CONFIG_FILE).is_file():
        return "open_clip"
    if "architecture" in config and "pretrained_cfg" in config:
        return "timm"
    return "torchvision" if (folder / NOTE_FILE).is_file() else None


def _inner(folder: Path) -> Path:
    """The folder with the model: this one or, where it holds none, the one folder in it that does."""
    if kind_of(folder):
        return folder
    found = [path for path in sorted(folder.iterdir()) if path.is_dir() and kind_of(path)]
    return found[0] if len(found) == 1 else folder


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds a {type(content).__name__}, expected an object")
    return content
