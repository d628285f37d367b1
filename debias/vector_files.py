"""Vectors that somebody else made: a ``.npy`` and, line by line beside it, what the captions say."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

LABELS = ("cluster", "group", "task")


class CaptionedVectors(NamedTuple):
    """Vectors ``(n, d)``, and per row: captions, cluster, the group and task it is labelled with or None.

    ``digest`` is that of the corpus's split that they are of, if they are.
    """

    x: np.ndarray
    captions: list[list[str]]
    clusters: np.ndarray
    groups: list[str | None]
    tasks: list[str | None]
    digest: str | None = None

    def task_indices(self) -> np.ndarray:
        """Task index per row ``(n,)``, in alphabetical order; −1 where there is none."""
        place = {name: index for index, name in enumerate(sorted({task for task in self.tasks if task}))}
        return np.array([place.get(task or "", -1) for task in self.tasks], dtype=np.int64)


def read_vectors(vectors: Path, captions: Path) -> CaptionedVectors:
    """Read a ``.npy`` of ``(n, d)`` and n lines of JSON.

    A line is a list of captions, or an object with ``captions``, and where they are known ``cluster`` (rows
    that are not independent share one; every row its own by default), ``group`` and ``task``.

    Raises:
        ValueError: naming the file, and the line, that is not what it should be.
        OSError: a file that cannot be read.
    """
    try:
        x = np.load(vectors, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{vectors} is not a .npy file of numbers") from error
    if not isinstance(x, np.ndarray) or x.ndim != 2 or not np.issubdtype(x.dtype, np.floating):
        shape = f"{x.dtype} of shape {x.shape}" if isinstance(x, np.ndarray) else "an archive"
        raise ValueError(f"{vectors} holds {shape}, expected floating-point numbers of shape (n, d)")
    if not np.isfinite(x).all():
        raise ValueError(f"{vectors} holds numbers that are not finite")
    with captions.open(encoding="utf-8-sig") as lines:
        try:
            rows = list(_rows(lines, captions))
        except UnicodeDecodeError as error:
            raise ValueError(f"{captions} is not UTF-8 text: {error.reason}") from error
    if len(rows) != len(x):
        raise ValueError(f"{captions} has {len(rows)} lines for {len(x)} rows of {vectors}")
    return CaptionedVectors(
        x,
        [row["captions"] for row in rows],
        np.array([row.get("cluster", f"row {index}") for index, row in enumerate(rows)]),
        [row.get("group") for row in rows],
        [row.get("task") for row in rows],
    )


def _rows(lines: Iterable[str], source: Path) -> Iterable[dict[str, Any]]:
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{source}, line {number} is not JSON: {error}") from error
        row = {"captions": row} if isinstance(row, list) else row
        if not isinstance(row, dict) or not _are_strings(row.get("captions", [])):
            raise ValueError(
                f'{source}, line {number}: expected ["a caption", …] or {{"captions": ["a caption", …]}}'
            )
        if unknown := sorted(set(row) - {"captions", *LABELS}):
            known = ", ".join(("captions", *LABELS))
            raise ValueError(f"{source}, line {number}: {unknown[0]!r} is not a known key, expected {known}")
        labels = {key: row[key] for key in LABELS if row.get(key) is not None}
        for key, label in labels.items():
            if not isinstance(label, str | int) or isinstance(label, bool):
                raise ValueError(f"{source}, line {number}: {key} is {label!r}, expected a string")
        yield {"captions": row.get("captions", []), **{key: str(label) for key, label in labels.items()}}


def _are_strings(values: Sequence[Any]) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)
