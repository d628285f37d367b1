"""Finished audits, found by the name a person types: a folder, a file, or a run that MLflow keeps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clip_lite.errors import UsageError
from clip_lite.pretrained.tracked import downloaded
from clip_lite.runs import AUDIT, CONFIG
from evaluation.results import DRAWS, AuditResult

RUN_ID = re.compile(r"(?:runs:/)?([0-9a-f]{32})/?")


@dataclass(frozen=True)
class Stored:
    """An audit: its short name, what a person typed for it, its configuration (empty if unknown), its folder
    where it has one.
    """

    name: str
    spec: str
    result: AuditResult
    config: Mapping[str, Any]
    folder: Path | None


def stored_audits(spec: str) -> list[Stored]:
    """The audits that ``spec`` names: one, or those in the folders of a folder, such as a sweep's, in the
    order of their names, models without an eraser first.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    path = Path(spec)
    if path.is_dir() and not (path / AUDIT).exists():
        if found := [_read(file, str(file.parent)) for file in sorted(path.rglob(AUDIT))]:
            return sorted(found, key=lambda stored: bool(stored.result.model.get("eraser")))
        raise UsageError(f"{spec} holds no {AUDIT}: give the folder of a finished run or audit")
    return [stored_audit(spec)]


def stored_audit(spec: str) -> Stored:
    """The one audit that ``spec`` names: a folder or its audit.json, an MLflow run id, or ``runs:/ID``.

    Raises:
        UsageError: there is none, or it cannot be read.
        CommandError: MLflow's store cannot be used.
    """
    path = Path(spec)
    if path.is_dir():
        if not (path / AUDIT).exists():
            raise UsageError(f"{spec} holds no {AUDIT}: give the folder of a finished run or audit")
        return _read(path / AUDIT, spec)
    if path.is_file():
        return _read(path, spec)
    if run := RUN_ID.fullmatch(spec):
        return _tracked(run[1])
    raise UsageError(
        f"no audit {spec}: expected the folder of a run or audit, its {AUDIT}, an MLflow run id or runs:/ID"
    )


def _read(file: Path, spec: str) -> Stored:
    try:
        result = AuditResult.load(file)
    except (ValueError, OSError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    folder = file.resolve().parent
    return Stored(folder.name, spec, result, _config(folder / CONFIG), folder)


def _config(file: Path) -> Mapping[str, Any]:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _tracked(run_id: str) -> Stored:
    with ExitStack() as kept:
        audit = kept.enter_context(downloaded(f"runs:/{run_id}/{AUDIT}"))
        beside = audit.parent
        for name in (DRAWS, CONFIG):
            for found in _optional(f"runs:/{run_id}/{name}", kept):
                found.rename(beside / name)
        stored = _read(audit, run_id)
    return Stored(run_id[:8], run_id, stored.result, stored.config, None)


def _optional(uri: str, kept: ExitStack) -> Iterator[Path]:
    try:
        yield kept.enter_context(downloaded(uri))
    except UsageError:
        return


def named_groups(specs: Sequence[str]) -> dict[str, list[Stored]]:
    """Audits by the name before ``=`` (``plain=runs/a``); those without one under ``""``.

    Raises:
        UsageError: as in ``stored_audits``.
    """
    groups: dict[str, list[Stored]] = {}
    for spec in specs:
        name, separator, rest = spec.partition("=")
        if not separator or Path(spec).exists():
            name, rest = "", spec
        groups.setdefault(name, []).extend(stored_audits(rest))
    return groups
