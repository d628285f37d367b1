"""The files that an audit leaves in its folder."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from evaluation.report.html import write_report
from evaluation.report.model_card import write_model_card
from evaluation.results import DRAWS, AuditResult

AUDIT, REPORT, CARD = "audit.json", "report.html", "README.md"
FORMATS = ("html", "card", "json")
MADE_FROM_IT = {"html": (REPORT, write_report), "card": (CARD, write_model_card)}


def write_audit(result: AuditResult, folder: Path, formats: Collection[str] = FORMATS) -> list[Path]:
    """Write ``audit.json`` with its draws, and what of ``formats`` is made from it; returns what was written.

    "json" asks for nothing besides: it is written whatever is asked, and before anything else.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    result.save(folder / AUDIT)
    written = [folder / AUDIT, folder / DRAWS]
    for kind, (name, write) in MADE_FROM_IT.items():
        if kind in formats:
            write(result, folder / name)
            written.append(folder / name)
    return written
