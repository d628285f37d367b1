"""The folder of a sweep: a new one, or the one that the same command goes on with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from clip_lite.errors import CommandError, UsageError
from clip_lite.progress import say
from clip_lite.runs import FREE, RunFolder, differences, read_config, subject_name
from clip_lite.sweep_grid import AXES, Cell, SweepConfig, as_yaml

SWEEP, PAGE = "sweep.yaml", "comparison.html"
CELLS, CELL, LOG = "cells", "cell.yaml", "log.txt"
SWEEPS = Path("sweeps")

# Finished cells stay as they were audited, so the audit may not change; the grid is compared by itself.
FREE_IN_SWEEPS = (
    *(key for key in FREE if key != "audit."),
    *AXES,
    "seed",
    "jobs",
    "mitigation.method",
)


class SweepFolder:
    """Where a sweep keeps its cells and their comparison."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, cell: Cell) -> RunFolder:
        """The run of a cell."""
        return RunFolder(self.path / CELLS / cell.name)

    def log(self, cell: Cell) -> Path:
        """What its process said, of every time that it was started."""
        return self.run(cell).path / LOG

    def written(self, cell: Cell, config_text: str) -> Path:
        """The file of a cell's configuration, written.

        Raises:
            CommandError: it cannot be.
        """
        file = self.run(cell).path / CELL
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(config_text, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{file} cannot be written: {error.strerror}") from error
        return file

    def trainer(self, cells: Iterable[Cell], seed: int) -> Cell:
        """The cell that trains for a seed: the one that has begun to, else the first."""
        own = [cell for cell in cells if cell.seed == seed]
        begun = (cell for cell in own if self.run(cell).checkpoints(1).by_age())
        return next(begun, own[0])


def open_sweep(config: SweepConfig) -> SweepFolder:
    """The folder that ``output`` and ``resume`` ask for, with the configuration written.

    Raises:
        UsageError: the folder holds something else, another configuration or another grid.
        CommandError: it cannot be created or written to.
    """
    wanted = yaml.safe_load(as_yaml(config))
    name = f"{subject_name(config)}-sweep"
    path = _to_resume(config, wanted, name)
    if path:
        if differing := _unlike(path, wanted):
            raise UsageError(f"{path} holds another sweep: {'; '.join(differing)}")
        say(f"going on with {path}")
    else:
        path = config.output or SWEEPS / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        if RunFolder(path).begun:
            raise UsageError(f"--output {path} holds a run: choose a new folder for the sweep")
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / SWEEP).write_text(as_yaml(config), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"output folder {path} cannot be written: {error.strerror}") from error
    return SweepFolder(path)


def _to_resume(config: SweepConfig, wanted: Mapping[str, Any], name: str) -> Path | None:
    """The folder to go on in; None for a new sweep."""
    if config.resume not in (None, "auto"):
        path = Path(str(config.resume))
        if not (path / SWEEP).is_file():
            raise UsageError(f"--resume {path}: no sweep there, expected {SWEEP}")
        if config.output and config.output.resolve() != path.resolve():
            raise UsageError(f"--resume {path} writes there: leave out --output {config.output}")
        return path
    if config.output:
        return config.output if (config.output / SWEEP).is_file() else None
    if config.resume == "auto":
        for path in sorted(SWEEPS.glob(f"{name}-*"), reverse=True):
            if not (path / PAGE).exists() and (path / SWEEP).is_file() and not _unlike(path, wanted):
                return path
    return None


def _unlike(path: Path, wanted: Mapping[str, Any]) -> list[str]:
    """What keeps a sweep from going on there; more methods, strengths or seeds do not."""
    before = read_config(path / SWEEP)
    gone = [
        f"{axis} {lost} there, not here"
        for axis in AXES
        if (lost := [value for value in before.get(axis) or () if value not in wanted[axis]])
    ]
    return [*differences(before, wanted, free=FREE_IN_SWEEPS), *gone]
