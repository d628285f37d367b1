"""What can be asked of ``python -m debias.fit``, and what is refused before any work."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from clip_lite.config import DataConfig, TrainConfig
from clip_lite.config_checks import problems
from clip_lite.editable import EditableEncoder
from clip_lite.errors import UsageError
from clip_lite.pretrained import load_encoder
from debias.attributes import ProtectedAttribute
from debias.calibration import CAPTION_METHOD, check_method
from debias.methods import TEXT_METHODS


@dataclass
class FitConfig:
    """Fit an eraser.

    Attributes:
        attribute: a shipped name (gender), an intersection (gender*skin_tone) or the path of a YAML file.
        output: new folder for the eraser.
        method: one of those above.
        options: keyword arguments of the method, e.g. --options.k 2 or --options.strength 0.5.
        model: folder or name of a model; not needed with --vectors, but for methods that read word pairs.
        on: what of the model is edited.
        vectors: a .npy of (n, d), in place of the model's embedding of --data.
        captions: .jsonl with a line per row of --vectors.
        data: pictures with captions; their training split is read, at the model's size.
        save_model: new folder for the model with this eraser in it, besides those that it has.
        force: write the eraser although the gate abstains.
        device: "auto" takes CUDA where there is one.
        seed: of the held-out clusters and of the gate's bootstrap.
    """

    attribute: str
    output: Path
    method: str = CAPTION_METHOD
    options: dict[str, Any] = field(default_factory=dict)
    model: str | None = None
    on: Literal["embedding", "features"] = "embedding"
    vectors: Path | None = None
    captions: Path | None = None
    data: DataConfig = field(default_factory=DataConfig)
    save_model: Path | None = None
    force: bool = False
    device: str = "auto"
    seed: int = 0


def checked_attribute(config: FitConfig) -> ProtectedAttribute:
    """The attribute of a request that can be served.

    Raises:
        UsageError: naming what is wrong or missing.
    """
    if (config.vectors is None) != (config.captions is None):
        raise UsageError("--vectors and --captions go together: a .npy of (n, d) and a .jsonl of n lines")
    if config.model is None and (config.vectors is None or config.method in TEXT_METHODS):
        needed = (
            f"--method {config.method} reads word pairs and" if config.vectors else "without --vectors it"
        )
        raise UsageError(f"{needed} needs --model DIR")
    check_new("output", config.output)
    if config.save_model:
        if config.model is None or config.vectors:
            raise UsageError("--save_model writes --model with the eraser fitted on it: not with --vectors")
        check_new("save_model", config.save_model)
    if wrong := list(problems(TrainConfig(data=config.data, seed=config.seed))):
        raise UsageError("; ".join(wrong))
    try:
        check_method(config.method, config.options)
        return ProtectedAttribute.load(config.attribute)
    except ValueError as error:
        raise UsageError(str(error)) from error


def check_new(flag: str, folder: Path) -> None:
    """Refuse a folder that cannot be a new one.

    Raises:
        UsageError: it holds something, or is a file or in one.
    """
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise UsageError(f"--{flag} {folder}: {path} is a file, choose a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"--{flag} {folder} is not empty: choose a new folder")


def checked_model(config: FitConfig) -> EditableEncoder | None:
    """The model of a request, if it can do what is asked.

    Raises:
        UsageError: it cannot be loaded, or has no text tower for a method that needs one.
    """
    if config.model is None:
        return None
    model = load_encoder(config.model)
    if config.method in TEXT_METHODS and not model.has_text:
        raise UsageError(f"--method {config.method} reads word pairs, but {config.model} has no text tower")
    return model
