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
from torch import nn

from debias import Eraser, EraserFileError
from debias import eraser as module


@pytest.fixture
def eraser() -> Eraser:
    """An oblique edit of rank 2 in 6 dimensions."""
    rng = np.random.default_rng(0)
    mean, left, right = (torch.from_numpy(rng.standard_normal(shape)) for shape in [(6,), (6, 2), (6, 2)])
    return Eraser(mean, left, right, method="planted", changes_images=True, details={"labelled": (3, 4)})


@pytest.fixture
def x() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).standard_normal((3, 5, 6)))


def test_forward_is_the_affine_edit(eraser: Eraser, x: torch.Tensor) -> None:
    """x ↦ x − ((x − mean) right) leftᵀ, as a dense matrix."""
    matrix = torch.eye(6, dtype=torch.float64) - eraser.left @ eraser.right.T
    expected = (x - eraser.mean) @ matrix.T + eraser.mean
    torch.testing.assert_close(eraser(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(eraser(x[0, 0]), expected[0, 0], rtol=1e-12, atol=1e-12)
    assert (eraser.dim, eraser.rank) == (6, 2)


@pytest.mark.parametrize(
    ("given", "returned"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
)
def test_dtypes_are_computed_in_float64(
    eraser: Eraser, x: torch.Tensor, given: torch.dtype, returned: torch.dtype
) -> None:
    edited = eraser(x.to(given))
    assert edited.dtype == returned
    assert torch.equal(edited, eraser(x.to(given).double()).to(returned))


def test_autocast_does_not_reach_it(eraser: Eraser, x: torch.Tensor) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = eraser(x.float())
        assert (x[0].float() @ x[0].float().T).dtype == torch.bfloat16
    assert torch.equal(inside, eraser(x.float()))


@pytest.mark.parametrize(
    "cast",
    [
        lambda model: model.to(torch.bfloat16),
        lambda model: model.half(),
        lambda model: model.float(),
        lambda model: model.to("cpu", torch.float16),
        lambda model: model.type(torch.bfloat16),
    ],
)
def test_a_cast_of_the_parent_leaves_the_buffers_alone(eraser: Eraser, x: torch.Tensor, cast: Any) -> None:
    before = eraser(x)
    parent = cast(nn.ModuleDict({"head": nn.Linear(6, 6), "eraser": eraser}))
    assert parent["head"].weight.dtype != torch.float64
    assert {buffer.dtype for buffer in parent["eraser"].buffers()} == {torch.float64}
    assert torch.equal(parent["eraser"](x), before)


def test_it_follows_the_parent_to_another_device(eraser: Eraser) -> None:
    moved = nn.ModuleList([eraser]).to("meta", torch.float16)[0]
    assert {(buffer.device.type, buffer.dtype) for buffer in moved.buffers()} == {("meta", torch.float64)}
    back = moved.to_empty(device="cpu")
    assert {(buffer.device.type, buffer.dtype) for buffer in back.buffers()} == {("cpu", torch.float64)}


def test_it_stays_on_the_cpu_for_devices_without_float64(
    eraser: Eraser, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = eraser(x)
    monkeypatch.setattr(module, "_NO_FLOAT64", frozenset({"meta"}))
    assert torch.equal(eraser.to("meta")(x), before)


def test_it_is_frozen_but_passes_gradients(eraser: Eraser, x: torch.Tensor) -> None:
    assert not list(eraser.parameters())
    leaf = x[0].clone().requires_grad_()
    eraser(leaf).sum().backward()
    expected = (torch.eye(6, dtype=torch.float64) - eraser.right @ eraser.left.T).sum(1).expand(5, 6)
    torch.testing.assert_close(leaf.grad, expected, rtol=1e-12, atol=1e-12)


def test_it_owns_its_numbers() -> None:
    shared = torch.eye(3, dtype=torch.float64)[:, :1]
    eraser = Eraser(torch.zeros(3), shared, shared, method="planted", changes_images=False)
    shared.zero_()
    assert eraser.left[0, 0] == 1
    assert eraser.left.data_ptr() != eraser.right.data_ptr()


def test_save_and_load_round_trip(eraser: Eraser, x: torch.Tensor, tmp_path: Path) -> None:
    eraser.save(tmp_path / "new" / "folder")
    loaded = Eraser.load(str(tmp_path / "new" / "folder"))
    assert torch.equal(loaded(x), eraser(x))
    assert loaded.spec() == eraser.spec()
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "eraser.json",
        "eraser.safetensors",
    ]


def test_spec_restores_through_the_parents_state(eraser: Eraser, x: torch.Tensor) -> None:
    spec = json.loads(json.dumps(eraser.spec()))
    assert spec == {
        "method": "planted",
        "dim": 6,
        "rank": 2,
        "changes_images": True,
        "details": {"labelled": [3, 4]},
    }
    parent, copy = nn.ModuleDict({"e": eraser}), nn.ModuleDict({"e": Eraser.from_spec(spec)})
    assert torch.equal(copy["e"](x), x)
    copy.load_state_dict(parent.state_dict())
    assert torch.equal(copy["e"](x), eraser(x))
    assert copy["e"].spec() == eraser.spec()


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
            "schema_version is None, this release reads 1",
        ),
        (lambda folder: _edit_spec(folder, schema_version=2), "schema_version is 2, this release reads 1"),
        (lambda folder: _edit_spec(folder, dim=7), "holds .* expected"),
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


def test_an_incomplete_spec_is_refused(eraser: Eraser) -> None:
    spec = eraser.spec()
    del spec["rank"]
    with pytest.raises(EraserFileError, match="eraser spec: rank is None, expected int"):
        Eraser.from_spec(spec)


def test_misfits_are_refused(eraser: Eraser) -> None:
    zeros, sides = torch.zeros(3), torch.zeros(3, 1)
    with pytest.raises(ValueError, match=r"x has shape \(2, 5\), expected \(\.\.\., 6\)"):
        eraser(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="mean, left, right have shapes"):
        Eraser(zeros, sides, torch.zeros(3, 2), method="planted", changes_images=True)
    with pytest.raises(ValueError, match="left holds numbers that are not finite"):
        Eraser(zeros, sides / 0, sides, method="planted", changes_images=True)
    with pytest.raises(TypeError, match="not JSON serializable"):
        Eraser(zeros, sides, sides, method="planted", changes_images=True, details={"x": zeros})


def test_the_file_is_a_leaf() -> None:
    """A saved model needs eraser.py to load: it may import torch, safetensors and the standard library."""
    imported = set()
    for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "debias").split(".")[0])
    assert imported - sys.stdlib_module_names == {"torch", "safetensors"}
