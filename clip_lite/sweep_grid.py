"""The grid of a sweep: methods, strengths and seeds as cells, each the configuration of one training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from clip_lite.config import TrainConfig
from clip_lite.config_checks import problems
from clip_lite.describe import plain
from clip_lite.errors import UsageError
from clip_lite.mitigate import NO_METHOD, check_eraser
from debias.calibration import available_methods

AXES = ("methods", "strengths", "seeds")


@dataclass
class SweepConfig(TrainConfig):
    """Train once per seed, edit the model by every method at every strength, audit each, compare all.

    Attributes:
        output: folder for cells/, comparison.html and comparison.json; a sweep that is there goes on or
            grows; null makes sweeps/<corpus>-<attribute>-sweep-<time>.
        resume: "auto" continues the sweep in --output, else the newest unfinished one in sweeps/ with this
            configuration, and starts a new one where there is none; or the folder of a sweep.
        trained: folder of a run whose finished training all cells take over, where there is one seed.
        seed: see seeds.
        methods: what mitigation.method is set to; null takes the one of the configuration.
        strengths: what mitigation.strength is set to; 0, the unedited model, is audited once for all methods.
        seeds: what seed is set to; null takes the one of the configuration.
        jobs: so many trainings or audits at once, each with its share of the cores.
    """

    methods: list[str] | None = None
    strengths: list[float] = field(default_factory=lambda: [0.0, 0.5, 1.0])
    seeds: list[int] | None = None
    jobs: int = 1


@dataclass(frozen=True)
class Cell:
    """One point of the grid; at strength 0 the method is ``none``."""

    method: str
    strength: float
    seed: int

    @property
    def name(self) -> str:
        """Method, strength and seed in one word, the name of its folder and of its MLflow run."""
        if self.method == NO_METHOD:
            return f"unedited-seed{self.seed}"
        short = f"{self.strength:.2f}"
        return f"{self.method}-s{short if float(short) == self.strength else self.strength}-seed{self.seed}"


def checked_sweep(config: SweepConfig) -> SweepConfig:
    """The configuration with every axis of the grid written out.

    Raises:
        UsageError: listing everything that is out of range or contradictory.
    """
    full = replace(
        config,
        methods=[config.mitigation.method] if config.methods is None else config.methods,
        seeds=[config.seed] if config.seeds is None else config.seeds,
    )
    if wrong := list(_wrong(full)):
        raise UsageError("; ".join(wrong))
    return full


def cells_of(config: SweepConfig) -> list[Cell]:
    """Every cell, seed by seed, the unedited model of a seed first."""
    edits = [
        (method, strength) for method in config.methods or () for strength in config.strengths if strength
    ]
    unedited = [(NO_METHOD, 0.0)] if 0 in config.strengths else []
    return [Cell(method, float(s), seed) for seed in config.seeds or () for method, s in (*unedited, *edits)]


def cell_config(
    config: SweepConfig, cell: Cell, folder: Path, *, trained: Path | None = None, parent: str | None = None
) -> TrainConfig:
    """What ``python -m clip_lite.train`` is to do in ``folder``, going on with what is there.

    An eraser is kept whatever the gate says: a sweep shows what an edit does, the audit carries the verdict.

    Args:
        trained: the run whose training is taken over.
        parent: MLflow run that the cell's becomes a child of.
    """
    own = {item.name: getattr(config, item.name) for item in fields(TrainConfig)}
    mitigation = replace(config.mitigation, method=cell.method, strength=cell.strength, force=True)
    if cell.method == NO_METHOD:
        mitigation = replace(mitigation, options={})
    tracking = replace(config.tracking, run_name=cell.name, parent=parent)
    changed: dict[str, Any] = {
        "seed": cell.seed,
        "output": folder,
        "resume": "auto",
        "trained": trained,
        "mitigation": mitigation,
        "tracking": tracking,
    }
    return TrainConfig(**own | changed)


def as_yaml(config: TrainConfig) -> str:
    """A configuration as ``--config`` reads it."""
    return yaml.safe_dump(plain(asdict(config)), sort_keys=False)


def _wrong(config: SweepConfig) -> Iterator[str]:
    if not config.debias:
        yield "a sweep compares erasers: --debias names the attribute that they suppress"
    if config.jobs < 1:
        yield f"jobs is {config.jobs}, expected at least 1"
    if config.mitigation.strength != 1:
        yield f"mitigation.strength is {config.mitigation.strength}, but a sweep sets it: give --strengths"
    if config.trained and len(config.seeds or ()) > 1:
        yield f"trained is {config.trained}, one training of one seed, but seeds is {config.seeds}"
    axes = [*_wrong_axes(config)]
    yield from axes or _wrong_cells(config)


def _wrong_axes(config: SweepConfig) -> Iterator[str]:
    known = available_methods()
    for name in AXES:
        values: Sequence[Any] = getattr(config, name)
        if not values:
            yield f"{name} is empty, expected at least one"
        if repeated := [value for place, value in enumerate(values) if value in values[:place]]:
            yield f"{name} holds {repeated[0]!r} twice"
    for method in config.methods or ():
        if method not in known:
            yield f"methods holds {method!r}, expected some of {', '.join(known)}"
    for strength in config.strengths:
        if not 0 <= strength <= 1:
            yield f"strengths holds {strength}, expected numbers from 0 to 1"


def _wrong_cells(config: SweepConfig) -> Iterator[str]:
    """What the configuration of a cell holds wrong, once where several cells share it."""
    found: dict[str, None] = {}
    for cell in cells_of(config):
        single = cell_config(config, cell, Path())
        found |= dict.fromkeys(problems(single))
        try:
            check_eraser(single)
        except UsageError as error:
            found[str(error)] = None
    yield from found
