"""The folder of a run: a new one, or the one that ``--resume`` continues."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from clip_lite.checkpoint import Checkpoints
from clip_lite.config import TrainConfig
from clip_lite.errors import CommandError, UsageError
from clip_lite.progress import say
from clip_lite.tracking import flatten

CONFIG, AUDIT, REPORT = "config.yaml", "audit.json", "report.html"
MODEL, CHECKPOINTS = "model", "checkpoints"

# What may change when a run goes on: where and how fast it runs, what it keeps and how it is audited.
FREE = (
    "output",
    "resume",
    "data.root",
    "data.workers",
    "training.device",
    "checkpoint.",
    "tracking.",
    "audit.",
)


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps its files, and whether it is done."""

    path: Path

    @property
    def finished(self) -> bool:
        """Whether its report has been written."""
        return (self.path / REPORT).exists()

    @property
    def begun(self) -> bool:
        """Whether there is anything to lose: a checkpoint or a report."""
        return self.finished or any((self.path / CHECKPOINTS).glob("*.pt"))

    def checkpoints(self, keep: int) -> Checkpoints:
        """Its checkpoints."""
        return Checkpoints(self.path / CHECKPOINTS, keep=keep)


def run_name(config: TrainConfig) -> str:
    """Corpus, attribute, method and seed in one word."""
    attribute = "_x_".join(Path(part).stem for part in (config.debias or "").split("*"))
    edit = f"{attribute}-{config.mitigation.method}" if config.debias else "plain"
    return f"{config.data.source}-{edit}-seed{config.seed}"


def open_run(config: TrainConfig, config_text: str, name: str) -> RunFolder:
    """The folder that ``output`` and ``resume`` ask for, with its configuration written.

    Raises:
        UsageError: results of another run would be lost, nothing can be resumed there, or the
            configuration is another one.
        CommandError: the folder cannot be created or written to.
    """
    wanted = yaml.safe_load(config_text)
    if found := _to_resume(config, wanted, name):
        if differing := sorted(_differences(_read(found / CONFIG), wanted)):
            raise UsageError(
                f"--resume {found}: its configuration differs in {'; '.join(differing)}; "
                "use the same, or start a new run"
            )
        say(f"resuming {found}")
        return RunFolder(found)
    output = config.output or Path("runs") / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    if RunFolder(output).begun:
        raise UsageError(
            f"--output {output} holds another run: choose a new folder, remove that one, or --resume auto"
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / CONFIG).write_text(config_text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"output folder {output} cannot be written: {error.strerror}") from error
    return RunFolder(output)


def resume_flags(argv: Sequence[str], folder: RunFolder) -> str:
    """The same flags, pointed at the folder of the run."""
    kept = [arg for arg in argv if not arg.startswith(("--resume=", "--output="))]
    for flag in ("--resume", "--output"):
        if flag in kept:
            place = kept.index(flag)
            del kept[place : place + 2]
    return shlex.join([*kept, "--resume", str(folder.path)])


def _to_resume(config: TrainConfig, wanted: Mapping[str, Any], name: str) -> Path | None:
    """The folder to go on in; None for a new run."""
    if config.resume is None:
        return None
    if config.resume != "auto":
        folder = Path(config.resume)
        if not ((folder / CONFIG).is_file() and RunFolder(folder).begun):
            raise UsageError(f"--resume {folder}: no run there, expected {CONFIG} and {CHECKPOINTS}/")
        if config.output and config.output.resolve() != folder.resolve():
            raise UsageError(f"--resume {folder} writes there: leave out --output {config.output}")
        return folder
    if config.output:
        return config.output if RunFolder(config.output).begun else None
    for folder in sorted(Path("runs").glob(f"{name}-*"), reverse=True):
        run = RunFolder(folder)
        if run.begun and not run.finished and not _differs(folder, wanted):
            return folder
    return None


def _differs(folder: Path, wanted: Mapping[str, Any]) -> bool:
    try:
        return any(_differences(_read(folder / CONFIG), wanted))
    except UsageError:
        return True


def _differences(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    old, new = dict(flatten(before)), dict(flatten(wanted))
    for key in old.keys() | new.keys():
        if not key.startswith(FREE) and old.get(key) != new.get(key):
            yield f"{key} ({old.get(key)} there, {new.get(key)} here)"


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{file} holds no configuration")
    return content
