"""Runs sorted into configurations: those that differ in their seed alone belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clip_lite.errors import UsageError
from clip_lite.runs import FREE
from clip_lite.tracking import flatten
from evaluation.comparing.stored import Stored, named_groups
from evaluation.results import AuditResult

# what makes no other configuration of a run or an audit
APART = (
    *(*FREE, "seed", "trained", "device", "config"),
    *(
        "metrics",
        "interval",
        "resamples",
        "permutations",
        "examples",
        "format",
        "track",
        "fail_if",
        "baseline",
    ),
)
METHOD, STRENGTH, DEBIAS = "mitigation.method", "mitigation.strength", "debias"
UNEDITED = "unedited"


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What is compared.

    Attributes:
        name: as a reader sees it: the name a person gave, else what sets it apart from the others.
        runs: one for each seed.
    """

    name: str
    runs: tuple[Stored, ...]

    @property
    def results(self) -> list[AuditResult]:
        """The audits, one for each seed."""
        return [run.result for run in self.runs]

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration of its runs with dotted keys; empty if unknown."""
        return _settings(self.runs[0])

    @property
    def method(self) -> str:
        """The method of its eraser, ``unedited`` without one."""
        eraser = self.results[0].model.get("eraser") or {}
        return str(eraser.get("method") or UNEDITED) if eraser.get("rank", 1) else UNEDITED

    @property
    def strength(self) -> float:
        """How much of the eraser's edit is made."""
        return 0.0 if self.method == UNEDITED else float(self.settings.get(STRENGTH, 1.0))


def configurations(specs: Sequence[str]) -> list[Configuration]:
    """The configurations of the named runs, in the order of their first run.

    Args:
        specs: as of ``stored_audits``, each perhaps with a name before ``=`` that says where it belongs.

    Raises:
        UsageError: a run is not there, is given twice, or two of one configuration hold the same model.
    """
    named = named_groups(specs)
    unnamed = named.pop("", [])
    sorted_: dict[tuple[Any, ...], list[Stored]] = {}
    for run in unnamed:
        settings = _settings(run)
        key = tuple(sorted((k, str(v)) for k, v in settings.items())) if settings else (run.spec,)
        sorted_.setdefault(key, []).append(run)
    groups = list(sorted_.values())
    found = [
        *(Configuration(name=name, runs=tuple(runs)) for name, runs in named.items()),
        *(
            Configuration(name=name, runs=tuple(runs))
            for name, runs in zip(_names(groups), groups, strict=True)
        ),
    ]
    for configuration in found:
        _check_distinct(configuration)
    return found


def _settings(run: Stored) -> dict[str, Any]:
    return {key: value for key, value in flatten(run.config) if not key.startswith(APART)}


def _names(groups: Sequence[Sequence[Stored]]) -> list[str]:
    """What sets each group apart from the others; the name of its first run where nothing does."""
    settings = [_settings(runs[0]) for runs in groups]
    keys = dict.fromkeys(key for each in settings for key in each)
    apart = [key for key in keys if len({str(each.get(key)) for each in settings}) > 1]
    names = [
        UNEDITED
        if (each.get(METHOD), each.get(STRENGTH)) == ("none", 0)
        else ", ".join(_said(key, each[key]) for key in apart if key in each)
        for each in settings
    ]
    distinct = all(names) and len(set(names)) == len(names)
    return names if distinct else short_names([runs[0] for runs in groups])


def short_names(runs: Sequence[Stored]) -> list[str]:
    """Their short names; what a person typed where those are not distinct."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [run.spec for run in runs]


def _said(key: str, value: Any) -> str:
    if key == METHOD:
        return str(value)
    return f"{key.rpartition('.')[2].replace('_', ' ')} {'none' if value is None else value}"


def _check_distinct(configuration: Configuration) -> None:
    seen: dict[tuple[Any, ...], str] = {}
    for run in configuration.runs:
        model = (run.result.model.get("digest"), run.result.data.get("digest"))
        if None not in model and (before := seen.get(model)):
            raise UsageError(
                f"{before} and {run.spec} of configuration {configuration.name!r} audit the same model on "
                "the same data: give one of them, or runs of other seeds"
            )
        seen[model] = run.spec
