"""Folder of a model of another library: that library's own files, our erasers beside them, and a note."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from clip_lite.data.cache import atomic_folder
from clip_lite.editable import EditableEncoder
from clip_lite.errors import UsageError
from debias.eraser import Eraser

FORMAT_VERSION = 1
EDITED = {"features", "embedding"}
NOTE_FILE, ERASER_FOLDER = "clip_lite_encoder.json", "erasers"


@dataclass(frozen=True)
class Note:
    """What the library's own files do not say.

    Attributes:
        kind: the library: ``transformers``, ``open_clip``, ``timm`` or ``torchvision``.
        image_weights: where the weights come from, in words.
        erasers: what is edited; each has a folder in ``erasers/``.
        details: what the kind needs besides.
    """

    kind: str
    image_weights: str
    erasers: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


def save(encoder: EditableEncoder, folder: Path, note: Note, write: Callable[[Path], None]) -> None:
    """Write the library's files with ``write``, the encoder's erasers and the note; replaces ``folder``.

    Raises:
        CommandError: the parent of ``folder`` cannot be written to.
    """
    content = {"format_version": FORMAT_VERSION} | asdict(note) | {"erasers": sorted(encoder.attached)}
    with atomic_folder(Path(folder)) as scratch:
        write(scratch)
        for path in scratch.rglob("*.safetensors"):
            path.chmod(0o644)
        for name, eraser in encoder.attached.items():
            eraser.save(scratch / ERASER_FOLDER / name)
        (scratch / NOTE_FILE).write_text(json.dumps(content, indent=1), encoding="utf-8")


def read_note(folder: Path) -> Note | None:
    """The note of a folder; None where there is none.

    Raises:
        UsageError: it is damaged or of another version.
    """
    path = folder / NOTE_FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise UsageError(f"{path}: format_version is {version!r}, expected {FORMAT_VERSION}")
        note = Note(**content | {"erasers": tuple(content["erasers"])})
        if not set(note.erasers) <= EDITED:
            raise ValueError(f"erasers are {note.erasers}, expected some of {sorted(EDITED)}")
        return note
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{path} is damaged: {' '.join(str(error).split())[:200]}") from error


def attach_saved(encoder: EditableEncoder, folder: Path, note: Note) -> None:
    """Attach the erasers that the note names.

    Raises:
        UsageError: one is missing, damaged or does not fit the model.
    """
    erasers = {}
    for name in note.erasers:
        try:
            erasers[name] = Eraser.load(folder / ERASER_FOLDER / name)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UsageError(
                f"{folder}: its eraser {ERASER_FOLDER}/{name} cannot be loaded: {reason}"
            ) from error
    try:
        encoder.attach(erasers)
    except ValueError as error:
        raise UsageError(f"{folder}: {error}") from error
