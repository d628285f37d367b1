"""The folder of a run: a new one, or the one that ``--resume`` continues."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from clip_lite.checkpoint import Checkpoints
from clip_lite.config import TrainConfig
from clip_lite.errors import CommandError, UsageError
from clip_lite.progress import say
from clip_lite.tracking import Journal, begun_run, flatten

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
# What may differ besides between a run and the one whose training it takes over.
AFTER_TRAINING = (
    "trained",
    "mitigation.method",
    "mitigation.strength",
    "mitigation.options",
    "mitigation.force",
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

    @property
    def epochs_done(self) -> int:
        """Epochs that its newest checkpoint has behind it."""
        saved = self.checkpoints(1).newest()
        return len(saved["progress"]["epochs"]) if saved else 0


def run_name(config: TrainConfig) -> str:
    """Corpus, attribute, method and seed in one word."""
    edit = f"-{config.mitigation.method}" if config.debias else ""
    return f"{subject_name(config)}{edit}-seed{config.seed}"


def subject_name(config: TrainConfig) -> str:
    """Corpus and attribute in one word."""
    attribute = "_x_".join(Path(part).stem for part in (config.debias or "plain").split("*"))
    return f"{config.data.source}-{attribute}"


def open_run(config: TrainConfig, config_text: str, name: str) -> RunFolder:
    """The folder that ``output`` and ``resume`` ask for, with its configuration written.

    Raises:
        UsageError: results of another run would be lost, nothing can be resumed there, or the
            configuration is another one.
        CommandError: the folder cannot be created or written to.
    """
    wanted = yaml.safe_load(config_text)
    if found := _to_resume(config, wanted, name):
        if differing := differences(read_config(found / CONFIG), wanted):
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


def taken_over(config: TrainConfig, config_text: str) -> dict[str, Any] | None:
    """The last checkpoint of the run that ``trained`` names, as one of no MLflow run; None if it names none.

    Raises:
        UsageError: no run there, its training is not finished, or it was another training.
        CommandError: none of its checkpoints can be read.
    """
    if config.trained is None:
        return None
    source = RunFolder(config.trained)
    before = read_config(source.path / CONFIG)
    if differing := differences(before, yaml.safe_load(config_text), free=(*FREE, *AFTER_TRAINING)):
        raise UsageError(
            f"--trained {source.path}: another training, its configuration differs in {'; '.join(differing)}"
        )
    if first := before.get("trained"):
        raise UsageError(f"--trained {source.path}: it took its own weights from {first}: name that run")
    if (done := source.epochs_done) < config.training.epochs:
        raise UsageError(
            f"--trained {source.path}: {done} of {config.training.epochs} epochs are done, finish it with "
            f"--resume {source.path}"
        )
    saved = source.checkpoints(1).newest() or {}
    tracked = f", MLflow run {saved['mlflow_run']}" if saved["mlflow_run"] else ""
    return {**saved, "mlflow_run": None, "origin": f"trained by the run in {source.path}{tracked}"}


def interrupted_run(config: TrainConfig, folder: RunFolder) -> str | None:
    """The MLflow run to go on with where an earlier attempt at the same left no checkpoint; None if none is.

    Raises:
        CommandError: the store cannot be used.
    """
    journal = Journal(folder.path)
    if config.resume is None or not journal.begun:
        return None
    wanted = {key: str(value) for key, value in flatten(asdict(config))}
    same = journal.read()["params"] in ({}, wanted)
    return begun_run(folder.path, config.tracking.experiment) if same else None


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
        return bool(differences(read_config(folder / CONFIG), wanted))
    except UsageError:
        return True


def differences(
    before: Mapping[str, Any], wanted: Mapping[str, Any], *, free: tuple[str, ...] = FREE
) -> list[str]:
    """Where two configurations differ, as ``key (… there, … here)``; keys that begin like ``free`` may."""
    old, new = dict(flatten(before)), dict(flatten(wanted))
    return [
        f"{key} ({old.get(key)} there, {new.get(key)} here)"
        for key in sorted(old.keys() | new.keys())
        if not key.startswith(free) and old.get(key) != new.get(key)
    ]


def read_config(file: Path) -> dict[str, Any]:
    """A configuration as ``open_run`` wrote it.

    Raises:
        UsageError: there is none.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{file} holds no configuration")
    return content
