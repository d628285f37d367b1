from __future__ import annotations

import ast
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from debias import Eraser, EraserFileError
from debias import eraser as module
from tests.debias.conftest import any_eraser

KEPT_FILES = ("eraser", "eraser_files", "groupwise")


@pytest.fixture
def eraser() -> Eraser:
    return any_eraser(0)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).standard_normal((3, 5, 6)))


def test_save_and_load_round_trip(eraser: Eraser, x: torch.Tensor, tmp_path: Path) -> None:
    eraser.save(tmp_path / "new" / "folder")
    loaded = Eraser.load(str(tmp_path / "new" / "folder"))
    assert torch.equal(loaded(x), eraser(x))
    assert loaded.spec() == eraser.spec()
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "eraser.json",
        "eraser.safetensors",
    ]


def test_rank_zero_changes_nothing_and_travels(x: torch.Tensor, tmp_path: Path) -> None:
    empty = Eraser(torch.ones(6), torch.zeros(6, 0), torch.zeros(6, 0), method="none", changes_images=False)
    empty.save(tmp_path)
    assert torch.equal(Eraser.load(tmp_path)(x), x)


def _edit_spec(folder: Path, **changes: Any) -> None:
    path = folder / "eraser.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _flip_a_byte(folder: Path) -> None:
    path = folder / "eraser.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _swap_tensors(folder: Path) -> None:
    """Another file with the digest to match: only the shapes give it away."""
    path = folder / "eraser.safetensors"
    save_file({name: tensor[:5].contiguous() for name, tensor in load_file(path).items()}, path)
    _edit_spec(folder, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def _no_safetensors(folder: Path) -> None:
    (folder / "eraser.safetensors").write_bytes(b"pickle")
    _edit_spec(folder, sha256=hashlib.sha256(b"pickle").hexdigest())


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (_flip_a_byte, "does not have the sha256"),
        (_swap_tensors, "holds .* expected"),
        (_no_safetensors, "is not a safetensors file"),
        (lambda folder: (folder / "eraser.safetensors").unlink(), "is not a saved eraser"),
        (lambda folder: (folder / "eraser.json").unlink(), "is not a saved eraser"),
        (lambda folder: (folder / "eraser.json").write_text("{"), "is not a saved eraser"),
        (
            lambda folder: (folder / "eraser.json").write_text("[]"),
            "schema_version is None, this release reads 2",
        ),
        (lambda folder: _edit_spec(folder, schema_version=1), "schema_version is 1, this release reads 2"),
        (lambda folder: _edit_spec(folder, dim=7), "holds .* expected"),
        (lambda folder: _edit_spec(folder, kind="bent"), "kind is 'bent', expected affine or groupwise"),
        (lambda folder: _edit_spec(folder, kind="groupwise"), "groups is None, expected int"),
        (lambda folder: _edit_spec(folder, rank=9), "rank is 9, expected 0 to dim, which is 6"),
        (
            lambda folder: _edit_spec(folder, dim="6", details=None),
            "dim is '6', expected int; details is None, ",
        ),
    ],
)
def test_damaged_files_are_refused_in_one_line(
    eraser: Eraser, tmp_path: Path, damage: Any, expected: str
) -> None:
    eraser.save(tmp_path)
    assert Eraser.load(tmp_path).rank == 2
    damage(tmp_path)
    with pytest.raises(EraserFileError, match=expected) as caught:
        Eraser.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_files_are_leaves() -> None:
    """A saved model needs them to load: torch, numpy, safetensors, the standard library and one another."""
    imported = set()
    for name in KEPT_FILES:
        source = Path(module.__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module or "debias")
    own = {name for name in imported if name.split(".")[0] == "debias"}
    assert own <= {f"debias.{name}" for name in KEPT_FILES}
    assert {name.split(".")[0] for name in imported - own} - sys.stdlib_module_names == {
        "torch",
        "numpy",
        "safetensors",
    }
