"""The arrows between the rooms (CONTRIBUTING.md), read off the imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("clip_lite", "debias", "evaluation")
ALLOWED_OUTSIDE = {
    "clip_lite": {
        "clip_lite/editable.py": {"debias.eraser"},
        "clip_lite/model.py": {"debias.eraser", "debias.neutral"},
        "clip_lite/pretrained/saved.py": {"debias.eraser"},
    },
    "debias": {},
    "evaluation": {},
}
ALLOWED_PREFIXES = {
    "clip_lite": ("clip_lite",),
    "debias": ("debias",),
    "evaluation": (
        "evaluation",
        "debias",
        "clip_lite.data",
        "clip_lite.describe",
        "clip_lite.distributed",
        "clip_lite.editable",
        "clip_lite.encoder",
        "clip_lite.errors",
        "clip_lite.model",
        "clip_lite.precision",
        "clip_lite.progress",
    ),
}
# commands and what they are made of: these alone see every room
COMPOSITION_ROOTS = {
    "clip_lite/keeper.py",
    "clip_lite/publish.py",
    "clip_lite/registry_text.py",
    "clip_lite/train.py",
    "clip_lite/train_request.py",
    "clip_lite/mitigate.py",
    "clip_lite/sweep.py",
    "clip_lite/sweep_grid.py",
    "clip_lite/upload.py",
    "debias/fit.py",
    "debias/fit_request.py",
    "debias/fit_rows.py",
    "evaluation/audit.py",
    "evaluation/audit_request.py",
    "evaluation/compare.py",
    "evaluation/comparing/configurations.py",
    "evaluation/gate.py",
    "evaluation/comparing/stored.py",
}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name for name in found if name.split(".")[0] in PACKAGES}


@pytest.mark.parametrize("package", PACKAGES)
def test_data_flows_one_way(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert len(files) > 5
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        if name in COMPOSITION_ROOTS:
            continue
        allowed = ALLOWED_OUTSIDE[package].get(name, set())
        wrong = {
            module
            for module in imports(path) - allowed
            if not module.startswith(tuple(f"{p}." for p in ALLOWED_PREFIXES[package]))
            and module not in ALLOWED_PREFIXES[package]
        }
        assert not wrong, f"{name} imports {wrong}"


def test_the_check_sees_a_forbidden_arrow(tmp_path: Path) -> None:
    offender = tmp_path / "x.py"
    offender.write_text("from evaluation.results import Estimate\nimport debias\nimport numpy\n")
    assert imports(offender) == {"evaluation.results", "debias"}
