"""Where derived data is kept, and how a folder appears there all at once or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from clip_lite.errors import CommandError


def cache_root() -> Path:
    """``CLIP_LITE_CACHE`` if set, else ``clip-lite`` in the user's cache folder."""
    chosen = os.environ.get("CLIP_LITE_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("clip-lite"))


def scratch_folder(parent: Path, prefix: str) -> Path:
    """A new empty folder inside ``parent``, which is created if need be.

    Raises:
        CommandError: ``parent`` cannot be written to.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    except OSError as error:
        raise CommandError(f"cannot write to {parent}: {error.strerror}") from error


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a scratch folder beside ``target`` that becomes ``target`` on success and vanishes on failure.

    An existing ``target`` is replaced.

    Raises:
        CommandError: the parent cannot be written to.
    """
    scratch = scratch_folder(target.parent, f".{target.name}-")
    try:
        yield scratch
        scratch.chmod(0o755)
        _swap(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _swap(scratch: Path, target: Path) -> None:
    """Put ``scratch`` in the place of ``target``; a kill in between leaves the old one beside it, whole."""
    if not target.exists():
        os.replace(scratch, target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    os.replace(target, old / "folder")
    os.replace(scratch, target)
    shutil.rmtree(old, ignore_errors=True)
