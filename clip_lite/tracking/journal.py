"""The journal of a run: all that it tells MLflow, on disk, so that a dead store loses nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from clip_lite.errors import CommandError

TRACKING, METRICS = "tracking.json", "metrics.jsonl"
EMPTY: dict[str, Any] = {
    "tags": {},
    "params": {},
    "datasets": [],
    "artifacts": [],
    "runs": {},
    "model": None,
    "parent": None,
    "behind": False,
}


class Point(NamedTuple):
    """A number of a step, with the milliseconds since 1970 at which it was logged."""

    key: str
    value: float
    timestamp: int
    step: int


@dataclass(frozen=True)
class Journal:
    """``tracking.json`` and ``metrics.jsonl`` in the folder of a run.

    The first holds ``experiment``, ``name``, ``tags``, ``params``, ``datasets``, ``artifacts``, the id of the
    run in each store (``runs``), of the LoggedModel that was audited (``model``) and of the run in which it
    is nested (``parent``), and whether MLflow is ``behind``; the second a line per call: ``time``, ``step``,
    ``numbers``.
    """

    folder: Path

    @property
    def begun(self) -> bool:
        """Whether there is one."""
        return (self.folder / TRACKING).is_file()

    def begin(self, *, experiment: str, name: str) -> None:
        """Start an empty one; what an earlier run left in the folder is gone."""
        self._write({"experiment": experiment, "name": name, **EMPTY})
        (self.folder / METRICS).write_text("", encoding="utf-8")

    def read(self) -> dict[str, Any]:
        """Everything but the numbers.

        Raises:
            CommandError: it is damaged.
            OSError: it cannot be read.
        """
        file = self.folder / TRACKING
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CommandError(f"{file} is damaged: {error}") from error
        if not (isinstance(content, dict) and content.keys() >= {"experiment", "name", *EMPTY}):
            raise CommandError(f"{file} is damaged: it is no journal of a run")
        return content

    def note(self, **changed: Any) -> None:
        """Put entries in the place of older ones; mappings are added to theirs."""
        content = self.read()
        for key, value in changed.items():
            content[key] = {**content[key], **value} if isinstance(value, Mapping) else value
        self._write(content)

    def add(self, numbers: Mapping[str, float], *, step: int, timestamp: int) -> None:
        """Append the numbers of a step."""
        line = json.dumps({"time": timestamp, "step": step, "numbers": dict(numbers)})
        with open(self.folder / METRICS, "a+b") as file:
            if file.tell() and not _ends_a_line(file):
                line = f"\n{line}"
            file.write(f"{line}\n".encode())

    def points(self) -> Iterator[Point]:
        """All numbers, in the order in which they came; a line that a kill cut short is left out."""
        with open(self.folder / METRICS, encoding="utf-8") as file:
            for line in file:
                try:
                    said = json.loads(line)
                except ValueError:
                    continue
                for key, value in said["numbers"].items():
                    yield Point(key, value, said["time"], said["step"])

    def at(self, step: int, prefix: str) -> list[Point]:
        """The last number of every key that begins so, at one step."""
        last = {point.key: point for point in self.points() if point.step == step}
        return [point for key, point in last.items() if key.startswith(prefix)]

    def _write(self, content: Mapping[str, Any]) -> None:
        target = self.folder / TRACKING
        partial = target.with_name(f"{TRACKING}.partial")
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
        os.replace(partial, target)


def _ends_a_line(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")


def flatten(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """``{"a": {"b": 1}}`` → ``("a.b", 1)``."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
