"""Checkpoints on disk: each one a single file that is there whole or not at all."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clip_lite.errors import CommandError
from clip_lite.progress import say

FORMAT_VERSION = 1
BEST = "best.pt"


class Checkpoints:
    """The checkpoints of a run: the ``keep`` newest, and the best one besides.

    Files are named by step, so that the newest is the last by name.
    """

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def save(self, state: Mapping[str, Any], step: int, *, best: bool) -> Path:
        """Write ``step-<step>.pt`` atomically; ``best`` also makes it ``best.pt``. Prunes old ones.

        ``best.pt`` is a second name of the same file: pruning does not touch it, and only a better
        checkpoint replaces it.

        Raises:
            CommandError: the disk is full or cannot be written; every earlier checkpoint is still there.
        """
        target = self.folder / f"step-{step:09d}.pt"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write({"format_version": FORMAT_VERSION, **state}, target)
            if best:
                self._name_best(target)
        except (OSError, RuntimeError) as error:
            raise CommandError(
                f"checkpoint {target} cannot be written ({error}); earlier ones are kept"
            ) from error
        for old in self.by_age()[: -self.keep]:
            old.unlink(missing_ok=True)
        return target

    def by_age(self) -> list[Path]:
        """All checkpoints but ``best.pt``, the oldest first."""
        return sorted(self.folder.glob("step-*.pt"))

    def newest(self) -> dict[str, Any] | None:
        """The newest checkpoint that can be read, on the CPU; None if there is none.

        Tensors and plain values only: no pickled object is ever loaded.

        Raises:
            CommandError: there are checkpoints and none of them can be read.
        """
        files = self.by_age()[::-1]
        for file in files:
            try:
                state = torch.load(file, map_location="cpu", weights_only=True)
                if state.pop("format_version") == FORMAT_VERSION:
                    return dict(state)
                reason = f"its format_version is not {FORMAT_VERSION}"
            except (
                OSError,
                RuntimeError,
                EOFError,
                KeyError,
                AttributeError,
                pickle.UnpicklingError,
            ) as error:
                reason = str(error).splitlines()[0]
            say(f"checkpoint {file} cannot be read ({reason}), trying the one before")
        if files:
            raise CommandError(f"none of the checkpoints in {self.folder} can be read")
        return None

    def _name_best(self, target: Path) -> None:
        scratch = self.folder / f".{BEST}"
        scratch.unlink(missing_ok=True)
        try:
            os.link(target, scratch)
        except OSError:  # a file system without hard links
            shutil.copyfile(target, scratch)
        os.replace(scratch, self.folder / BEST)


def _write(state: Mapping[str, Any], target: Path) -> None:
    """Write beside ``target``, force it to the disk, then rename: a kill at any time leaves no half file."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
