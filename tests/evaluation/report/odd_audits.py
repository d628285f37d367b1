"""Audits as no run writes them: empty, and with a hostile string wherever there is one."""

from __future__ import annotations

from typing import Any

from evaluation.results import AuditResult, Estimate

MAPPINGS = ("attribute", "data", "model", "training", "provenance")


def empty(*, rows: tuple[Estimate, ...] = (), **mappings: Any) -> AuditResult:
    blank: dict[str, Any] = {item: {} for item in MAPPINGS}
    return AuditResult(rows=rows, **(blank | mappings))


def poisoned(value: Any, hostile: str) -> Any:
    """The same structure with ``hostile`` for every string and as one more key of every mapping."""
    if isinstance(value, dict):
        safe = {key: poisoned(item, hostile) for key, item in value.items()}
        return safe | {hostile: next(iter(safe.values()))}
    if isinstance(value, list | tuple):
        return [poisoned(item, hostile) for item in value]
    return hostile if isinstance(value, str) else value
