"""Files that a reader never sees half of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to, which takes the place of ``path`` once the block is through."""
    partial = path.with_name(path.name + ".partial")
    yield partial
    os.replace(partial, path)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
