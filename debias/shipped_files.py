"""YAML files that ship with the packages, and what checks of them have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def shipped_folder(package: Path, name: str) -> Path:
    """``configs/NAME`` inside an installed package, or beside it in a checkout."""
    installed = package / "configs" / name
    return installed if installed.is_dir() else package.parent / "configs" / name


def shipped_names(folder: Path) -> list[str]:
    """Names of the YAML files of a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def found(name_or_path: str | Path, folder: Path) -> Path | None:
    """The shipped file of that name, which goes first, or the file at that path; None where neither is."""
    if str(name_or_path) in shipped_names(folder):
        return folder / f"{name_or_path}.yaml"
    path = Path(name_or_path)
    return path if path.is_file() else None


def is_text(value: Any) -> bool:
    """Whether a value is a string that is not blank."""
    return isinstance(value, str) and bool(value.strip())


def texts_in(items: Any) -> list[tuple[int, str]]:
    """Those items of a list that are strings and not blank, with their places."""
    return [
        (place, item) for place, item in enumerate(items if isinstance(items, list) else ()) if is_text(item)
    ]
